//! The JSON API over a [`KeyManager`], for a service to mount under its own sign-in.
//!
//! | call | answer |
//! | --- | --- |
//! | `GET /api-keys?limit=&after=` | 200 `{"data":[key…],"active":n,"limit":25}`, and `Link: …; rel="next"` while there is more. What is asked for is a page of 1 to 100 keys, 100 unless said; what is answered is the account's cap |
//! | `POST /api-keys` `{"name","environment"?,"expires_at"?,"scopes"?}` | 201 key and `"api_key"`, the only time it is shown |
//! | `GET /api-keys/{id}` · `PATCH {"name"}` | 200 key |
//! | `POST /api-keys/{id}/regenerate` | 200 key and `"api_key"`: the old secret is dead |
//! | `POST /api-keys/{id}/rotate` `{"grace_seconds"}` | 201 new key and `"api_key"`; the old one works until the grace is over |
//! | `DELETE /api-keys/{id}` | 204; 404 the second time |
//!
//! where key is `{"id","name","environment","hint","scopes","sources","created_at","expires_at",
//! "last_used_at","status"}`, with times as RFC 3339 writes them. Errors are `{"type","message","param"?}`.
//!
//! Who may do this is the service's to say: by an extractor of its own, which rejects whoever is not
//! signed in, and out of which a [`Principal`] can be made.
//!
//! ```
//! use axum::{Router, extract::FromRequestParts};
//! use http::{StatusCode, request::Parts};
//! use tower_api_key::manage::{api, Principal};
//! use tower_api_key::{KeyManager, MemoryStore};
//!
//! /// Whoever the service's own session is of.
//! struct SignedIn(Principal);
//!
//! impl<S: Sync> FromRequestParts<S> for SignedIn {
//!     type Rejection = StatusCode;
//!
//!     async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
//!         // The session's middleware has left the principal here.
//!         let principal = parts.extensions.get::<Principal>().cloned();
//!         principal.map(Self).ok_or(StatusCode::UNAUTHORIZED)
//!     }
//! }
//!
//! impl From<SignedIn> for Principal {
//!     fn from(signed_in: SignedIn) -> Self {
//!         signed_in.0
//!     }
//! }
//!
//! # fn main() -> Result<(), tower_api_key::InvalidText> {
//! let manager = KeyManager::new(MemoryStore::new(), "acme".parse()?);
//! let service: Router = Router::new().nest("/console/api", api::router::<SignedIn>(manager));
//! # Ok(()) }
//! ```
//!
//! # What holds
//!
//! * The account comes from the principal, never from the request; another account's key is 404.
//! * An API key never opens it: a request that an [`ApiKeyLayer`](crate::ApiKeyLayer) has let in is
//!   refused with 403, whatever the extractor says. Mount it beside the layer.
//! * No other site can use a signed-in browser: state-changing calls with a foreign `Origin` or
//!   `Sec-Fetch-Site` are 403, and a body of another type than `application/json` is 415.
//! * A key gets the scopes that its maker may [give](Principal::with_grantable_scopes) and no others, thus
//!   none unless the service says which. Rotating and regenerating keep what the key has.
//! * A field, parameter or body that is not as above is 400 with `param`; nothing is passed over.
//! * `POST /api-keys` with an `Idempotency-Key` (1 to 255 visible characters) that the account has sent
//!   before answers 200 with the key as it is and without its secret, which was shown once. With
//!   another environment, scopes or expiry it is 409; the name is not looked at, since it may have been
//!   changed. Where the first key was deleted since, a new one is made, with the same id.
//! * An account that has as many active keys as it may have is told so with 409, and so is one that lists
//!   [too many](crate::EXPIRED_KEY_LIMIT) expired keys, when it asks for one that expires or for a grace.
//! * A client that goes away in the middle of a creation leaves no key, or one that is listed: it can
//!   be deleted there, or its creation repeated.
//! * A 201 says in `Location`, relative to the call, where the new key is.
//! * Every answer is `Cache-Control: no-store`.
//! * A call that is refused is one event in the log (target `tower_api_key`), with the account and the actor
//!   as soon as they are known: at `WARN` when it is a 403, as for another site, else at `INFO`.

mod body;
mod failure;
mod noted;
#[cfg(feature = "openapi")]
#[cfg_attr(docsrs, doc(cfg(feature = "openapi")))]
pub mod openapi;
mod paging;
mod view;

use std::marker::PhantomData;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, FromRequest, Path, Query, Request, State};
use axum::middleware::{from_fn, map_response};
use axum::routing::{get, post};
use axum::{Json, Router};
use axum_core::extract::FromRequestParts;
use axum_core::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use jiff::Timestamp;
use serde_json::Value;
use tower_http::csrf::{CsrfLayer, ProtectionError};

use self::body::{Fields, text};
use self::failure::Failure;
use self::noted::{Asker, noted};
use self::paging::Page;
use self::view::{IssuedView, KeyView, ListView};
use super::{IssuedKey, KeyManager, ManageError, NewKey, Principal};
use crate::identity::Identity;
use crate::record::{Environment, IdempotencyKey, KeyId, KeyName, Scopes};

/// The longest body that is read, in bytes: 64 scopes of the longest kind fit four times over.
const LONGEST_BODY: usize = 16 * 1_024;

/// The longest grace that can be meant: a hundred years.
const LONGEST_GRACE: Duration = Duration::from_hours(100 * 8_766);

type Answer = Result<Response, Failure>;

/// The calls above, for principals that come out of `P`. `P`'s own rejection is the answer to whoever
/// is not signed in.
pub fn router<P>(manager: KeyManager) -> Router
where
    P: FromRequestParts<()> + Send + 'static,
    Principal: From<P>,
{
    Router::new()
        .route("/api-keys", get(list::<P>).post(create::<P>))
        .route("/api-keys/{id}", get(show::<P>).patch(rename::<P>).delete(delete::<P>))
        .route("/api-keys/{id}/regenerate", post(regenerate::<P>))
        .route("/api-keys/{id}/rotate", post(rotate::<P>))
        .fallback(async |_: Caller<P>| Failure::not_found("There is nothing at this path."))
        .method_not_allowed_fallback(async |_: Caller<P>| {
            let message = "This path does not know that method.";
            Failure::with_status(StatusCode::METHOD_NOT_ALLOWED, message)
        })
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .layer(CsrfLayer::new().with_rejection_response(from_another_site))
        .layer(from_fn(noted))
        .layer(map_response(unstored))
        .with_state(manager)
}

async fn list<P>(
    caller: Caller<P>,
    State(manager): State<KeyManager>,
    uri: Uri,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Answer {
    let Query(query) = query.map_err(|_| Failure::request("The query cannot be read."))?;
    let page = Page::parse(query)?;
    let all = manager.list(caller.principal.account()).await?;
    let (shown, next) = page.of(&all);
    let list = ListView::of(shown, &all, manager.limit(), manager.now());
    let mut response = Json(list).into_response();
    if let Some(next) = next {
        // The path as the client wrote it cannot be known here; what is relative to it can.
        let own = uri.path().rsplit('/').next().unwrap_or_default();
        if let Ok(link) = HeaderValue::try_from(format!(r#"<{own}?{next}>; rel="next""#)) {
            response.headers_mut().insert(header::LINK, link);
        }
    }
    Ok(response)
}

async fn create<P>(
    caller: Caller<P>,
    State(manager): State<KeyManager>,
    headers: HeaderMap,
    body: JsonBody,
) -> Answer {
    let mut new = new_key(body.fields()?, &caller.principal)?;
    if let Some(key) = idempotency_key(&headers)? {
        new = new.with_idempotency_key(key);
    }
    match caller.principal.acting(&manager).create(caller.principal.account(), new).await {
        Ok(issued) => Ok(made("api-keys/", issued, &manager)),
        Err(ManageError::AlreadyMade(record)) => {
            Ok(Json(KeyView::of(&record, manager.now())).into_response())
        }
        Err(error) => Err(error.into()),
    }
}

async fn show<P>(caller: Caller<P>, State(manager): State<KeyManager>, id: Id) -> Answer {
    let record = manager.get(caller.principal.account(), &id.0).await?;
    Ok(Json(KeyView::of(&record, manager.now())).into_response())
}

async fn rename<P>(
    caller: Caller<P>,
    State(manager): State<KeyManager>,
    id: Id,
    body: JsonBody,
) -> Answer {
    let mut fields = body.fields()?;
    let name = take_name(&mut fields)?;
    fields.end()?;
    let record =
        caller.principal.acting(&manager).rename(caller.principal.account(), &id.0, name).await?;
    Ok(Json(KeyView::of(&record, manager.now())).into_response())
}

async fn regenerate<P>(
    caller: Caller<P>,
    State(manager): State<KeyManager>,
    id: Id,
    body: JsonBody,
) -> Answer {
    body.fields()?.end()?;
    caller.may_renew(&manager, &id.0).await?;
    let issued =
        caller.principal.acting(&manager).regenerate(caller.principal.account(), &id.0).await?;
    Ok(shown_once(issued, &manager).into_response())
}

async fn rotate<P>(
    caller: Caller<P>,
    State(manager): State<KeyManager>,
    id: Id,
    body: JsonBody,
) -> Answer {
    let mut fields = body.fields()?;
    let wanted = "A whole number of seconds, from 0 to 3155760000.";
    let grace = fields.require("grace_seconds", wanted, |value| parse_grace(&value))?;
    fields.end()?;
    caller.may_renew(&manager, &id.0).await?;
    let manager = caller.principal.acting(&manager);
    let rotated = manager.rotate(caller.principal.account(), &id.0, grace).await;
    let issued = rotated.map_err(|error| match error {
        // Not the expiry of a key that is asked for, of which the message would speak otherwise.
        ManageError::InvalidExpiry => {
            Failure::param("grace_seconds", "The grace must end before the year 10000.")
        }
        error => error.into(),
    })?;
    Ok(made("../", issued, &manager))
}

async fn delete<P>(
    caller: Caller<P>,
    State(manager): State<KeyManager>,
    id: Id,
    body: JsonBody,
) -> Answer {
    body.fields()?.end()?;
    caller.principal.acting(&manager).delete(caller.principal.account(), &id.0).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// A new key, with the place where it is from now on: `keys` leads from the call's own path, of which only the
/// end is known here, to where keys are.
fn made(keys: &'static str, issued: IssuedKey, manager: &KeyManager) -> Response {
    let place = format!("{keys}{}", issued.record().id);
    let location = [(header::LOCATION, place)];
    (StatusCode::CREATED, location, shown_once(issued, manager)).into_response()
}

fn shown_once(issued: IssuedKey, manager: &KeyManager) -> Json<IssuedView> {
    let (record, key) = issued.into_parts();
    Json(IssuedView::of(&record, key.reveal(), manager.now()))
}

fn new_key(mut fields: Fields, principal: &Principal) -> Result<NewKey, Failure> {
    let mut new = NewKey::new(take_name(&mut fields)?);
    let wanted = "1 to 16 lower-case letters and digits.";
    let environment =
        fields.take("environment", wanted, |value| text(value)?.parse::<Environment>().ok())?;
    if let Some(environment) = environment {
        new = new.with_environment(environment);
    }
    let wanted = "A time in the future, with its date and offset, such as 2031-01-31T09:30:00Z.";
    if let Some(end) = fields.take("expires_at", wanted, |value| parse_time(&text(value)?))? {
        new = new.with_expires_at(end.into());
    }
    let wanted = "An array of at most 64 scopes, each of 1 to 64 visible ASCII characters but '\"' and '\\'.";
    if let Some(scopes) = fields.take("scopes", wanted, parse_scopes)? {
        if !scopes.iter().all(|scope| principal.may_grant(scope)) {
            return Err(Failure::scopes(principal.grantable_scopes()));
        }
        new = new.with_scopes(scopes);
    }
    fields.end()?;
    Ok(new)
}

fn take_name(fields: &mut Fields) -> Result<KeyName, Failure> {
    let wanted = "1 to 100 characters, something visible among them, and no control characters.";
    fields.require("name", wanted, |value| text(value)?.parse().ok())
}

/// RFC 3339 § 5.6, of which `jiff` takes more than that.
fn parse_time(text: &str) -> Option<Timestamp> {
    let shape = b"0000-00-00T00:00:00";
    let begins = text.as_bytes().get(..shape.len())?;
    let fits = |(byte, shape): (&u8, &u8)| match shape {
        b'0' => byte.is_ascii_digit(),
        _ => byte.eq_ignore_ascii_case(shape),
    };
    text.parse().ok().filter(|_| begins.iter().zip(shape).all(fits))
}

/// A whole number, which JSON may write `60.0`, too.
fn parse_grace(value: &Value) -> Option<Duration> {
    let seconds = value.as_f64().filter(|seconds| seconds.fract() == 0.0)?;
    Duration::try_from_secs_f64(seconds).ok().filter(|grace| *grace <= LONGEST_GRACE)
}

fn parse_scopes(value: Value) -> Option<Scopes> {
    let Value::Array(scopes) = value else { return None };
    let scopes = scopes.into_iter().map(|scope| text(scope)?.parse().ok());
    Scopes::new(scopes.collect::<Option<Vec<_>>>()?).ok()
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Failure> {
    let mut lines = headers.get_all("idempotency-key").iter();
    let Some(line) = lines.next() else { return Ok(None) };
    let key = line.to_str().ok().and_then(|text| text.parse().ok());
    let wanted = "One header, of 1 to 255 visible characters.";
    key.filter(|_| lines.next().is_none())
        .map(Some)
        .ok_or_else(|| Failure::param("Idempotency-Key", wanted))
}

/// Whoever is signed in, as the extractor `P` says.
struct Caller<P> {
    principal: Principal,
    extractor: PhantomData<fn() -> P>,
}

impl<P> Caller<P> {
    /// Whether they may be shown a new secret of a key. The scopes of an id do not change,
    /// unless its key is deleted and made again with others (by its `Idempotency-Key`) meanwhile.
    async fn may_renew(&self, manager: &KeyManager, id: &KeyId) -> Result<(), Failure> {
        let record = manager.get(self.principal.account(), id).await?;
        let may = self.principal.may_renew(&record.scopes);
        may.then_some(()).ok_or_else(Failure::stronger_key)
    }
}

impl<S, P> FromRequestParts<S> for Caller<P>
where
    S: Sync,
    P: FromRequestParts<()>,
    Principal: From<P>,
{
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        if parts.extensions.get::<Identity>().is_some() {
            tracing::error!(
                target: "tower_api_key",
                "the management API is mounted behind an ApiKeyLayer, and refuses everybody: mount it beside the layer"
            );
            return Err(Failure::data_key().into_response());
        }
        let signed_in = P::from_request_parts(parts, &()).await;
        let principal = signed_in.map_err(IntoResponse::into_response)?.into();
        if let Some(asker) = parts.extensions.get::<Asker>() {
            asker.is(&principal);
        }
        Ok(Self { principal, extractor: PhantomData })
    }
}

/// The id in the path. What cannot be one is no key's.
struct Id(KeyId);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let path = Path::<String>::from_request_parts(parts, state).await.ok();
        let id = path.and_then(|Path(id)| id.parse().ok());
        id.map(Self).ok_or_else(|| ManageError::NotFound.into())
    }
}

/// A body that is JSON, or none.
struct JsonBody(Bytes);

impl JsonBody {
    fn fields(&self) -> Result<Fields, Failure> {
        Fields::parse(&self.0)
    }
}

impl<S: Send + Sync> FromRequest<S> for JsonBody {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let is_json = is_json(request.headers());
        let body = Bytes::from_request(request, state).await.map_err(|rejection| {
            let message = match rejection {
                BytesRejection::FailedToBufferBody(_)
                    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE =>
                {
                    "The body is too long."
                }
                _ => "The body cannot be read.",
            };
            Failure::with_status(rejection.status(), message)
        })?;
        if body.is_empty() || is_json {
            return Ok(Self(body));
        }
        let message = "The body must be JSON, with Content-Type: application/json.";
        Err(Failure::with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
    }
}

/// Browsers send this type to another site only after they have asked it.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return false };
    let essence = line.as_bytes().split(|&byte| byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

fn from_another_site(_: ProtectionError) -> Response {
    let message = "This call came from another site.";
    Failure::with_status(StatusCode::FORBIDDEN, message).into_response()
}

async fn unstored(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

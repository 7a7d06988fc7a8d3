//! Statuses, headers and bodies: the only place that knows what a refusal looks like.
//!
//! A renderer is given the [`Refusal`] and the request's headers without the key, and nothing of
//! the real reason. Whatever it makes, the layer adds the challenge to a 401, `Retry-After` to a 503,
//! `Cache-Control: no-store` and `Vary`, and puts the [`Rejection`] into the response's extensions.
//!
//! ```
//! use bytes::Bytes;
//! use http::{HeaderMap, Response};
//! use tower_api_key::{ApiKeyLayer, MemoryStore, Refusal};
//!
//! let layer = ApiKeyLayer::new(MemoryStore::new())
//!     .with_renderer(|refusal: Refusal, _: &HeaderMap| {
//!         let mut response = Response::new(Bytes::from_static(refusal.message().as_bytes()));
//!         *response.status_mut() = refusal.status();
//!         response
//!     });
//! ```

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, GetAll};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};

use crate::record::InvalidText;
use crate::rejection::{Refusal, Rejection};

/// What clients are told. A macro, because the bodies are put together when this is compiled.
macro_rules! message {
    (NotHttps) => {
        "API calls must be made over HTTPS. Replace an API key that was sent over plain HTTP."
    };
    (MissingKey) => {
        "No API key was sent. Send it in the API-Key header, over HTTPS."
    };
    (InvalidKey) => {
        "Invalid API key."
    };
    (MissingScope) => {
        "This API key does not allow this call."
    };
    (TooManyRequests) => {
        "Too many requests. Try again later."
    };
    (Unavailable) => {
        "The API key could not be checked. Try again in a moment."
    };
}

/// The default body of a refusal.
macro_rules! json {
    ($kind:literal, $refusal:ident) => {
        concat!(r#"{"type":""#, $kind, r#"","message":""#, message!($refusal), r#""}"#)
    };
}

/// The RFC 9457 body of a refusal.
macro_rules! problem {
    ($title:literal, $status:literal, $refusal:ident) => {
        concat!(
            r#"{"type":"about:blank","title":""#,
            $title,
            r#"","status":"#,
            $status,
            r#","detail":""#,
            message!($refusal),
            r#""}"#
        )
    };
}

/// Makes the response to a refused request.
///
/// Implemented by [`Json`], [`ProblemDetails`] and every function or closure of
/// `Fn(Refusal, &HeaderMap) -> Response<Bytes>`. A redirection is not sent, because clients follow it
/// with the key, nor is a 1xx: [`Json`] answers instead, and an error event says so. A success is sent:
/// gRPC has its own status.
pub trait RenderRefusal: Send + Sync + 'static {
    /// The response to `refusal`; `request` are the request's headers, without the key.
    ///
    /// # Panics
    ///
    /// A panic in here reaches the caller of the service.
    fn render(&self, refusal: Refusal, request: &HeaderMap) -> Response<Bytes>;
}

impl<F> RenderRefusal for F
where
    F: Fn(Refusal, &HeaderMap) -> Response<Bytes> + Send + Sync + 'static,
{
    fn render(&self, refusal: Refusal, request: &HeaderMap) -> Response<Bytes> {
        self(refusal, request)
    }
}

/// `{"type": …, "message": …}`: the default.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "it is a name, and has nothing")]
pub struct Json;

/// `application/problem+json` (RFC 9457), of the type `about:blank`: `title` is the status's own.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "it is a name, and has nothing")]
pub struct ProblemDetails;

impl Refusal {
    /// The status: 401, 403 for a missing scope, 429 for too many requests, 503 when it could not be
    /// found out.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::NotHttps | Self::MissingKey | Self::InvalidKey => StatusCode::UNAUTHORIZED,
            Self::MissingScope => StatusCode::FORBIDDEN,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// What the client is told, in English.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::NotHttps => message!(NotHttps),
            Self::MissingKey => message!(MissingKey),
            Self::InvalidKey => message!(InvalidKey),
            Self::MissingScope => message!(MissingScope),
            Self::TooManyRequests => message!(TooManyRequests),
            Self::Unavailable => message!(Unavailable),
        }
    }
}

impl RenderRefusal for Json {
    fn render(&self, refusal: Refusal, _: &HeaderMap) -> Response<Bytes> {
        let body = match refusal {
            Refusal::NotHttps => json!("authentication_error", NotHttps),
            Refusal::MissingKey => json!("authentication_error", MissingKey),
            Refusal::InvalidKey => json!("authentication_error", InvalidKey),
            Refusal::MissingScope => json!("authentication_error", MissingScope),
            Refusal::TooManyRequests => json!("rate_limit_error", TooManyRequests),
            Refusal::Unavailable => json!("api_error", Unavailable),
        };
        respond(refusal.status(), &JSON, body)
    }
}

impl RenderRefusal for ProblemDetails {
    fn render(&self, refusal: Refusal, _: &HeaderMap) -> Response<Bytes> {
        let body = match refusal {
            Refusal::NotHttps => problem!("Unauthorized", 401, NotHttps),
            Refusal::MissingKey => problem!("Unauthorized", 401, MissingKey),
            Refusal::InvalidKey => problem!("Unauthorized", 401, InvalidKey),
            Refusal::MissingScope => problem!("Forbidden", 403, MissingScope),
            Refusal::TooManyRequests => problem!("Too Many Requests", 429, TooManyRequests),
            Refusal::Unavailable => problem!("Service Unavailable", 503, Unavailable),
        };
        respond(refusal.status(), &PROBLEM_JSON, body)
    }
}

fn respond(status: StatusCode, content_type: &HeaderValue, body: &'static str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(body.as_bytes()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, content_type.clone());
    response
}

// Checked when this is compiled, and cheap to clone.
static JSON: HeaderValue = HeaderValue::from_static("application/json");
static PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
static PRIVATE: HeaderValue = HeaderValue::from_static("private");
static NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
static ONE_SECOND: HeaderValue = HeaderValue::from_static("1");
static KEY_NAME: HeaderValue = HeaderValue::from_static("API-Key");
static AUTHORIZATION_NAME: HeaderValue = HeaderValue::from_static("Authorization");
static BOTH_NAMES: HeaderValue = HeaderValue::from_static("API-Key, Authorization");

/// How a service answers for itself: its renderer and its challenges.
#[derive(Clone)]
pub(crate) struct Answers {
    pub(crate) renderer: Arc<dyn RenderRefusal>,
    pub(crate) bearer: bool,
    challenge: HeaderValue,
    bearer_challenge: HeaderValue,
}

impl Default for Answers {
    fn default() -> Self {
        Self {
            renderer: Arc::new(Json),
            bearer: false,
            challenge: HeaderValue::from_static(r#"ApiKey realm="api", header="API-Key""#),
            bearer_challenge: HeaderValue::from_static(r#"Bearer realm="api""#),
        }
    }
}

impl Answers {
    /// Names the protection space in the challenges (RFC 9110 § 11.5).
    pub(crate) fn set_realm(&mut self, realm: &str) -> Result<(), InvalidText> {
        if realm.is_empty() {
            return Err(InvalidText::empty("realm"));
        }
        if realm.len() > 128 {
            return Err(InvalidText::too_long("realm", 128));
        }
        let plain =
            |byte: u8| byte == b' ' || (byte.is_ascii_graphic() && !b"\"\\".contains(&byte));
        let rule = "only visible ASCII and spaces, but '\"' and '\\'";
        let not_plain = || InvalidText::characters("realm", rule);
        if !realm.bytes().all(plain) {
            return Err(not_plain());
        }
        let value = |text: String| HeaderValue::try_from(text).map_err(|_| not_plain());
        self.challenge = value(format!(r#"ApiKey realm="{realm}", header="API-Key""#))?;
        self.bearer_challenge = value(format!(r#"Bearer realm="{realm}""#))?;
        Ok(())
    }

    /// The response to a refused request.
    pub(super) fn refuse_request<B>(
        &self,
        rejection: Rejection,
        request: &Request<B>,
    ) -> Response<Bytes> {
        let response = self.refuse(rejection, request.headers());
        if request.method() == Method::HEAD { without_body(response) } else { response }
    }

    /// The same, whatever the method was.
    pub(crate) fn refuse(&self, rejection: Rejection, request: &HeaderMap) -> Response<Bytes> {
        let refusal = rejection.kind().refusal();
        let mut response = self.renderer.render(refusal, request);
        if response.status().is_redirection() || response.status().is_informational() {
            tracing::error!(target: "tower_api_key", "the renderer made a redirection or a 1xx: not sent");
            response = Json.render(refusal, request);
        }
        let status = response.status();
        let headers = response.headers_mut();
        if status == StatusCode::UNAUTHORIZED && !headers.contains_key(header::WWW_AUTHENTICATE) {
            headers.insert(header::WWW_AUTHENTICATE, self.challenge.clone());
            if self.bearer {
                headers.append(header::WWW_AUTHENTICATE, self.bearer_challenge.clone());
            }
        }
        if status == StatusCode::SERVICE_UNAVAILABLE && !headers.contains_key(header::RETRY_AFTER) {
            headers.insert(header::RETRY_AFTER, ONE_SECOND.clone());
        }
        headers.insert(header::CACHE_CONTROL, NO_STORE.clone());
        vary_by_key(headers, self.bearer);
        response.extensions_mut().insert(rejection);
        response
    }

    /// Keeps a protected answer out of shared caches, which know `Authorization` but not `API-Key`,
    /// unless the service has decided about that itself.
    pub(crate) fn keep_private(headers: &mut HeaderMap, bearer: bool) {
        if !headers.contains_key(header::CACHE_CONTROL) {
            headers.insert(header::CACHE_CONTROL, PRIVATE.clone());
        }
        vary_by_key(headers, bearer);
    }
}

/// An answer to `HEAD` says how long its body would be, and has none (RFC 9110 § 9.3.2). Nobody outside
/// of this service takes it away, and over HTTP/2 it would break the stream.
fn without_body(response: Response<Bytes>) -> Response<Bytes> {
    let (mut head, body) = response.into_parts();
    head.headers.insert(header::CONTENT_LENGTH, body.len().into());
    Response::from_parts(head, Bytes::new())
}

/// Adds the headers that a key may come in to `Vary`, unless they are there.
fn vary_by_key(headers: &mut HeaderMap, bearer: bool) {
    if !headers.contains_key(header::VARY) {
        let names = if bearer { &BOTH_NAMES } else { &KEY_NAME };
        headers.insert(header::VARY, names.clone());
        return;
    }
    if !is_named(&headers.get_all(header::VARY), "api-key") {
        headers.append(header::VARY, KEY_NAME.clone());
    }
    if bearer && !is_named(&headers.get_all(header::VARY), "authorization") {
        headers.append(header::VARY, AUTHORIZATION_NAME.clone());
    }
}

/// Whether a name, or `*`, is in a list of names.
fn is_named(lines: &GetAll<'_, HeaderValue>, wanted: &str) -> bool {
    let mut names = lines.iter().flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    names.any(|name| {
        let name = name.trim_ascii();
        name == b"*" || name.eq_ignore_ascii_case(wanted.as_bytes())
    })
}

#[cfg(test)]
mod tests;

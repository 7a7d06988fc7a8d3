//! The console, where the account's owner manages its keys: the page and the API of the crate behind a
//! sign-in with one password. All that answers without an API key.
//!
//! It is served on the HTTPS port alone. Whoever serves it behind a proxy has a sign-in of their own.

mod form;
mod password;
mod sessions;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::FormRejection;
use axum::extract::{DefaultBodyLimit, Form, FromRequestParts};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use serde_json::json;
use tower_api_key::manage::page::{KeysPage, guarded};
use tower_api_key::manage::{Principal, api};
use tower_api_key::{Connection, KeyManager};
use tower_http::timeout::RequestBodyTimeoutLayer;
use tracing::field::display;

pub(crate) use self::password::Password;
use self::password::Verdict;
use self::sessions::Sessions;

/// Longer than any password that is meant.
const LONGEST_FORM: usize = 4_096;

/// How long nothing may come of a body that is awaited.
const SLOWEST_BODY: Duration = Duration::from_secs(10);

/// Who may come in, and who is in.
struct Console {
    principal: Principal,
    password: Password,
    sessions: Sessions,
}

/// Everything under `/console`.
pub(crate) fn router(manager: KeyManager, principal: Principal, password: Password) -> Router {
    let console = Arc::new(Console { principal, password, sessions: Sessions::default() });
    let page = KeysPage::new(manager.clone()).with_service("Acme").with_sign_out("sign-out");
    let doors = Router::new()
        .route("/console", get(async || Redirect::permanent("/console/")))
        .route("/console/sign-in", get(async || Redirect::to("/console/")).post(sign_in))
        .route("/console/sign-out", post(sign_out));
    Router::new()
        .merge(guarded(doors))
        .nest("/console/", page.router::<Visitor>())
        .nest("/console/api", api::router::<Caller>(manager))
        .layer(DefaultBodyLimit::max(LONGEST_FORM * 4))
        .layer(RequestBodyTimeoutLayer::new(SLOWEST_BODY))
        .layer(Extension(console))
}

#[derive(Deserialize)]
struct SignIn {
    password: String,
}

async fn sign_in(
    Extension(console): Extension<Arc<Console>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
    form: Result<Form<SignIn>, FormRejection>,
) -> Result<Response, StatusCode> {
    let Ok(Form(SignIn { password })) = form else {
        let words = "The form could not be read. Type the password again.";
        return Ok((StatusCode::BAD_REQUEST, form::page(console.principal.account(), words))
            .into_response());
    };
    let peer = connection.peer().map(|peer| peer.ip());
    let (status, words) = match console.password.judge(&password, peer) {
        Verdict::Right => {
            let begun = console.sessions.begin(&headers);
            let cookie = begun.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
            tracing::info!(peer = peer.map(display), "somebody signed in to the console");
            return Ok((with_cookie(&cookie)?, Redirect::to("/console/")).into_response());
        }
        Verdict::Wrong => {
            (StatusCode::UNAUTHORIZED, "This is not the password. Check it and try again.")
        }
        Verdict::TooMany => (
            StatusCode::TOO_MANY_REQUESTS,
            "Too many wrong passwords. Wait a minute, then try again.",
        ),
    };
    tracing::warn!(peer = peer.map(display), "a sign-in to the console was refused");
    Ok(refused(status, form::page(console.principal.account(), words)))
}

async fn sign_out(
    Extension(console): Extension<Arc<Console>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
) -> Result<Response, StatusCode> {
    if console.sessions.end(&headers) {
        let peer = connection.peer().map(|peer| display(peer.ip()));
        tracing::info!(peer, "somebody signed out of the console");
    }
    let cleared = [("clear-site-data", r#""cache", "storage""#)];
    Ok((with_cookie(sessions::NO_COOKIE)?, cleared, Redirect::to("/console/")).into_response())
}

/// An answer that is no "yes". A 401 must say how one is authenticated (RFC 9110, 11.6.1); there is no registered
/// scheme for a cookie, and browsers pass over this one.
fn refused(status: StatusCode, body: impl IntoResponse) -> Response {
    let mut response = (status, body).into_response();
    if status == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static(r#"Cookie realm="console""#);
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

fn with_cookie(cookie: &str) -> Result<[(header::HeaderName, HeaderValue); 1], StatusCode> {
    let mut value = HeaderValue::try_from(cookie).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    value.set_sensitive(true);
    Ok([(header::SET_COOKIE, value)])
}

/// Who is signed in, if anybody is.
fn principal(parts: &Parts) -> Option<(&Arc<Console>, Option<Principal>)> {
    let console = parts.extensions.get::<Arc<Console>>()?;
    let here = console.sessions.has(&parts.headers);
    Some((console, here.then(|| console.principal.clone())))
}

/// Somebody who looks at the page; whoever is not signed in is asked to.
struct Visitor(Principal);

impl<S: Sync> FromRequestParts<S> for Visitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        match principal(parts) {
            Some((_, Some(principal))) => Ok(Self(principal)),
            Some((console, None)) => {
                let asks = matches!(parts.method, Method::GET | Method::HEAD);
                let status = if asks { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
                Err(refused(status, form::page(console.principal.account(), "")))
            }
            None => Err(StatusCode::INTERNAL_SERVER_ERROR.into_response()),
        }
    }
}

impl From<Visitor> for Principal {
    fn from(Visitor(principal): Visitor) -> Self {
        principal
    }
}

/// A program or script with a session.
struct Caller(Principal);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        let message = "Nobody is signed in. Sign in at /console/.";
        let body = Json(json!({ "type": "authentication_error", "message": message }));
        match principal(parts) {
            Some((_, Some(principal))) => Ok(Self(principal)),
            Some((_, None)) => Err(refused(StatusCode::UNAUTHORIZED, body)),
            None => Err(StatusCode::INTERNAL_SERVER_ERROR.into_response()),
        }
    }
}

impl From<Caller> for Principal {
    fn from(Caller(principal): Caller) -> Self {
        principal
    }
}

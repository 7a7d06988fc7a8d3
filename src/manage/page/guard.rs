//! What every answer of the page says to browsers, and which requests it does not look at.

use axum::extract::Request;
use axum::middleware::{Next, from_fn, map_response};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::json;
use tower_http::csrf::{CsrfLayer, ProtectionError};

use crate::identity::Identity;
use crate::logged::{LoggedMethod, LoggedPath};

/// Nothing but the page's own files and calls, nothing inline, no frame around it; and no text becomes
/// markup in the browser.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

const HEADERS: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "clipboard-read=(), clipboard-write=(self)"),
];

/// Gives a service's own pages beside this one, such as a sign-in form, what this page has: the
/// headers for browsers on every answer, `Cache-Control: no-store` where the answer says nothing else,
/// and the refusal of changes that another site asks for and of whatever an API key let in.
///
/// It holds for the routes and the fallback that `router` has now.
pub fn guarded(router: Router) -> Router {
    router
        .layer(from_fn(without_api_key))
        .layer(CsrfLayer::new().with_rejection_response(from_another_site))
        .layer(from_fn(noting_other_sites))
        .layer(map_response(armoured))
}

async fn without_api_key(request: Request, next: Next) -> Response {
    if request.extensions().get::<Identity>().is_none() {
        return next.run(request).await;
    }
    tracing::error!(
        target: "tower_api_key",
        "the page of keys is mounted behind an ApiKeyLayer, and refuses everybody: mount it beside the layer"
    );
    refusal(StatusCode::FORBIDDEN, "API keys cannot manage API keys.")
}

fn from_another_site(_: ProtectionError) -> Response {
    refusal(StatusCode::FORBIDDEN, "This request came from another site.")
}

/// Nobody sees such a request on the service's own pages: somebody tries something.
async fn noting_other_sites(request: Request, next: Next) -> Response {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let response = next.run(request).await;
    if response.extensions().get::<ProtectionError>().is_some() {
        tracing::warn!(
            target: "tower_api_key",
            method = %LoggedMethod(&method),
            path = ?LoggedPath::of(&uri),
            "a request that another site asked for was refused"
        );
    }
    response
}

async fn armoured(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let unsaid = HeaderValue::from_static("no-store");
    headers.entry(header::CACHE_CONTROL).or_insert(unsaid);
    response
}

pub(super) fn refusal(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "type": "invalid_request_error", "message": message }))).into_response()
}

pub(super) fn broken() -> Response {
    let message = "This could not be done. Try again in a moment.";
    let body = Json(json!({ "type": "api_error", "message": message }));
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "5")], body).into_response()
}

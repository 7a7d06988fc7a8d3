//! What every answer of the page says to browsers, and which requests it does not look at.

use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use serde_json::json;

use crate::identity::Identity;

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
    router.layer(from_fn(guard))
}

async fn guard(request: Request, next: Next) -> Response {
    let mut response = match objection(&request) {
        Some(message) => refusal(StatusCode::FORBIDDEN, message),
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(const { HeaderValue::from_static("no-store") });
    response
}

fn objection(request: &Request) -> Option<&'static str> {
    if request.extensions().get::<Identity>().is_some() {
        return Some("API keys cannot be managed with an API key.");
    }
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if !reads && is_foreign(request.headers(), request.uri()) {
        return Some("This request came from another site.");
    }
    None
}

/// Whether a browser says that another site is behind the request. Browsers of today send
/// `Sec-Fetch-Site`, which knows better than a comparison that a proxy's `Host` could spoil; older ones
/// send `Origin` alone. What sends neither is no browser.
fn is_foreign(headers: &HeaderMap, uri: &Uri) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site != "same-origin" && site != "none";
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| uri.authority().map(http::uri::Authority::as_str));
    let from = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    from.zip(host).is_none_or(|((_, from), host)| !from.eq_ignore_ascii_case(host))
}

/// Whether the body is JSON, which a form of another site cannot send.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let essence = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

pub(super) fn refusal(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "type": "invalid_request_error", "message": message }))).into_response()
}

pub(super) fn broken() -> Response {
    let message = "This could not be done. Try again in a moment.";
    let body = Json(json!({ "type": "api_error", "message": message }));
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "5")], body).into_response()
}

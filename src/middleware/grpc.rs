//! Refusals of gRPC calls, as gRPC says them. Knows nothing of the real reason.
//!
//! A gRPC client takes any status but 200 for a broken proxy, and guesses at what it means: of a 401 it
//! makes `UNAUTHENTICATED` with a message of its own, of a 503 `UNAVAILABLE`. [`Grpc`] answers with the
//! status and the message themselves, in a *trailers-only* response: HTTP 200, everything in the headers
//! and no body ([PROTOCOL-HTTP2](https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md)).
//!
//! ```
//! use tower_api_key::{ApiKeyLayer, MemoryStore, middleware::{Grpc, ProblemDetails}};
//!
//! let layer = ApiKeyLayer::new(MemoryStore::new()).with_renderer(Grpc::new());
//! // The other calls of the same service, in another way:
//! let layer = layer.with_renderer(Grpc::or(ProblemDetails));
//! ```
//!
//! | refusal | `grpc-status` |
//! | --- | --- |
//! | not HTTPS, no key, no valid key | 16, `UNAUTHENTICATED` |
//! | the key lacks the scope | 7, `PERMISSION_DENIED` |
//! | too many requests | 8, `RESOURCE_EXHAUSTED` |
//! | the key could not be checked | 14, `UNAVAILABLE`: clients try again |
//!
//! A client sends its key as the metadata `api-key`. The layer adds `Cache-Control` and `Vary` as to every
//! refusal; the challenge and `Retry-After` belong to statuses of HTTP that a gRPC client does not see.
//!
//! # gRPC-Web
//!
//! Calls of `application/grpc-web` and `application/grpc-web-text` are answered by the other renderer: they
//! are made by browsers through HTTP/1.1 too, where a 401 is what proxies, tools and the client libraries
//! know. Where `tonic_web::GrpcWebLayer` is outside of this layer, it has made gRPC calls of them before,
//! and turns the answers back.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};

use super::response::{Json, RenderRefusal};
use crate::rejection::Refusal;

/// Answers calls of gRPC in gRPC, and all others with another renderer, [`Json`] by default. See the
/// [module](self).
#[derive(Clone, Copy, Debug)]
pub struct Grpc<R = Json> {
    other: R,
}

impl Grpc {
    /// Leaves what is not gRPC to [`Json`].
    #[must_use]
    pub fn new() -> Self {
        Self::or(Json)
    }
}

impl Default for Grpc {
    fn default() -> Self {
        Self::new()
    }
}

impl<R: RenderRefusal> Grpc<R> {
    /// Leaves what is not gRPC to `other`.
    #[must_use]
    pub fn or(other: R) -> Self {
        Self { other }
    }
}

impl<R: RenderRefusal> RenderRefusal for Grpc<R> {
    fn render(&self, refusal: Refusal, request: &HeaderMap) -> Response<Bytes> {
        if is_grpc(request) { trailers_only(refusal) } else { self.other.render(refusal, request) }
    }
}

static GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
static STATUS: HeaderName = HeaderName::from_static("grpc-status");
static MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

fn trailers_only(refusal: Refusal) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, GRPC.clone());
    headers.insert(&STATUS, HeaderValue::from_static(code(refusal)));
    // Visible ASCII without '%', which percent-encoding leaves as it is; a test holds that.
    headers.insert(&MESSAGE, HeaderValue::from_static(refusal.message()));
    response
}

/// The number of the code, in decimal.
fn code(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NotHttps | Refusal::MissingKey | Refusal::InvalidKey => "16",
        Refusal::MissingScope => "7",
        Refusal::TooManyRequests => "8",
        Refusal::Unavailable => "14",
    }
}

/// `application/grpc`, also with a message format (`+proto`) or parameters. Types of media do not differ
/// by case.
fn is_grpc(request: &HeaderMap) -> bool {
    const TYPE: &[u8] = b"application/grpc";
    let Some(given) = request.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes) else {
        return false;
    };
    let Some((start, rest)) = given.split_at_checked(TYPE.len()) else { return false };
    start.eq_ignore_ascii_case(TYPE) && matches!(rest.trim_ascii_start(), [] | [b'+' | b';', ..])
}

#[cfg(test)]
mod tests;

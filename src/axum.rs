//! For axum: a whole router behind the layer, and the caller as a handler's argument.
//!
//! ```no_run
//! use std::net::SocketAddr;
//! use axum::{Router, routing::get};
//! use tower_api_key::{ApiKeyLayer, Identity, MemoryStore, Transport, TrustedProxies, axum::protect};
//!
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let api = Router::new().route("/hello", get(async |caller: Identity| caller.account().to_string()));
//!
//! let proxies = TrustedProxies::x_forwarded_proto(["10.0.0.0/8"])?.with_x_forwarded_for();
//! let layer = ApiKeyLayer::new(MemoryStore::new()).with_transport(Transport::behind(proxies));
//!
//! let listener = tokio::net::TcpListener::bind("0.0.0.0:8080").await?;
//! let service = protect(api, layer).into_make_service_with_connect_info::<SocketAddr>();
//! axum::serve(listener, service).await?;
//! # Ok(()) }
//! ```
//!
//! # Why not `.layer()`
//!
//! In axum, routes that are added after `.layer()` are not behind it, `.route_layer()` leaves the
//! fallback and the 405s open, and a layer on a nested router does not see what the outer one
//! answers. [`protect`] takes the finished router and gives back something that is no router any
//! more: nothing can be added to it, and nothing in it answers without a key, not even a 404.
//!
//! What must stay open is put beside it, in plain sight:
//!
//! ```
//! use axum::{Router, routing::get};
//! use tower_api_key::{ApiKeyLayer, MemoryStore, axum::protect};
//!
//! let api = Router::new().route("/hello", get(async || "hello"));
//! let service = Router::new()
//!     .route("/healthz", get(async || "ok")) // open
//!     .fallback_service(protect(api, ApiKeyLayer::new(MemoryStore::new()))); // everything else
//! # let _: Router = service;
//! ```

mod self_revoke;

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::extract::connect_info::{ConnectInfo, IntoMakeServiceWithConnectInfo};
use axum::routing::{IntoMakeService, MethodRouter, get};
use axum::{Json, Router, ServiceExt};
use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};
use bytes::Bytes;
use http::request::Parts;
use http::{Extensions, Request, StatusCode, header};
use pin_project_lite::pin_project;
pub use self_revoke::self_revoke;
use tower_layer::Layer;
use tower_service::Service;

use crate::identity::Identity;
use crate::middleware::{ApiKeyLayer, ApiKeyService, ResponseFuture};
use crate::transport::Connection;

/// Puts a whole router behind the layer: its routes, its fallback, its 404s and 405s, `HEAD` and
/// `OPTIONS`.
///
/// Where TLS does not end in this process, serve it with
/// [`into_make_service_with_connect_info`](Protected::into_make_service_with_connect_info), so that
/// the layer knows the peer.
pub fn protect(router: Router, layer: ApiKeyLayer) -> Protected {
    Protected { service: layer.with_axum_connect_info().layer(router) }
}

impl ApiKeyLayer {
    /// Takes the peer from axum's `ConnectInfo<SocketAddr>` where no [`Connection`] is attached.
    /// [`protect`] does this by itself.
    pub fn with_axum_connect_info(self) -> Self {
        self.with_connection_source(|extensions: &Extensions| {
            let peer = || extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
            extensions.get().copied().or_else(|| peer().map(Connection::plain))
        })
    }
}

/// A router behind the layer, made by [`protect`]. Not a router: nothing can be added past the layer.
///
/// ```compile_fail,E0599
/// use axum::{Router, routing::get};
/// use tower_api_key::{ApiKeyLayer, MemoryStore, axum::protect};
///
/// let service = protect(Router::new(), ApiKeyLayer::new(MemoryStore::new()));
/// service.route("/open", get(async || "no key needed"));
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Protected {
    service: ApiKeyService<Router>,
}

impl Protected {
    /// For `axum::serve` and `axum_server`, where TLS ends in this process.
    #[must_use]
    pub fn into_make_service(self) -> IntoMakeService<Self> {
        <Self as ServiceExt<Request<Body>>>::into_make_service(self)
    }

    /// For `axum::serve` and `axum_server`, with the peer's address: `C` is [`SocketAddr`].
    #[must_use]
    pub fn into_make_service_with_connect_info<C>(self) -> IntoMakeServiceWithConnectInfo<Self, C> {
        <Self as ServiceExt<Request<Body>>>::into_make_service_with_connect_info(self)
    }
}

impl<B> Service<Request<B>> for Protected
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = ProtectedFuture<B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<B>>::poll_ready(&mut self.service, cx)
    }

    fn call(&mut self, request: Request<B>) -> ProtectedFuture<B> {
        ProtectedFuture { future: self.service.call(request) }
    }
}

pin_project! {
    /// The future of [`Protected`].
    #[derive(Debug)]
    pub struct ProtectedFuture<B>
    where
        B: HttpBody<Data = Bytes>,
        B: Send,
        B: 'static,
        B::Error: Into<axum::BoxError>,
    {
        #[pin]
        future: ResponseFuture<Router, B>,
    }
}

impl<B> Future for ProtectedFuture<B>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = std::task::ready!(self.project().future.poll(cx))?;
        Poll::Ready(Ok(response.map(|body| body.into_inner().unwrap_or_else(Body::from))))
    }
}

/// An endpoint that tells a caller whether its key works, for customers to try one with:
///
/// ```
/// use axum::Router;
/// use tower_api_key::axum::test_endpoint;
///
/// // behind `protect`
/// let api: Router = Router::new().route("/test", test_endpoint(|caller| caller.account().to_string()));
/// ```
///
/// answers `GET` with 200 and `{"message":"The API key is valid for account: admin@example.com"}`, where
/// `account` says what an account is called. Whoever has no valid key is refused by the layer, which
/// says what is wrong. The answer is `Cache-Control: no-store`.
pub fn test_endpoint<S>(
    account: impl Fn(&Identity) -> String + Clone + Send + Sync + 'static,
) -> MethodRouter<S>
where
    S: Clone + Send + Sync + 'static,
{
    get(async move |caller: Identity| {
        let message = format!("The API key is valid for account: {}", account(&caller));
        ([(header::CACHE_CONTROL, "no-store")], Json(serde_json::json!({ "message": message })))
    })
}

/// The verified caller as an argument of a handler. Fails where no layer is in front, or one that lets pass who has
/// no key.
impl<S: Sync> FromRequestParts<S> for Identity {
    type Rejection = NoApiKeyLayer;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, NoApiKeyLayer> {
        parts.extensions.get().cloned().ok_or(NoApiKeyLayer)
    }
}

/// For handlers that serve callers and strangers: `None` where no layer is in front, and where the layer lets pass who
/// has no key.
impl<S: Sync> OptionalFromRequestParts<S> for Identity {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get().cloned())
    }
}

/// A handler asks for an [`Identity`], and there is none, because no [`ApiKeyLayer`] is in front of it, or one
/// that lets pass who has no key: a mistake in the program, logged with what to do, and answered with a 500 that
/// does not tell strangers of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NoApiKeyLayer;

impl fmt::Display for NoApiKeyLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a handler takes an Identity, and there is none: serve its route through tower_api_key::axum::protect, or take an Option<Identity> where the layer lets pass who has no valid key")
    }
}

impl std::error::Error for NoApiKeyLayer {}

impl IntoResponse for NoApiKeyLayer {
    fn into_response(self) -> Response {
        tracing::error!(target: "tower_api_key", "{self}");
        let body = serde_json::json!({ "type": "api_error", "message": "Something is wrong on our side." });
        (StatusCode::INTERNAL_SERVER_ERROR, Json(body)).into_response()
    }
}

//! Says of every request which connection it came over.

use std::task::{Context, Poll};

use http::Request;
use tower_service::Service;

use crate::transport::Connection;

/// A service for the requests of one connection: puts the [`Connection`] into the extensions of each.
///
/// The acceptors of the module `tls` hand one out. An accept loop without TLS, behind a proxy, wraps
/// its service itself:
///
/// ```
/// use tower_api_key::{Connection, middleware::AttachConnection};
///
/// # fn serve_one<S: Clone>(service: S, peer: std::net::SocketAddr) {
/// // `peer` is what `TcpListener::accept` returned.
/// let service = AttachConnection::new(service, Connection::plain(peer));
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct AttachConnection<S> {
    inner: S,
    connection: Connection,
}

impl<S> AttachConnection<S> {
    /// A service whose requests all come over `connection`.
    pub fn new(inner: S, connection: Connection) -> Self {
        Self { inner, connection }
    }
}

impl<S, B> Service<Request<B>> for AttachConnection<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        request.extensions_mut().insert(self.connection);
        self.inner.call(request)
    }
}

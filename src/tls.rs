//! TLS ended in this process: acceptors that attach the evidence to each connection's requests.
//! The only place that can make a [`Connection`] that says TLS.
//!
//! With `axum-server` (certificates can be reloaded through its `RustlsConfig`):
//!
//! ```no_run
//! use axum_server::tls_rustls::RustlsConfig;
//! use tower_api_key::{ApiKeyLayer, MemoryStore, axum::protect, tls::AxumServerAcceptor};
//!
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let app = protect(axum::Router::new(), ApiKeyLayer::new(MemoryStore::new()));
//! // Once in a process: this crate brings no cryptography of its own choice.
//! let provider = rustls::crypto::ring::default_provider();
//! provider.install_default().map_err(|_| "a provider is installed already")?;
//! let config = RustlsConfig::from_pem_file("cert.pem", "key.pem").await?;
//! axum_server::bind("0.0.0.0:8443".parse::<std::net::SocketAddr>()?)
//!     .acceptor(AxumServerAcceptor::new(config))
//!     .serve(app.into_make_service())
//!     .await?;
//! # Ok(()) }
//! ```
//!
//! It needs, beside this crate with the features `axum` and `tls`,
//!
//! ```toml
//! axum-server = { version = "0.8", default-features = false, features = ["tls-rustls-no-provider"] }
//! rustls = { version = "0.23", default-features = false, features = ["ring", "std", "tls12"] }
//! ```
//!
//! With an accept loop of one's own over hyper: [`Acceptor`], and `examples/hyper_service.rs`.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum_server::accept::Accept;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;

use crate::middleware::AttachConnection;
use crate::transport::Connection;

/// How long a TLS handshake may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// Ends TLS for an accept loop of one's own.
///
/// ```no_run
/// # use std::sync::Arc;
/// # async fn serve<S: Clone>(config: Arc<tokio_rustls::rustls::ServerConfig>, service: S) -> std::io::Result<()> {
/// let acceptor = tower_api_key::tls::Acceptor::new(config);
/// let listener = tokio::net::TcpListener::bind("0.0.0.0:8443").await?;
/// let (socket, _) = listener.accept().await?;
/// // The service that comes back says "TLS" of every request; give it the stream's requests.
/// let (stream, service) = acceptor.accept(socket, service).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Acceptor(TlsAcceptor);

impl Acceptor {
    /// An acceptor with the server's certificate and settings.
    #[must_use]
    pub fn new(config: Arc<ServerConfig>) -> Self {
        Self(TlsAcceptor::from(config))
    }

    /// Ends TLS on a socket and returns the stream with the service for its requests. Call it in the
    /// connection's own task: a client may take its time.
    ///
    /// # Errors
    ///
    /// When the handshake fails or takes longer than 10 seconds, or the socket has no peer any more.
    pub async fn accept<S>(
        &self,
        socket: TcpStream,
        service: S,
    ) -> io::Result<(TlsStream<TcpStream>, AttachConnection<S>)> {
        let peer = socket.peer_addr()?;
        let stream = tokio::time::timeout(HANDSHAKE_LIMIT, self.0.accept(socket)).await??;
        Ok((stream, AttachConnection::new(service, Connection::tls_ended_here(peer))))
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Acceptor")
    }
}

/// Ends TLS for `axum-server`, in the place of its own `RustlsAcceptor`.
#[derive(Clone)]
pub struct AxumServerAcceptor(RustlsAcceptor);

impl AxumServerAcceptor {
    /// An acceptor with `axum-server`'s settings, which can be reloaded while it serves.
    #[must_use]
    pub fn new(config: RustlsConfig) -> Self {
        Self(RustlsAcceptor::new(config).handshake_timeout(HANDSHAKE_LIMIT))
    }
}

impl fmt::Debug for AxumServerAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AxumServerAcceptor")
    }
}

impl<S: Send + 'static> Accept<TcpStream, S> for AxumServerAcceptor {
    type Stream = TlsStream<TcpStream>;
    type Service = AttachConnection<S>;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, socket: TcpStream, service: S) -> Self::Future {
        let acceptor = self.0.clone();
        Box::pin(async move {
            let peer = socket.peer_addr()?;
            let (stream, service) = acceptor.accept(socket, service).await?;
            Ok((stream, AttachConnection::new(service, Connection::tls_ended_here(peer))))
        })
    }
}

//! Where the server is, and how to connect to it. Knows no keys.
//!
//! TCP and TLS are set up here and not by the `redis` crate. That crate asks rustls for the process's
//! default cryptography, which panics where an application has two compiled in and has chosen none.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use redis::aio::{MultiplexedConnection, PubSub};
use redis::{
    AsyncConnectionConfig, ConnectionAddr, IntoConnectionInfo as _, ProtocolVersion,
    RedisConnectionInfo, RedisError,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::link::{Connection, Failure};
use crate::store::StoreError;
use crate::store::remote::Way;

/// How to reach a server. Holds the password: not to be printed.
#[derive(Clone)]
pub(super) struct Server {
    place: Place,
    login: RedisConnectionInfo,
}

#[derive(Clone)]
enum Place {
    Tcp(String, u16),
    Tls(String, u16, ServerName<'static>, TlsConnector),
    #[cfg(unix)]
    Unix(std::path::PathBuf),
}

impl Server {
    /// Reads a URL. No error repeats it, because it may hold a password.
    pub(super) fn new(url: &str, root_certificates: Option<&[u8]>) -> Result<Self, StoreError> {
        if url.contains('#') {
            return Err(refused(
                "a fragment (such as #insecure) has no meaning here; for a certificate of your own, use with_root_certificate",
            ));
        }
        // The `redis` crate reads `rediss` only with TLS of its own.
        let (url, mut tls) = match url.strip_prefix("rediss:") {
            Some(rest) => (format!("redis:{rest}"), true),
            None => (url.to_owned(), false),
        };
        let info = url
            .into_connection_info()
            .map_err(|_| refused("the URL is not such as redis://user:password@host:6379/0"))?;
        let login = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP2);
        let place = match info.addr().clone() {
            ConnectionAddr::Tcp(host, port) => Place::Tcp(host, port),
            ConnectionAddr::TcpTls { host, port, .. } => {
                tls = true;
                Place::Tcp(host, port)
            }
            #[cfg(unix)]
            ConnectionAddr::Unix(path) => Place::Unix(path),
            _ => return Err(refused("such an address is not known here")),
        };
        let place = match (place, tls) {
            (Place::Tcp(host, port), true) => over_tls(host, port, root_certificates)?,
            (_, false) if root_certificates.is_some() => {
                return Err(refused("a root certificate without TLS: use a rediss:// URL"));
            }
            (place, _) => place,
        };
        Ok(Self { place, login })
    }

    /// The way there. Over TLS, certificates are always checked.
    pub(super) fn way(&self) -> Way<'_> {
        let (host, is_verified) = match &self.place {
            Place::Tcp(host, _) => (Some(host.as_str()), false),
            Place::Tls(host, ..) => (Some(host.as_str()), true),
            #[cfg(unix)]
            Place::Unix(_) => (None, false),
        };
        Way { store: "redis", host, is_verified, advice: "Use rediss://" }
    }

    /// Connects and logs in, to a primary, and gives what that says of itself (`INFO`).
    pub(super) async fn open(&self, limit: Duration) -> Result<(Connection, String), Failure> {
        timeout(limit, self.opened()).await.unwrap_or(Err(Failure::Slow(limit)))
    }

    async fn opened(&self) -> Result<(Connection, String), Failure> {
        let connection = match &self.place {
            Place::Tcp(host, port) => self.over(tcp(host, *port).await?).await?,
            Place::Tls(host, port, name, connector) => {
                let stream = tcp(host, *port).await?;
                let stream = connector.connect(name.clone(), stream).await;
                self.over(stream.map_err(RedisError::from)?).await?
            }
            #[cfg(unix)]
            Place::Unix(path) => {
                let stream = tokio::net::UnixStream::connect(path).await;
                self.over(stream.map_err(RedisError::from)?).await?
            }
        };
        let info: String = connection.send(&redis::cmd("INFO")).await?;
        match field(&info, "role") {
            Some("master") => Ok((connection, info)),
            _ => Err(Failure::Replica),
        }
    }

    /// Calls `wake` for every message of a channel, and once when it has begun to listen, until the
    /// connection is lost.
    pub(super) async fn listen(
        &self,
        channel: &str,
        wake: &(dyn Fn() + Send + Sync),
    ) -> Result<(), Failure> {
        match &self.place {
            Place::Tcp(host, port) => {
                let stream = tcp(host, *port).await?;
                self.listen_over(stream, channel, wake).await
            }
            Place::Tls(host, port, name, connector) => {
                let stream = tcp(host, *port).await?;
                let stream = connector.connect(name.clone(), stream).await;
                self.listen_over(stream.map_err(RedisError::from)?, channel, wake).await
            }
            #[cfg(unix)]
            Place::Unix(path) => {
                let stream = tokio::net::UnixStream::connect(path).await;
                self.listen_over(stream.map_err(RedisError::from)?, channel, wake).await
            }
        }
    }

    async fn listen_over<S>(
        &self,
        stream: S,
        channel: &str,
        wake: &(dyn Fn() + Send + Sync),
    ) -> Result<(), Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut listener = PubSub::new(&self.login, stream).await?;
        listener.subscribe(channel).await?;
        wake();
        let mut messages = listener.on_message();
        while messages.next().await.is_some() {
            wake();
        }
        Ok(())
    }

    async fn over<S>(&self, stream: S) -> Result<Connection, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // Every call has a limit of its own, for all that it does.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let (commands, driver) =
            MultiplexedConnection::new_with_config(&self.login, stream, config).await?;
        Ok(Connection::new(commands, driver))
    }
}

/// What a server's `INFO` says of something.
pub(super) fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

async fn tcp(host: &str, port: u16) -> Result<TcpStream, RedisError> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    // What a connection that was given up has not yet sent must not arrive later: by then, somebody
    // has been told that there was no answer, and may have gone on.
    #[allow(
        deprecated,
        reason = "what replaces it is newer than the tokio that this crate asks for"
    )]
    stream.set_linger(Some(Duration::ZERO))?;
    Ok(stream)
}

fn over_tls(host: String, port: u16, pem: Option<&[u8]>) -> Result<Place, StoreError> {
    let name = ServerName::try_from(host.clone()).map_err(refused)?;
    let roots = pem.map_or_else(system_s_roots, roots)?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(refused)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Place::Tls(host, port, name, TlsConnector::from(Arc::new(config))))
}

fn roots(pem: &[u8]) -> Result<RootCertStore, StoreError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| refused(error.to_string()))?;
        roots.add(certificate).map_err(refused)?;
    }
    if roots.is_empty() {
        return Err(refused("the root certificate holds no certificate"));
    }
    Ok(roots)
}

fn system_s_roots() -> Result<RootCertStore, StoreError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(refused("this system has no root certificates; use with_root_certificate"));
    }
    Ok(roots)
}

fn refused(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::unavailable("redis", why)
}

//! How to reach the server, and how long to wait for it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::PostgresStore;
use super::connections::{Connections, unavailable};
use super::open;
use super::transaction::Milliseconds;
use crate::store::StoreError;
use crate::store::remote::Way;

/// What a URL may say after its question mark.
const PARAMETERS: [&str; 17] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// How many connections there are for what replicas tell each other, beside the one of their renewals.
const REPLICAS: u32 = 2;

/// How a [`PostgresStore`] reaches its server.
///
/// ```no_run
/// use std::time::Duration;
/// use tower_api_key::PostgresOptions;
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let url = std::env::var("DATABASE_URL")?;
/// let store = PostgresOptions::new(&url)?
///     .with_time_limit(Duration::from_millis(300))
///     .with_verification_connections(16)
///     .connect()
///     .await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct PostgresOptions {
    server: PgConnectOptions,
    limit: Duration,
    verification: u32,
    management: u32,
}

impl PostgresOptions {
    /// Reads `postgres://user:password@host:port/database?…`. Of the parameters, `sslmode`
    /// (`verify-full` to be sure whom one talks to; `prefer` unless said), `sslrootcert`, `sslcert`,
    /// `sslkey`, `host` (a socket's folder) and `application_name` are understood; what is not said
    /// comes from `PGHOST`, `PGUSER`, `PGPASSWORD` and their like, and from `.pgpass`.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](StoreError::Unavailable) when the URL cannot be read or has other parameters;
    /// the error repeats their names at most.
    pub fn new(url: &str) -> Result<Self, StoreError> {
        understood(url).map_err(|what| StoreError::unavailable("postgres", what))?;
        let server: PgConnectOptions = url.parse().map_err(unavailable)?;
        // A pooler may not know this parameter; no number here has a fraction.
        let server = server.extra_float_digits(None);
        Ok(Self { server, limit: Duration::from_millis(500), verification: 8, management: 4 })
    }

    /// How long a call may take, waiting for a free connection included, until it is
    /// [`StoreError::Timeout`]; 500 ms unless set. Less than the layer's own
    /// [limit](crate::ApiKeyLayer::with_store_timeout), so that the log says whose it was.
    #[must_use]
    pub fn with_time_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The most connections for verification; 8 unless set. They are opened when they are needed,
    /// and stay.
    #[must_use]
    pub fn with_verification_connections(mut self, most: u32) -> Self {
        self.verification = most;
        self
    }

    /// The most connections for management; 4 unless set. Up to four more are for what
    /// [replicas](crate::docs::replicas) tell each other.
    #[must_use]
    pub fn with_management_connections(mut self, most: u32) -> Self {
        self.management = most;
        self
    }

    /// Trusts the server certificates that this one (PEM) has signed, as `sslrootcert` in the URL
    /// does with a file, *beside* those that the system's authorities have signed: the driver cannot be told to
    /// trust no others. Takes effect with `sslmode=verify-ca`, which then believes whoever has a certificate of any
    /// authority, and with `sslmode=verify-full`, which wants one in the server's name.
    #[must_use]
    pub fn with_root_certificate(mut self, pem: &[u8]) -> Self {
        self.server = self.server.ssl_root_cert_from_pem(pem.to_vec());
        self
    }

    /// The way to the server. `verify-ca` does not ask whose certificate it is.
    fn way(&self) -> Way<'_> {
        let host = self.server.get_host();
        let is_socket = self.server.get_socket().is_some() || host.starts_with('/');
        Way {
            store: "postgres",
            host: (!is_socket).then_some(host),
            is_verified: matches!(self.server.get_ssl_mode(), PgSslMode::VerifyFull),
            advice: "Use sslmode=verify-full",
        }
    }

    /// Connects, and makes the tables if there are none. Where the server is on another machine and
    /// `sslmode` is not `verify-full`, a warning in the log says so.
    ///
    /// # Errors
    ///
    /// As [`PostgresStore::connect`].
    pub async fn connect(self) -> Result<PostgresStore, StoreError> {
        self.way().warn();
        let Self { server, limit, verification, management } = self;
        open::open(&Connections::new(server.clone(), 1, open::LIMIT)).await?;
        Ok(PostgresStore {
            verification: Connections::new(server.clone(), verification, limit),
            management: Connections::new(server.clone(), management, limit),
            // One that waits for nobody: who waits for the renewal must not keep it waiting.
            renewal: Connections::new(server.clone(), 1, limit),
            replicas: Connections::new(server, REPLICAS, limit),
            looks: Arc::default(),
            limit: Milliseconds::new(limit),
        })
    }
}

/// Refuses parameters of which nothing would come: the driver would write them into the log, and among
/// them there may be a password.
fn understood(url: &str) -> Result<(), String> {
    let query =
        url.split('#').next().and_then(|url| url.split_once('?')).map_or("", |(_, query)| query);
    let names = query.split('&').map(|pair| pair.split('=').next().unwrap_or(pair));
    match names.filter(|name| !name.is_empty()).find(|name| !PARAMETERS.contains(name)) {
        Some(name) => Err(format!("the URL's parameter {name:?} is not understood")),
        None => Ok(()),
    }
}

/// Without the password.
impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOptions")
            .field("host", &self.server.get_host())
            .field("database", &self.server.get_database())
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

//! What can be set, and how a store is opened with it.

use std::fmt;
use std::time::Duration;

use super::RedisStore;
use super::demands::Demands;
use super::link::Link;
use super::scripts::{Answer, Call, Keys, LAYOUT, OPEN, opened};
use super::server::Server;
use crate::record::InvalidText;
use crate::store::StoreError;

/// How to connect to Redis: [`RedisStore::connect`] with more to say.
///
/// ```no_run
/// use std::time::Duration;
/// use tower_api_key::RedisOptions;
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = RedisOptions::new("rediss://:password@redis.example.com")
///     .with_namespace("acme")?
///     .with_time_limit(Duration::from_millis(200))
///     .with_root_certificate(std::fs::read("redis-ca.pem")?)
///     .connect()
///     .await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RedisOptions {
    url: String,
    namespace: String,
    time_limit: Duration,
    accepts_data_loss: bool,
    root_certificates: Option<Vec<u8>>,
}

impl RedisOptions {
    /// `redis://`, `rediss://` (TLS) or `redis+unix://`, with user and password where they are needed:
    /// `rediss://user:password@host:6379/0`.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            namespace: "tower-api-key".to_owned(),
            time_limit: Duration::from_millis(500),
            accepts_data_loss: false,
            root_certificates: None,
        }
    }

    /// What the names of all keys in Redis begin with, in braces; by default `tower-api-key`. Stores of
    /// different namespaces know nothing of each other.
    ///
    /// # Errors
    ///
    /// For what is not 1 to 64 of `A-Z a-z 0-9 _ - . :`.
    pub fn with_namespace(mut self, namespace: &str) -> Result<Self, InvalidText> {
        const WHAT: &str = "namespace";
        if namespace.is_empty() {
            return Err(InvalidText::empty(WHAT));
        }
        if namespace.len() > 64 {
            return Err(InvalidText::too_long(WHAT, 64));
        }
        if !namespace.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.:".contains(&b)) {
            let rule = "only letters, digits, '_', '-', '.' and ':'";
            return Err(InvalidText::characters(WHAT, rule));
        }
        namespace.clone_into(&mut self.namespace);
        Ok(self)
    }

    /// How long each call may take, with connecting again where that is needed; 500 ms by default. Then
    /// it fails with [`StoreError::Timeout`]. Also how soon a dead connection is noticed.
    #[must_use]
    pub fn with_time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// Certificates (PEM, one or more) that the server's certificate must be signed by, in place of the
    /// system's.
    #[must_use]
    pub fn with_root_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.root_certificates = Some(pem.into());
        self
    }

    /// Connects to a server that keeps no append-only file, or that throws keys away when its memory is
    /// full, and says so in the log once, not at every connection. A restart of it may forget keys that were shown, and may *revive keys that were deleted*.
    /// For tests; for anything else, set `appendonly yes` and `maxmemory-policy noeviction`.
    #[must_use]
    pub fn dangerously_accept_data_loss(mut self) -> Self {
        self.accepts_data_loss = true;
        self
    }

    /// Connects, and refuses a server that would lose what it is given. Where a later connection of the
    /// store comes to such a server, after a failover, the store goes on and an error event says so. Where the
    /// server is on another machine and the URL is not `rediss://`, a warning in the log says so.
    ///
    /// # Errors
    ///
    /// [`Unsafe`](StoreError::Unsafe) for a server older than Redis 7, and for one that is set up to
    /// lose keys; [`Newer`](StoreError::Newer) and [`Foreign`](StoreError::Foreign) for a namespace that
    /// is not for this version, all left as they are; [`Unavailable`](StoreError::Unavailable) and
    /// [`Timeout`](StoreError::Timeout) when it cannot be reached, or is a replica.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime.
    pub async fn connect(self) -> Result<RedisStore, StoreError> {
        let server = Server::new(&self.url, self.root_certificates.as_deref())?;
        server.way().warn();
        let demands = Demands { accepts_data_loss: self.accepts_data_loss };
        let (connection, info) = server.open(self.time_limit).await?;
        demands.judge(&info)?;
        let link = || Link::new(server.clone(), demands, self.time_limit);
        let (verification, management) = (link(), link().with(connection));
        warn_of_unsynced_writes(&management).await;
        let keys = Keys::new(&self.namespace);
        let call = Call::new(&OPEN, &keys).with(LAYOUT);
        let by_text = || Some(call.by_text());
        let layout: Answer =
            management.ask(management.deadline(), &call.by_hash(), by_text).await?;
        opened(layout)?;
        // Now, so that the first request does not wait for it.
        let ping = redis::cmd("PING");
        verification.ask::<String>(verification.deadline(), &ping, || None).await?;
        Ok(RedisStore::new(verification, management, keys))
    }
}

/// Without the URL, which may hold a password.
impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisOptions")
            .field("namespace", &self.namespace)
            .field("time_limit", &self.time_limit)
            .finish_non_exhaustive()
    }
}

/// Says so where a power cut can take back what was answered; `CONFIG` may be forbidden.
async fn warn_of_unsynced_writes(management: &Link) {
    let mut command = redis::cmd("CONFIG");
    command.arg("GET").arg("appendfsync");
    let answer = management.ask::<Vec<String>>(management.deadline(), &command, || None).await;
    let set = answer.ok().and_then(|pair| pair.into_iter().nth(1));
    if let Some(appendfsync) = set.filter(|set| set != "always") {
        tracing::warn!(target: "tower_api_key", store = "redis", appendfsync, "a power cut may take back up to two seconds of writes, deletions among them; `appendfsync always` keeps them");
    }
}

#[cfg(test)]
mod tests;

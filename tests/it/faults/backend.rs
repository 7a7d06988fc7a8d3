//! A server with one store's data in it. Where another store's server is added.

use std::time::Duration;

use tokio::task::block_in_place;
use tower_api_key::{PostgresOptions, RedisOptions, StoreError};

use super::Store;
use crate::servers::{Postgres, Redis};
use crate::support::soon;

/// For a busy machine, where the time limit is not what is asked about.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) enum Backend {
    Postgres { server: Postgres, database: String },
    Redis { server: Redis },
}

/// The same call for each kind of server.
macro_rules! each {
    ($self:ident, $server:ident => $call:expr) => {
        match $self {
            Self::Postgres { $server, .. } => $call,
            Self::Redis { $server } => $call,
        }
    };
}

impl Backend {
    pub(super) async fn postgres(options: crate::servers::PostgresOptions) -> Option<Self> {
        let server = options.start()?;
        let database = server.new_database().await;
        Some(Self::Postgres { server, database })
    }

    pub(super) fn redis(arguments: &[&str]) -> Option<Self> {
        Some(Self::Redis { server: Redis::start(arguments)? })
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Postgres { .. } => "postgres",
            Self::Redis { .. } => "redis",
        }
    }

    pub(super) fn port(&self) -> u16 {
        each!(self, server => server.port())
    }

    /// The store, by way of the server's own port.
    pub(super) async fn connect(&self) -> Store {
        self.connect_within(PATIENCE, self.port()).await.unwrap()
    }

    /// The store by way of another port, with the time limit that it has by default.
    pub(super) async fn connect_by(&self, port: u16) -> Result<Store, StoreError> {
        self.connect_within(Duration::from_millis(500), port).await
    }

    /// The store by way of another port, with a time limit.
    pub(super) async fn connect_within(
        &self,
        limit: Duration,
        port: u16,
    ) -> Result<Store, StoreError> {
        Ok(match self {
            Self::Postgres { server, database } => {
                let options = PostgresOptions::new(&server.url_by(port, database))?;
                std::sync::Arc::new(options.with_time_limit(limit).connect().await?)
            }
            Self::Redis { .. } => {
                let options = RedisOptions::new(Redis::url_by(port, 0)).with_time_limit(limit);
                std::sync::Arc::new(options.connect().await?)
            }
        })
    }

    /// How many clients the server has, the one that asks included.
    pub(super) async fn clients(&self) -> usize {
        match self {
            Self::Postgres { server, .. } => {
                let count =
                    "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'";
                usize::try_from(server.number("postgres", count).await.unwrap()).unwrap()
            }
            Self::Redis { server } => {
                server.say("CLIENT LIST TYPE normal").await.matches("id=").count()
            }
        }
    }

    /// Waits until the server is through with what its clients of before had sent it.
    pub(super) async fn until_clients_are(&self, most: usize) {
        let waiting = async {
            while self.clients().await > most {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        soon(waiting).await;
    }

    /// Has the server forget what it keeps of the calls it has seen, so that the next says it all.
    pub(super) async fn forget_calls(&self) {
        match self {
            // Keeps nothing for us.
            Self::Postgres { .. } => {}
            Self::Redis { server } => assert_eq!(server.say("SCRIPT FLUSH").await, "+OK"),
        }
    }

    pub(super) fn kill(&self) {
        block_in_place(|| each!(self, server => server.kill()));
    }

    pub(super) fn restart(&self) {
        block_in_place(|| each!(self, server => server.restart()));
    }

    pub(super) fn pause(&self) {
        block_in_place(|| each!(self, server => server.pause()));
    }

    pub(super) fn resume(&self) {
        block_in_place(|| each!(self, server => server.resume()));
    }
}

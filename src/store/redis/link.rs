//! One connection that is replaced when it is no good. Knows no keys.
//!
//! A connection on which an answer did not come in time is never used again: behind a network that
//! loses packets it would look open for many minutes. One attempt to connect is made at a time, for
//! all who wait, in a task of its own, so that no caller's impatience ends it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};

use super::demands::Demands;
use super::server::Server;
use crate::clock::deadline;
use crate::store::StoreError;

/// For how long after a failed attempt everybody is told so, before the next is made.
const PAUSE: Duration = Duration::from_millis(50);

/// Clones share the connection.
#[derive(Clone)]
pub(super) struct Link(Arc<Shared>);

struct Shared {
    server: Server,
    demands: Demands,
    /// The most that a call takes, and an attempt to connect.
    limit: Duration,
    state: Mutex<State>,
}

enum State {
    Closed,
    Opening(Attempt),
    Open(Connection),
}

/// What an attempt to connect came to. Nobody is at it any more when the other end is gone.
type Attempt = watch::Receiver<Option<Result<Connection, Failure>>>;

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{0}")]
    Redis(#[from] RedisError),
    #[error("the server is a replica; the store must be given the primary")]
    Replica,
    #[error("no answer within {0:?}")]
    Slow(Duration),
    #[error("the attempt to connect was given up")]
    GivenUp,
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Slow(limit) => Self::Timeout { store: "redis", limit },
            failure => Self::unavailable("redis", failure),
        }
    }
}

impl Failure {
    /// Whether a script must be sent by its text.
    fn is_unknown_script(&self) -> bool {
        self.is_server_error(ServerErrorKind::NoScript)
    }

    /// Whether the server became a replica.
    pub(super) fn is_of_a_replica(&self) -> bool {
        self.is_server_error(ServerErrorKind::ReadOnly)
    }

    /// Whether another connection may do better.
    fn is_of_the_connection(&self) -> bool {
        match self {
            Self::Slow(_) => true,
            Self::Redis(error) => error.is_io_error() || error.is_unrecoverable_error(),
            Self::Replica | Self::GivenUp => false,
        }
    }

    fn is_server_error(&self, kind: ServerErrorKind) -> bool {
        matches!(self, Self::Redis(error) if error.kind() == ErrorKind::Server(kind))
    }
}

impl Link {
    /// Connects when it is first needed.
    pub(super) fn new(server: Server, demands: Demands, limit: Duration) -> Self {
        Self(Arc::new(Shared { server, demands, limit, state: Mutex::new(State::Closed) }))
    }

    /// Goes on with a connection that is open, to a server that was judged.
    pub(super) fn with(self, connection: Connection) -> Self {
        *self.state() = State::Open(connection);
        self
    }

    /// How the server is reached.
    pub(super) fn server(&self) -> &Server {
        &self.0.server
    }

    /// When a call that begins now must have ended.
    pub(super) fn deadline(&self) -> Instant {
        deadline(self.0.limit)
    }

    /// Sends a command. Where the server does not know its script, sends the other one instead.
    pub(super) async fn ask<T: FromRedisValue>(
        &self,
        deadline: Instant,
        command: &Cmd,
        by_text: impl FnOnce() -> Option<Cmd>,
    ) -> Result<T, Failure> {
        let mut used = None;
        let asked = timeout_at(deadline, async {
            let connection = used.insert(self.connection().await?);
            let answer = connection.send(command).await;
            match (answer, by_text) {
                (Err(failure), by_text) if failure.is_unknown_script() => match by_text() {
                    Some(command) => connection.send(&command).await,
                    None => Err(failure),
                },
                (answer, _) => answer,
            }
        });
        let answer = asked.await.unwrap_or(Err(Failure::Slow(self.0.limit)));
        if let (Err(failure), Some(used)) = (&answer, used)
            && (failure.is_of_the_connection() || failure.is_of_a_replica())
        {
            self.replace(&used);
        }
        answer
    }

    /// Takes a new connection for what follows. What is under way on the old one goes on.
    pub(super) fn renew(&self) {
        *self.state() = State::Closed;
    }

    fn replace(&self, used: &Connection) {
        let mut state = self.state();
        if matches!(&*state, State::Open(open) if open.is(used)) {
            *state = State::Closed;
        }
    }

    async fn connection(&self) -> Result<Connection, Failure> {
        let mut attempt = {
            let mut state = self.state();
            match &*state {
                State::Open(open) if open.is_open() => return Ok(open.clone()),
                State::Opening(attempt) if attempt.has_changed().is_ok() => attempt.clone(),
                _ => {
                    let attempt = self.begin();
                    *state = State::Opening(attempt.clone());
                    attempt
                }
            }
        };
        let ended = attempt.wait_for(Option::is_some).await;
        ended.map_or(Err(Failure::GivenUp), |ended| ended.clone().unwrap_or(Err(Failure::GivenUp)))
    }

    fn begin(&self) -> Attempt {
        let (end, attempt) = watch::channel(None);
        let link = self.clone();
        tokio::spawn(async move {
            let Shared { server, demands, limit, .. } = &*link.0;
            let opened = server.open(*limit).await.map(|(connection, info)| {
                demands.report(&info);
                connection
            });
            let failed = opened.is_err();
            if let Ok(connection) = &opened {
                *link.state() = State::Open(connection.clone());
            }
            end.send_replace(Some(opened));
            if failed {
                sleep(PAUSE).await;
            }
        });
        attempt
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Only ever replaced whole.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection; clones share it, and it is closed with the last of them.
#[derive(Clone)]
pub(super) struct Connection {
    commands: MultiplexedConnection,
    driver: Arc<Driver>,
}

/// The task that writes commands and reads answers.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Connection {
    pub(super) fn new(
        commands: MultiplexedConnection,
        driver: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        Self { commands, driver: Arc::new(Driver(tokio::spawn(driver))) }
    }

    pub(super) async fn send<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Failure> {
        // Cloned because sending wants it mutable; it is a handle.
        Ok(command.query_async(&mut self.commands.clone()).await?)
    }

    fn is_open(&self) -> bool {
        !self.driver.0.is_finished()
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.driver, &other.driver)
    }
}

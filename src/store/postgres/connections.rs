//! A bounded number of connections, lent one at a time.
//!
//! Not the driver's own pool: that one asks the server after every use whether it is still there,
//! which costs as much as the lookup did, and which hangs with the server when it stops answering,
//! with the connection in hand. Here a connection comes back only when its user says that all went
//! well, and is closed otherwise; and whoever finds one dead throws away all that wait beside it.

use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::clock::deadline;
use crate::store::StoreError;

/// Connections to one server, for one purpose; clones share them.
#[derive(Clone)]
pub(super) struct Connections(Arc<Shared>);

struct Shared {
    options: PgConnectOptions,
    limit: Duration,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<PgConnection>>,
    /// Until when no connection is opened, because the last attempt failed.
    paused: Mutex<Option<Instant>>,
}

/// How long after such a try there is no other.
const PAUSE: Duration = Duration::from_millis(50);

impl Connections {
    pub(super) fn new(options: PgConnectOptions, most: u32, limit: Duration) -> Self {
        let permits = Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(1).max(1)));
        Self(Arc::new(Shared {
            options,
            limit,
            permits,
            idle: Mutex::default(),
            paused: Mutex::default(),
        }))
    }

    /// Runs one piece of work to its end or to the time limit, also when the caller goes away, so
    /// that no connection is left in the middle of something.
    pub(super) async fn within_limit<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, sqlx::Error>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let limit = self.0.limit;
        let connections = self.clone();
        let limited = async move {
            tokio::time::timeout(limit, work).await.map_err(|_| {
                connections.forget_idle();
                StoreError::Timeout { store: "postgres", limit }
            })
        };
        match tokio::spawn(limited).await {
            Ok(Ok(Err(sqlx::Error::PoolTimedOut))) => {
                Err(StoreError::Timeout { store: "postgres", limit })
            }
            Ok(ended) => ended?.map_err(unavailable),
            Err(stopped) => Err(StoreError::unavailable("postgres", stopped)),
        }
    }

    /// Lends a connection on which `first` was answered. A connection that died while it was idle
    /// is replaced by a new one, for nothing has happened yet.
    pub(super) async fn start(&self, first: String) -> Result<(Lent, Vec<PgRow>), sqlx::Error> {
        let permit = self.permit().await?;
        let lend = |connection| Lent { connection, connections: self.clone(), permit };
        // In a statement of its own: the lock must not be held while the connection is asked.
        let idle = self.idle().pop();
        if let Some(mut connection) = idle {
            match run(&mut connection, first.clone()).await {
                Ok(rows) => return Ok((lend(connection), rows)),
                Err(dead) if !is_an_answer(&dead) => self.forget_idle(),
                Err(refused) => return Err(refused),
            }
        }
        let mut connection = self.connect().await?;
        let rows = run(&mut connection, first).await?;
        Ok((lend(connection), rows))
    }

    /// The right to use a connection. Whoever would get it when most of the limit is over does not:
    /// the limit would end that use in the middle, and with it the connection, so that a server that
    /// is asked too much would soon do nothing but open connections.
    async fn permit(&self) -> Result<OwnedSemaphorePermit, sqlx::Error> {
        let permit = Arc::clone(&self.0.permits).acquire_owned();
        match tokio::time::timeout(self.0.limit / 4 * 3, permit).await {
            Ok(permit) => permit.map_err(|_| sqlx::Error::PoolClosed),
            Err(_) => Err(sqlx::Error::PoolTimedOut),
        }
    }

    /// How the server is reached.
    pub(super) fn options(&self) -> PgConnectOptions {
        self.0.options.clone()
    }

    /// Closes what is idle, and lends no more.
    pub(super) fn close(&self) {
        self.0.permits.close();
        self.forget_idle();
    }

    /// A new connection, unless the last try has just failed: a server that turns everybody away must
    /// not be asked once for every request.
    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let paused = || self.0.paused.lock().unwrap_or_else(PoisonError::into_inner);
        if paused().is_some_and(|until| deadline(Duration::ZERO) < until) {
            let why = "it has just been tried in vain to open a connection";
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, why).into());
        }
        let opened = self.open().await;
        *paused() = opened.is_err().then(|| deadline(PAUSE));
        opened
    }

    /// A new connection to a server that takes writes. A standby lags behind: what was deleted on
    /// the primary still lives there.
    async fn open(&self) -> Result<PgConnection, sqlx::Error> {
        let mut connection = self.0.options.connect().await?;
        let standby: bool = sqlx::Row::try_get(
            &sqlx::raw_sql("SELECT pg_is_in_recovery()").fetch_one(&mut connection).await?,
            0,
        )?;
        if standby {
            connection.close().await?;
            return Err(sqlx::Error::Configuration(
                "the server is a standby: connect to the primary".into(),
            ));
        }
        Ok(connection)
    }

    fn forget_idle(&self) {
        // Dropping a connection closes its socket; nothing is said to a server that may not listen.
        let forgotten = std::mem::take(&mut *self.idle());
        drop(forgotten);
    }

    fn idle(&self) -> MutexGuard<'_, Vec<PgConnection>> {
        // Pushing and popping leave a whole list whatever panicked elsewhere.
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection in use. Dropped, it is closed, and the server rolls back what it was in.
pub(super) struct Lent {
    connection: PgConnection,
    connections: Connections,
    permit: OwnedSemaphorePermit,
}

impl Lent {
    /// Gives it back for the next user. Only when every answer has come and no transaction is open.
    pub(super) fn give_back(self) {
        let Self { connection, connections, permit } = self;
        if !connections.0.permits.is_closed() {
            connections.idle().push(connection);
        }
        drop(permit);
    }
}

impl Deref for Lent {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

/// Runs statements as they are, in one message and without preparing them: right behind a pooler
/// that gives every transaction another connection. Their text holds nothing that came from outside.
pub(super) async fn run(
    connection: &mut PgConnection,
    statements: String,
) -> Result<Vec<PgRow>, sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(statements)).fetch_all(connection).await
}

/// Whether the server itself refused the statement, over a connection that goes on working. Class 08
/// is the connection's end, 57P01 to 57P05 are the server's.
fn is_an_answer(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else { return false };
    error.code().is_some_and(|code| !code.starts_with("08") && !code.starts_with("57P"))
}

pub(super) fn unavailable(error: sqlx::Error) -> StoreError {
    StoreError::unavailable("postgres", error)
}

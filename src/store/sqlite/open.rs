//! Opens the file: whose is it, which layout has it, and with which settings is it used.

use std::io;
use std::path::Path;
use std::time::Duration;

use sqlx::error::DatabaseError;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Connection as _};

use super::unavailable;
use crate::store::StoreError;

/// Each layout is reached from the one before it; the first from an empty file.
const LAYOUTS: &[&str] = &[
    include_str!("layout-1.sql"),
    include_str!("layout-2.sql"),
    include_str!("layout-3.sql"),
    include_str!("layout-4.sql"),
    include_str!("layout-5.sql"),
];

/// The newest layout, kept in the file's `user_version`.
const NEWEST: i64 = 5;
const _: () = assert!(LAYOUTS.len() == 5, "NEWEST counts the layouts");

/// Marks a file as this crate's, in its `application_id`: "akey".
const APPLICATION: i64 = 0x616b_6579;

/// How long a write waits for another process's write.
const BUSY: Duration = Duration::from_secs(5);

/// How long to pause where SQLite does not wait by itself.
const PAUSE: Duration = Duration::from_millis(10);

/// Connections for verification. Each has a thread of its own.
const READERS: u32 = 4;

/// Makes the file if there is none, refuses it if it is not ours or from the future, and brings it to
/// the newest layout, all before any setting of ours touches it.
pub(super) async fn open(path: &Path) -> Result<Pools, StoreError> {
    // Absolute, because SQLite takes `:memory:` and `file:…?mode=memory` for something else.
    let path = &std::path::absolute(path).map_err(|error| cannot_open(path, &error))?;
    create(path).map_err(|error| cannot_open(path, &error))?;
    let connection = settings(path).connect().await;
    let mut connection = connection.map_err(|error| cannot_open(path, &error))?;
    let pools = match prepare(&mut connection).await {
        // Opened before the first connection is closed: the last one to close a file cleans up
        // after itself, and whoever opens it then has to wait.
        Ok(()) => pools(path).await,
        Err(refused) => Err(refused),
    };
    connection.close().await.map_err(unavailable)?;
    pools
}

fn cannot_open(path: &Path, error: &dyn std::error::Error) -> StoreError {
    StoreError::unavailable("sqlite", format!("cannot open {}: {error}", path.display()))
}

async fn prepare(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    bring_up_to_date(connection).await?;
    write_ahead(connection).await
}

/// Turns on write-ahead mode, which the file then keeps. SQLite answers "busy" to this at once, where
/// elsewhere it waits, so the waiting is done here.
async fn write_ahead(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    for _ in 0..BUSY.as_millis() / PAUSE.as_millis() {
        match sqlx::raw_sql("PRAGMA journal_mode = WAL").execute(&mut *connection).await {
            Err(sqlx::Error::Database(error)) if is_busy(&*error) => {
                tokio::time::sleep(PAUSE).await;
            }
            answered => return answered.map(drop).map_err(unavailable),
        }
    }
    Err(StoreError::Timeout { store: "sqlite", limit: BUSY })
}

/// `SQLITE_BUSY`, whatever its extended code says more.
fn is_busy(error: &dyn DatabaseError) -> bool {
    error.code().and_then(|code| code.parse::<i32>().ok()).is_some_and(|code| code & 0xff == 5)
}

async fn bring_up_to_date(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(unavailable)?;
    let layout = layout(&mut transaction).await?;
    let done = usize::try_from(layout).unwrap_or(0);
    for step in &LAYOUTS[done..] {
        sqlx::raw_sql(*step).execute(&mut *transaction).await.map_err(unavailable)?;
    }
    if done < LAYOUTS.len() {
        let marks =
            format!("PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {NEWEST};");
        sqlx::raw_sql(sqlx::AssertSqlSafe(marks))
            .execute(&mut *transaction)
            .await
            .map_err(unavailable)?;
    }
    transaction.commit().await.map_err(unavailable)
}

/// The layout that the file has, 0 for an empty one.
async fn layout(connection: &mut SqliteConnection) -> Result<i64, StoreError> {
    let (application, layout, tables): (i64, i64, i64) = sqlx::query_as(
        "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema)
         FROM pragma_application_id, pragma_user_version",
    )
    .fetch_one(connection)
    .await
    .map_err(unavailable)?;
    let foreign = |what| Err(StoreError::Foreign { store: "sqlite", what });
    match (application, layout, tables) {
        (0, 0, 0) => Ok(0),
        (APPLICATION, 1..=NEWEST, _) => Ok(layout),
        (APPLICATION, found, _) if found > NEWEST => {
            Err(StoreError::Newer { store: "sqlite", found, known: NEWEST })
        }
        _ => foreign("the file is the database of another application"),
    }
}

/// Only its owner may read a new file; SQLite gives the files that it puts beside it the same rights.
fn create(path: &Path) -> io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        opened => opened.map(drop),
    }
}

/// The connections for verification, which cannot write, the one for management, and those for what
/// replicas tell each other, who must wait neither for lookups nor for what management has to do.
pub(super) struct Pools {
    pub(super) verification: SqlitePool,
    pub(super) management: SqlitePool,
    pub(super) renewal: SqlitePool,
    pub(super) replicas: SqlitePool,
}

async fn pools(path: &Path) -> Result<Pools, StoreError> {
    // A commit returns when it is on the disk.
    let durable = settings(path).synchronous(SqliteSynchronous::Full);
    let reading = durable.clone().pragma("query_only", "ON");
    Ok(Pools {
        // What is overwritten is wiped: the digest of an ended secret leaves the file.
        management: pool(1, durable.clone().pragma("secure_delete", "ON")).await?,
        verification: pool(READERS, reading.clone()).await?,
        renewal: pool(1, durable).await?,
        replicas: pool(1, reading).await?,
    })
}

fn settings(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(path).busy_timeout(BUSY).disable_statement_logging()
}

async fn pool(connections: u32, options: SqliteConnectOptions) -> Result<SqlitePool, StoreError> {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .min_connections(1)
        .acquire_timeout(BUSY)
        .idle_timeout(None)
        .max_lifetime(None)
        // A connection to a file does not go stale, and the test would cost as much as the lookup.
        .test_before_acquire(false)
        // After a full disk SQLite has rolled back by itself, and the driver still counts an open
        // transaction, and would refuse every other one: such a connection is closed.
        .after_release(|connection, _| {
            Box::pin(async move {
                connection.ping().await?;
                Ok(!connection.is_in_transaction())
            })
        })
        .connect_with(options)
        .await
        .map_err(unavailable)
}

//! The roll of the replicas, and what tells them that something was written.

use std::time::Duration;

use sqlx::postgres::{PgConnection, PgListener, PgPoolOptions, PgRow};
use sqlx::{AssertSqlSafe, Row as _};

use super::connections::{Connections, run};
use super::statements::{changed, is_enrolled_and_changes};
use super::transaction::{CHANNEL, Milliseconds};
use super::{PostgresStore, row};
use crate::store::{Changes, Enrolled, ReplicaId, Roll, SharedRegistry, StoreError, Version};

/// How long after a listener's connection was lost, or could not be made, there is another try.
const PAUSE: Duration = Duration::from_secs(1);

/// What the listener's connection is marked by.
const MARK: &str = "tower_api_key.connection";

/// After this time the connection is made anew: one that has died without a word says as much as one on
/// which nothing happens.
const WATCHING: Duration = Duration::from_mins(5);

/// How often the server is asked where nobody may listen.
const POLL: Duration = Duration::from_millis(100);

/// On connections of its own: a replica that lost its lease because the store is busy would ask it the more.
#[async_trait::async_trait]
impl SharedRegistry for PostgresStore {
    async fn enrol(&self, replica: ReplicaId) -> Result<(), StoreError> {
        self.write_on(&self.replicas, async move |mut transaction| {
            enrol(&mut transaction, replica).await?;
            transaction.end(()).await
        })
        .await
    }

    async fn renew(
        &self,
        replica: ReplicaId,
        applied: Version,
    ) -> Result<Option<Changes>, StoreError> {
        let (connections, limit) = (self.renewal.clone(), self.limit);
        let renew = async move { renew(&connections, limit, replica, applied).await };
        self.renewal.within_limit(renew).await
    }

    async fn withdraw(&self, replicas: &[ReplicaId]) -> Result<(), StoreError> {
        let replicas = replicas.to_vec();
        self.write_on(&self.replicas, async move |mut transaction| {
            withdraw(&mut transaction, &replicas).await?;
            transaction.end(()).await
        })
        .await
    }

    async fn roll(&self) -> Result<Roll, StoreError> {
        let (connections, limit) = (self.replicas.clone(), self.limit);
        let roll = async move { roll(&connections, limit).await };
        self.replicas.within_limit(roll).await
    }

    async fn suspect(&self, replicas: &[ReplicaId]) -> Result<(), StoreError> {
        let replicas = replicas.to_vec();
        self.write_on(&self.replicas, async move |mut transaction| {
            suspect(&mut transaction, &replicas).await?;
            transaction.end(()).await
        })
        .await
    }

    async fn watch(&self, wake: &(dyn Fn() + Send + Sync)) {
        watch(&self.replicas, wake).await;
    }
}

async fn enrol(connection: &mut PgConnection, replica: ReplicaId) -> Result<(), sqlx::Error> {
    let enrol = format!(
        "INSERT INTO tower_api_key.replicas VALUES (decode('{replica}', 'hex'), 0, false)
         ON CONFLICT DO NOTHING"
    );
    run(connection, enrol).await.map(drop)
}

/// All in one message. What it notes may be lost in a crash: the store then takes the replica for
/// slower than it is.
async fn renew(
    connections: &Connections,
    limit: Milliseconds,
    replica: ReplicaId,
    applied: Version,
) -> Result<Option<Changes>, sqlx::Error> {
    let version = number(applied);
    // Where there is nothing to note, nothing is written.
    let renew = format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED;
         SET LOCAL statement_timeout = {limit};
         SET LOCAL synchronous_commit = off;
         UPDATE tower_api_key.replicas SET applied = {version}
         WHERE id = decode('{replica}', 'hex') AND NOT is_suspected AND applied <> {version}
           AND {version} <= (SELECT version FROM tower_api_key.latest);
         {};
         COMMIT",
        is_enrolled_and_changes(replica, applied)
    );
    let (lent, rows) = connections.start(renew).await?;
    lent.give_back();
    let first = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    if !first.try_get::<bool, _>("is_enrolled")? {
        return Ok(None);
    }
    changed(&rows, applied).map(Some)
}

async fn withdraw(
    connection: &mut PgConnection,
    replicas: &[ReplicaId],
) -> Result<(), sqlx::Error> {
    lock(connection, replicas).await?;
    let withdraw = format!("DELETE FROM tower_api_key.replicas WHERE {}", is_one_of(replicas));
    run(connection, withdraw).await.map(drop)
}

/// All in one message, too.
async fn roll(connections: &Connections, limit: Milliseconds) -> Result<Roll, sqlx::Error> {
    let roll = format!(
        "SET LOCAL statement_timeout = {limit};
         SELECT latest.version, encode(id, 'hex') AS id, applied, is_suspected
         FROM tower_api_key.latest LEFT JOIN tower_api_key.replicas ON true"
    );
    let (lent, rows) = connections.start(roll).await?;
    lent.give_back();
    let first = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let version = row::version(first.try_get("version")?);
    let mut replicas = Vec::new();
    for one in &rows {
        replicas.extend(enrolled(one)?);
    }
    Ok(Roll { version, replicas })
}

fn enrolled(one: &PgRow) -> Result<Option<Enrolled>, sqlx::Error> {
    let Some(id) = one.try_get::<Option<&str>, _>("id")? else { return Ok(None) };
    let mut bytes = [0; 16];
    hex::decode_to_slice(id, &mut bytes)
        .map_err(|damage| sqlx::Error::Decode(damage.to_string().into()))?;
    Ok(Some(Enrolled {
        id: ReplicaId::from_bytes(bytes),
        applied: row::version(one.try_get("applied")?),
        is_suspected: one.try_get("is_suspected")?,
    }))
}

async fn suspect(connection: &mut PgConnection, replicas: &[ReplicaId]) -> Result<(), sqlx::Error> {
    lock(connection, replicas).await?;
    let suspect = format!(
        "UPDATE tower_api_key.replicas SET is_suspected = true WHERE {} AND NOT is_suspected",
        is_one_of(replicas)
    );
    run(connection, suspect).await.map(drop)
}

/// Always in one order: of two that do this at once, neither waits for the other's end.
async fn lock(connection: &mut PgConnection, replicas: &[ReplicaId]) -> Result<(), sqlx::Error> {
    let lock = format!(
        "SELECT FROM tower_api_key.replicas WHERE {} ORDER BY id FOR UPDATE",
        is_one_of(replicas)
    );
    run(connection, lock).await.map(drop)
}

fn is_one_of(replicas: &[ReplicaId]) -> String {
    let replicas: Vec<_> =
        replicas.iter().map(|replica| format!("decode('{replica}', 'hex')")).collect();
    format!("id = ANY (ARRAY[{}]::bytea[])", replicas.join(", "))
}

/// Listens on a connection of its own. Behind a pooler, asks from time to time: whoever listens there does
/// so on a connection that others get next, and breaks theirs.
async fn watch(connections: &Connections, wake: &(dyn Fn() + Send + Sync)) {
    let marked = connections.options().options([(MARK, "direct")]);
    let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(marked);
    loop {
        let _ = tokio::time::timeout(WATCHING, async {
            match PgListener::connect_with(&pool).await {
                Ok(mut listener) => match is_direct(&mut listener).await {
                    Ok(true) => listen(listener, wake).await,
                    Ok(false) => poll(connections, wake).await,
                    Err(_) => {}
                },
                // It does not know the mark.
                Err(sqlx::Error::Database(_)) => poll(connections, wake).await,
                Err(_) => {}
            }
        })
        .await;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether the server has what was said at the beginning of the connection. A pooler swallows that.
async fn is_direct(listener: &mut PgListener) -> Result<bool, sqlx::Error> {
    let mark = format!("SELECT current_setting('{MARK}', true)");
    let mark: Option<String> =
        sqlx::raw_sql(AssertSqlSafe(mark)).fetch_one(listener).await?.try_get(0)?;
    Ok(mark.as_deref() == Some("direct"))
}

/// Until the connection is lost.
async fn listen(mut listener: PgListener, wake: &(dyn Fn() + Send + Sync)) {
    if listener.listen(CHANNEL).await.is_ok() {
        // What was written while nobody listened.
        wake();
        while let Ok(Some(_)) = listener.try_recv().await {
            wake();
        }
    }
}

async fn poll(connections: &Connections, wake: &(dyn Fn() + Send + Sync)) {
    let mut known = None;
    loop {
        let lender = connections.clone();
        let latest = connections.within_limit(async move {
            let latest = "SELECT version FROM tower_api_key.latest";
            let (lent, rows) = lender.start(latest.to_owned()).await?;
            lent.give_back();
            rows.first().ok_or(sqlx::Error::RowNotFound)?.try_get::<i64, _>("version")
        });
        if let Ok(latest) = latest.await
            && known.replace(latest) != Some(latest)
        {
            wake();
        }
        tokio::time::sleep(POLL).await;
    }
}

/// A version as SQL counts; one that is beyond that is beyond every store's.
fn number(version: Version) -> i64 {
    i64::try_from(version.get()).unwrap_or(i64::MAX)
}

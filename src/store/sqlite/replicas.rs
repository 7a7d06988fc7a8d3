//! The roll of the replicas: the processes of one machine that share a file.

use std::time::Duration;

use sqlx::{Connection as _, Row as _, SqlitePool};

use super::{SqliteStore, changes, row, to_the_end};
use crate::store::{Changes, Enrolled, ReplicaId, Roll, SharedRegistry, StoreError, Version};

/// How often the file is asked whether something was written: nobody tells.
const PAUSE: Duration = Duration::from_millis(20);

#[async_trait::async_trait]
impl SharedRegistry for SqliteStore {
    async fn enrol(&self, replica: ReplicaId) -> Result<(), StoreError> {
        let pool = self.management.clone();
        to_the_end(async move { enrol(&pool, replica).await }).await
    }

    async fn renew(
        &self,
        replica: ReplicaId,
        applied: Version,
    ) -> Result<Option<Changes>, StoreError> {
        let pool = self.renewal.clone();
        to_the_end(async move { renew(&pool, replica, applied).await }).await
    }

    async fn withdraw(&self, replicas: &[ReplicaId]) -> Result<(), StoreError> {
        let (pool, replicas) = (self.management.clone(), replicas.to_vec());
        to_the_end(async move { withdraw(&pool, &replicas).await }).await
    }

    async fn roll(&self) -> Result<Roll, StoreError> {
        let pool = self.replicas.clone();
        to_the_end(async move { roll(&pool).await }).await
    }

    async fn suspect(&self, replicas: &[ReplicaId]) -> Result<(), StoreError> {
        let (pool, replicas) = (self.management.clone(), replicas.to_vec());
        to_the_end(async move { suspect(&pool, &replicas).await }).await
    }

    async fn watch(&self, wake: &(dyn Fn() + Send + Sync)) {
        watch(&self.replicas, wake).await;
    }
}

async fn enrol(pool: &SqlitePool, replica: ReplicaId) -> Result<(), sqlx::Error> {
    let enrol = "INSERT INTO replicas VALUES (?1, 0, 0) ON CONFLICT DO NOTHING";
    sqlx::query(enrol).bind(replica.as_bytes().as_slice()).execute(pool).await?;
    Ok(())
}

/// Writes only where there is something to note.
async fn renew(
    pool: &SqlitePool,
    replica: ReplicaId,
    applied: Version,
) -> Result<Option<Changes>, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let mut transaction = connection.begin().await?;
    let enrolled = "SELECT applied FROM replicas WHERE id = ?1 AND NOT is_suspected";
    let noted: Option<i64> = sqlx::query_scalar(enrolled)
        .bind(replica.as_bytes().as_slice())
        .fetch_optional(&mut *transaction)
        .await?;
    let Some(noted) = noted else { return Ok(None) };
    let changes = changes(&mut transaction, applied).await?;
    transaction.commit().await?;
    if noted != number(applied) && applied <= changes.latest() {
        let note = "UPDATE replicas SET applied = ?2 WHERE id = ?1 AND NOT is_suspected";
        let note = sqlx::query(note).bind(replica.as_bytes().as_slice());
        note.bind(number(applied)).execute(&mut *connection).await?;
    }
    Ok(Some(changes))
}

async fn withdraw(pool: &SqlitePool, replicas: &[ReplicaId]) -> Result<(), sqlx::Error> {
    for replica in replicas {
        let withdraw = sqlx::query("DELETE FROM replicas WHERE id = ?1");
        withdraw.bind(replica.as_bytes().as_slice()).execute(pool).await?;
    }
    Ok(())
}

async fn roll(pool: &SqlitePool) -> Result<Roll, sqlx::Error> {
    let roll = "SELECT version, id, applied, is_suspected FROM latest LEFT JOIN replicas ON true";
    let rows = sqlx::query(roll).fetch_all(pool).await?;
    let first = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let version = row::version(first.try_get("version")?);
    let mut replicas = Vec::new();
    for one in &rows {
        let Some(id) = one.try_get::<Option<Vec<u8>>, _>("id")? else { continue };
        let id = id.try_into().map_err(|_| sqlx::Error::Decode("a replica's id".into()))?;
        replicas.push(Enrolled {
            id: ReplicaId::from_bytes(id),
            applied: row::version(one.try_get("applied")?),
            is_suspected: one.try_get("is_suspected")?,
        });
    }
    Ok(Roll { version, replicas })
}

async fn suspect(pool: &SqlitePool, replicas: &[ReplicaId]) -> Result<(), sqlx::Error> {
    for replica in replicas {
        let suspect = sqlx::query("UPDATE replicas SET is_suspected = 1 WHERE id = ?1");
        suspect.bind(replica.as_bytes().as_slice()).execute(pool).await?;
    }
    Ok(())
}

async fn watch(pool: &SqlitePool, wake: &(dyn Fn() + Send + Sync)) {
    let mut known = None;
    loop {
        let latest = sqlx::query_scalar::<_, i64>("SELECT version FROM latest").fetch_one(pool);
        if let Ok(latest) = latest.await
            && known.replace(latest) != Some(latest)
        {
            wake();
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// A version as SQL counts; one that is beyond that is beyond every store's.
fn number(version: Version) -> i64 {
    i64::try_from(version.get()).unwrap_or(i64::MAX)
}

//! Keys in one SQLite file. Knows no other store, no verification and no HTTP.

mod open;
mod replicas;
mod row;
mod statements;
mod usage;

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use sqlx::sqlite::SqlitePool;
use sqlx::{Sqlite, Transaction};

use self::open::Pools;
use self::row::columns;
use self::statements::{active, changes, end, file, live, note, supersede};
use super::{
    Changes, Day, Found, KeyRegistry, KeyStore, KeyUsage, Looks, Lookup, NewSecret, StoreError,
    Use, Version, Written, fleet,
};
use crate::digest::{Fingerprint, KeyDigest};
use crate::record::{AccountId, EndCause, KeyId, KeyName, KeyRecord};

/// Keys in one SQLite file; clones share it.
///
/// ```no_run
/// use tower_api_key::{ApiKeyLayer, KeyManager, SqliteStore};
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = SqliteStore::open("keys.db").await?;
/// let manager = KeyManager::new(store.clone(), "acme".parse()?);
/// let layer = ApiKeyLayer::new(store);
/// # Ok(()) }
/// ```
///
/// Verification, management and what [replicas](crate::docs::replicas) tell each other use connections
/// of their own, seven in all, and the ones for verification cannot write. A write that has begun is
/// finished in the background when its future is dropped.
///
/// For one machine: any number of processes may share the file, none over a network file system.
/// What a write has returned is on the disk (`synchronous=FULL` in write-ahead mode): neither
/// `kill -9` nor a power cut loses a key that was shown or revives one that was deleted.
///
/// While it is open, part of the file's content is in two more beside it, `-wal` and `-shm`. Back up
/// with SQLite's own `VACUUM INTO` or `.backup`, or [`close`](SqliteStore::close) the store first; a
/// plain copy of the one file lacks the latest keys.
///
/// A row that cannot be read (a damaged disk, an edit by hand) is passed over with an error event in
/// the log, as if it were not there; it still counts towards the cap, and deleting it works.
///
/// SQLite is linked in statically; an application that also uses `rusqlite` must use a version that
/// links the same `libsqlite3-sys` as `sqlx` does.
#[derive(Clone, Debug)]
pub struct SqliteStore {
    verification: SqlitePool,
    management: SqlitePool,
    renewal: SqlitePool,
    replicas: SqlitePool,
    looks: Arc<Looks>,
}

impl SqliteStore {
    /// Opens a file, and makes it (readable by its owner only) if there is none. A file of an older
    /// layout is brought to the newest: processes of the version before go on, and cannot be started anew. Of
    /// millions of keys that takes seconds, in which others do not write; after five they fail.
    ///
    /// # Errors
    ///
    /// [`Newer`](StoreError::Newer) for a file that a newer version wrote,
    /// [`Foreign`](StoreError::Foreign) for the database of another application, both left as they
    /// are; [`Unavailable`](StoreError::Unavailable) when it cannot be opened.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let Pools { verification, management, renewal, replicas } =
            open::open(path.as_ref()).await?;
        Ok(Self { verification, management, renewal, replicas, looks: Arc::default() })
    }

    /// Closes the file; what is under way is finished first. Later calls fail.
    pub async fn close(&self) {
        self.verification.close().await;
        self.replicas.close().await;
        self.renewal.close().await;
        self.management.close().await;
    }
}

impl KeyStore for SqliteStore {
    fn find(&self, fingerprint: Fingerprint) -> Lookup {
        let pool = self.verification.clone();
        Lookup::waiting(async move { find(&pool, fingerprint).await })
    }
}

async fn find(pool: &SqlitePool, fingerprint: Fingerprint) -> Found {
    let row = sqlx::query(concat!("SELECT ", columns!(), " FROM secrets WHERE fingerprint = ?1"))
        .bind(fingerprint.as_bytes().as_slice())
        .fetch_optional(pool)
        .await;
    Ok(row.map_err(unavailable)?.as_ref().and_then(row::entry))
}

#[async_trait::async_trait]
impl KeyRegistry for SqliteStore {
    async fn insert(
        &self,
        record: Arc<KeyRecord>,
        limit: usize,
    ) -> Result<Written<()>, StoreError> {
        let pool = self.management.clone();
        to_the_end(async move {
            let mut transaction = begin(&pool).await?;
            if active(&mut transaction, &record.account, record.created_at).await? >= limit {
                return Ok(Written::Refused);
            }
            if !file(&mut transaction, &record).await? {
                return Ok(Written::Taken);
            }
            note(&mut transaction, &[record.fingerprint()]).await?;
            transaction.commit().await?;
            Ok(Written::Done(()))
        })
        .await
    }

    async fn insert_first(&self, record: Arc<KeyRecord>) -> Result<Written<()>, StoreError> {
        let pool = self.management.clone();
        to_the_end(async move {
            let mut transaction = begin(&pool).await?;
            let ever = sqlx::query("SELECT 1 FROM secrets WHERE account = ?1 LIMIT 1")
                .bind(record.account.as_str())
                .fetch_optional(&mut *transaction)
                .await?;
            if ever.is_some() {
                return Ok(Written::Refused);
            }
            if !file(&mut transaction, &record).await? {
                return Ok(Written::Taken);
            }
            note(&mut transaction, &[record.fingerprint()]).await?;
            transaction.commit().await?;
            Ok(Written::Done(()))
        })
        .await
    }

    async fn list(&self, account: &AccountId) -> Result<Vec<Arc<KeyRecord>>, StoreError> {
        let rows = sqlx::query(concat!(
            "SELECT ",
            columns!(),
            " FROM secrets INDEXED BY live_secrets_of_account
             WHERE account = ?1 AND digest IS NOT NULL ORDER BY created_at, key_id"
        ))
        .bind(account.as_str())
        .fetch_all(&self.management)
        .await;
        Ok(rows.map_err(unavailable)?.iter().filter_map(row::live).collect())
    }

    async fn get(
        &self,
        account: &AccountId,
        id: &KeyId,
    ) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        let mut connection = self.management.acquire().await.map_err(unavailable)?;
        live(&mut connection, account, id).await.map_err(unavailable)
    }

    async fn rename(
        &self,
        account: &AccountId,
        id: &KeyId,
        name: KeyName,
    ) -> Result<Written<Arc<KeyRecord>>, StoreError> {
        let (pool, account, id) = (self.management.clone(), account.clone(), id.clone());
        to_the_end(async move {
            let mut transaction = begin(&pool).await?;
            sqlx::query(
                "UPDATE secrets INDEXED BY live_key_ids SET name = ?3
                 WHERE account = ?1 AND key_id = ?2 AND digest IS NOT NULL",
            )
            .bind(account.as_str())
            .bind(id.as_str())
            .bind(name.as_str())
            .execute(&mut *transaction)
            .await?;
            let Some(record) = live(&mut transaction, &account, &id).await? else {
                return Ok(Written::NotFound);
            };
            note(&mut transaction, &[record.fingerprint()]).await?;
            transaction.commit().await?;
            Ok(Written::Done(record))
        })
        .await
    }

    async fn replace(
        &self,
        account: &AccountId,
        id: &KeyId,
        secret: NewSecret,
        at: SystemTime,
    ) -> Result<Written<Arc<KeyRecord>>, StoreError> {
        let (pool, account, id) = (self.management.clone(), account.clone(), id.clone());
        to_the_end(async move {
            let mut transaction = begin(&pool).await?;
            let Some(old) = live(&mut transaction, &account, &id).await? else {
                return Ok(Written::NotFound);
            };
            if old.replaced_by.is_some() {
                return Ok(Written::Superseded);
            }
            end(&mut transaction, &account, Some(&id), EndCause::Regenerated, at).await?;
            let NewSecret { digest, hint } = secret;
            let record = Arc::new(KeyRecord { hint, digest, ..(*old).clone() });
            if !file(&mut transaction, &record).await? {
                return Ok(Written::Taken);
            }
            note(&mut transaction, &[old.fingerprint(), record.fingerprint()]).await?;
            transaction.commit().await?;
            Ok(Written::Done(record))
        })
        .await
    }

    async fn rehash(
        &self,
        account: &AccountId,
        id: &KeyId,
        old: Fingerprint,
        digest: KeyDigest,
        at: SystemTime,
    ) -> Result<Written<Arc<KeyRecord>>, StoreError> {
        let (pool, account, id) = (self.management.clone(), account.clone(), id.clone());
        to_the_end(async move {
            let mut transaction = begin(&pool).await?;
            let record = live(&mut transaction, &account, &id).await?;
            let Some(record) = record.filter(|record| record.fingerprint() == old) else {
                return Ok(Written::NotFound);
            };
            end(&mut transaction, &account, Some(&id), EndCause::Rehashed, at).await?;
            let rehashed = Arc::new(KeyRecord { digest, ..(*record).clone() });
            if !file(&mut transaction, &rehashed).await? {
                return Ok(Written::Taken);
            }
            note(&mut transaction, &[old, rehashed.fingerprint()]).await?;
            transaction.commit().await?;
            Ok(Written::Done(rehashed))
        })
        .await
    }

    async fn rotate(
        &self,
        account: &AccountId,
        id: &KeyId,
        successor: Arc<KeyRecord>,
        grace_ends: Option<SystemTime>,
        limit: usize,
    ) -> Result<Written<()>, StoreError> {
        let (pool, account, id) = (self.management.clone(), account.clone(), id.clone());
        to_the_end(async move {
            let mut transaction = begin(&pool).await?;
            let old = live(&mut transaction, &account, &id).await?;
            let Some(old) = old.filter(|_| successor.account == account) else {
                return Ok(Written::NotFound);
            };
            if old.replaced_by.is_some() {
                return Ok(Written::Superseded);
            }
            supersede(&mut transaction, &old, &successor, grace_ends).await?;
            if active(&mut transaction, &account, successor.created_at).await? >= limit {
                return Ok(Written::Refused);
            }
            if !file(&mut transaction, &successor).await? {
                return Ok(Written::Taken);
            }
            note(&mut transaction, &[old.fingerprint(), successor.fingerprint()]).await?;
            transaction.commit().await?;
            Ok(Written::Done(()))
        })
        .await
    }

    async fn delete(
        &self,
        account: &AccountId,
        id: &KeyId,
        at: SystemTime,
    ) -> Result<Written<()>, StoreError> {
        let (pool, account, id) = (self.management.clone(), account.clone(), id.clone());
        to_the_end(async move {
            let mut transaction = begin(&pool).await?;
            let ended = end(&mut transaction, &account, Some(&id), EndCause::Deleted, at).await?;
            if ended.is_empty() {
                return Ok(Written::NotFound);
            }
            note(&mut transaction, &ended).await?;
            transaction.commit().await?;
            Ok(Written::Done(()))
        })
        .await
    }

    async fn delete_all(&self, account: &AccountId, at: SystemTime) -> Result<usize, StoreError> {
        let (pool, account) = (self.management.clone(), account.clone());
        to_the_end(async move {
            let mut transaction = begin(&pool).await?;
            let ended = end(&mut transaction, &account, None, EndCause::Deleted, at).await?;
            if !ended.is_empty() {
                note(&mut transaction, &ended).await?;
                transaction.commit().await?;
            }
            Ok(ended.len())
        })
        .await
    }

    async fn mark_used(&self, uses: &[Use]) -> Result<(), StoreError> {
        let (pool, uses) = (self.management.clone(), uses.to_vec());
        to_the_end(async move {
            let mut transaction = begin(&pool).await?;
            for used in &uses {
                usage::mark_used(&mut transaction, used).await?;
            }
            transaction.commit().await
        })
        .await
    }

    async fn usage(&self, account: &AccountId, since: Day) -> Result<Vec<KeyUsage>, StoreError> {
        let mut connection = self.management.acquire().await.map_err(unavailable)?;
        usage::usage(&mut connection, account, since).await.map_err(unavailable)
    }

    async fn changes(&self, since: Version) -> Result<Changes, StoreError> {
        let pool = self.management.clone();
        to_the_end(async move {
            let mut transaction = pool.begin().await?;
            changes(&mut transaction, since).await
        })
        .await
    }

    async fn settle(&self) {
        fleet::settle(self, &self.looks).await;
    }
}

/// Takes the write lock first, so that what the transaction reads stays true until it commits.
async fn begin(pool: &SqlitePool) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
    pool.begin_with("BEGIN IMMEDIATE").await
}

/// Runs a write to its end even when the caller goes away: what has begun is then committed or
/// rolled back whole, and its connection comes back clean.
async fn to_the_end<T: Send + 'static>(
    write: impl Future<Output = Result<T, sqlx::Error>> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::spawn(write).await {
        Ok(written) => written.map_err(unavailable),
        Err(stopped) => Err(StoreError::unavailable("sqlite", stopped)),
    }
}

fn unavailable(error: sqlx::Error) -> StoreError {
    StoreError::unavailable("sqlite", error)
}

#[cfg(test)]
mod tests;

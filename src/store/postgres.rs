//! Keys in PostgreSQL, 15 and later. Knows no other store, no verification and no HTTP.

mod connections;
mod open;
mod options;
mod replicas;
mod row;
mod statements;
mod transaction;
mod usage;

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use self::connections::Connections;
pub use self::options::PostgresOptions;
use self::transaction::{Milliseconds, Transaction};
use super::{
    Changes, Day, KeyRegistry, KeyStore, KeyUsage, Looks, Lookup, NewSecret, StoreError, Use,
    Version, Written, fleet,
};
use crate::digest::{Fingerprint, KeyDigest};
use crate::record::{AccountId, EndCause, KeyId, KeyName, KeyRecord};

/// How many uses are noted in one transaction.
const USES_AT_ONCE: usize = 500;

/// Keys in PostgreSQL; clones share the connections.
///
/// ```no_run
/// use tower_api_key::{ApiKeyLayer, KeyManager, PostgresStore};
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = PostgresStore::connect("postgres://keys@db.internal/app?sslmode=verify-full").await?;
/// let manager = KeyManager::new(store.clone(), "acme".parse()?);
/// let layer = ApiKeyLayer::new(store);
/// # Ok(()) }
/// ```
///
/// A call that has begun goes on when its future is dropped, to its end or to the time limit.
///
/// For any number of processes on any number of machines. The tables are in a schema of their own,
/// `tower_api_key`, which the first to connect makes; its role needs `CREATE` on the database for
/// that, or an empty schema of that name that it owns, and afterwards `SELECT`, `INSERT`, `UPDATE` and
/// `DELETE` on the tables in it. A version of this crate with newer tables changes them when it first
/// connects, which their owner must do; a role with those four rights alone then needs them on the new
/// tables, too. Processes of the version before go on, and cannot be started anew. Their lookups wait for a
/// tenth of a second at the most, and are then let through before the next try, so that a table that is in
/// use all the time, by a backup perhaps, ends in a [`StoreError::Timeout`] of whoever connects, after half a
/// minute. While an index is made of many rows, writes wait, and may run out of their time limit. Where one
/// takes longer than that half minute, make it beforehand, by hand: with both statements of `layout-4.sql`
/// in this crate's sources, and `CONCURRENTLY` in the place of `IF NOT EXISTS`. Should one fail, PostgreSQL
/// keeps an index that is not whole, and it would be taken for made: `DROP INDEX tower_api_key.…` first.
///
/// **Durability.** What a write has returned is on the disk of the primary, whatever
/// `synchronous_commit` is by default (a stronger setting stays), so neither `kill -9` nor a power cut
/// of the server loses a key that was shown or revives one that was deleted. With
/// `synchronous_standby_names` set it is on the standby, too, and survives a failover to it. Without,
/// a failover loses the last moments: what was deleted in them **works again**, so delete it again.
/// `fsync = off` voids all of this.
///
/// **Which server.** Verification reads from the primary: a standby lags, and would accept what was
/// deleted. A server in recovery is refused when the connection is made.
///
/// **Poolers.** Nothing relies on the session: transactions hold every lock, no statement stays
/// prepared, no setting outlives its transaction. PgBouncer may be in transaction mode.
///
/// **Time.** Every call ends within a limit (500 ms, see [`PostgresOptions`]), or is
/// [`StoreError::Timeout`]: a write may then have happened or not. Verification has connections of its
/// own, so that a flood of lookups does not hold up a deletion, nor the other way round. A lookup is
/// one round trip.
///
/// All writes of a store share one row for their version, so that they commit one after the other:
/// about as many a second as the server's disk flushes.
///
/// A digest is overwritten when its secret ends, and leaves the table's file with the next `VACUUM`.
/// A row that cannot be read (an edit by hand) is passed over with an error event in the log, as if it were
/// not there; it still counts towards the cap, and deleting it works.
#[derive(Clone)]
pub struct PostgresStore {
    verification: Connections,
    management: Connections,
    renewal: Connections,
    replicas: Connections,
    looks: Arc<Looks>,
    limit: Milliseconds,
}

impl PostgresStore {
    /// Connects with default [options](PostgresOptions), and makes the tables if there are none.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](StoreError::Unavailable) when the server cannot be reached, does not let us in
    /// or is a standby; [`Newer`](StoreError::Newer) when a newer version of this crate made the
    /// tables, [`Foreign`](StoreError::Foreign) when the schema is another application's.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        PostgresOptions::new(url)?.connect().await
    }

    /// Closes the connections; what is under way is finished first. Later calls fail.
    pub fn close(&self) {
        self.verification.close();
        self.management.close();
        self.renewal.close();
        self.replicas.close();
    }

    /// Runs a write, which commits or undoes what it has begun, to its end.
    async fn write<T, W>(
        &self,
        write: impl FnOnce(Transaction) -> W + Send + 'static,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, sqlx::Error>> + Send,
    {
        self.write_on(&self.management, write).await
    }

    async fn write_on<T, W>(
        &self,
        connections: &Connections,
        write: impl FnOnce(Transaction) -> W + Send + 'static,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, sqlx::Error>> + Send,
    {
        let (lent, limit) = (connections.clone(), self.limit);
        let whole = async move { write(Transaction::begin(&lent, limit).await?).await };
        connections.within_limit(whole).await
    }

    /// Runs a read over one of these connections.
    async fn read<T, R>(
        &self,
        connections: &Connections,
        read: impl FnOnce(Transaction) -> R + Send + 'static,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        R: Future<Output = Result<T, sqlx::Error>> + Send,
    {
        let (lent, limit) = (connections.clone(), self.limit);
        let whole = async move { read(Transaction::begin_reading(&lent, limit).await?).await };
        connections.within_limit(whole).await
    }
}

impl KeyStore for PostgresStore {
    fn find(&self, fingerprint: Fingerprint) -> Lookup {
        let (connections, limit) = (self.verification.clone(), self.limit);
        Lookup::waiting(async move {
            let lent = connections.clone();
            let find = async move {
                let (connection, rows) = lent.start(statements::find(fingerprint, limit)).await?;
                connection.give_back();
                Ok(rows.first().and_then(row::entry))
            };
            connections.within_limit(find).await
        })
    }
}

#[async_trait::async_trait]
impl KeyRegistry for PostgresStore {
    async fn insert(
        &self,
        record: Arc<KeyRecord>,
        limit: usize,
    ) -> Result<Written<()>, StoreError> {
        self.write(async move |mut transaction| {
            statements::lock(&mut transaction, &record.account).await?;
            let now = record.created_at;
            if statements::active(&mut transaction, &record.account, now).await? >= limit {
                return transaction.undo(Written::Refused).await;
            }
            if !statements::file(&mut transaction, &record).await? {
                return transaction.undo(Written::Taken).await;
            }
            transaction.commit(&[record.fingerprint()], Written::Done(())).await
        })
        .await
    }

    async fn insert_first(&self, record: Arc<KeyRecord>) -> Result<Written<()>, StoreError> {
        self.write(async move |mut transaction| {
            if !statements::lock_new(&mut transaction, &record.account).await? {
                return transaction.undo(Written::Refused).await;
            }
            if !statements::file(&mut transaction, &record).await? {
                return transaction.undo(Written::Taken).await;
            }
            transaction.commit(&[record.fingerprint()], Written::Done(())).await
        })
        .await
    }

    async fn list(&self, account: &AccountId) -> Result<Vec<Arc<KeyRecord>>, StoreError> {
        let account = account.clone();
        self.read(&self.management, async move |mut transaction| {
            let records = statements::list(&mut transaction, &account).await?;
            transaction.end(records).await
        })
        .await
    }

    async fn get(
        &self,
        account: &AccountId,
        id: &KeyId,
    ) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        let (account, id) = (account.clone(), id.clone());
        self.read(&self.management, async move |mut transaction| {
            let record = statements::live(&mut transaction, &account, &id).await?;
            transaction.end(record).await
        })
        .await
    }

    async fn rename(
        &self,
        account: &AccountId,
        id: &KeyId,
        name: KeyName,
    ) -> Result<Written<Arc<KeyRecord>>, StoreError> {
        let (account, id) = (account.clone(), id.clone());
        self.write(async move |mut transaction| {
            statements::lock_known(&mut transaction, &account).await?;
            statements::rename(&mut transaction, &account, &id, &name).await?;
            let Some(record) = statements::live(&mut transaction, &account, &id).await? else {
                return transaction.undo(Written::NotFound).await;
            };
            transaction.commit(&[record.fingerprint()], Written::Done(record)).await
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
        let (account, id) = (account.clone(), id.clone());
        self.write(async move |mut transaction| {
            statements::lock_known(&mut transaction, &account).await?;
            let Some(old) = statements::live(&mut transaction, &account, &id).await? else {
                return transaction.undo(Written::NotFound).await;
            };
            if old.replaced_by.is_some() {
                return transaction.undo(Written::Superseded).await;
            }
            let cause = EndCause::Regenerated;
            statements::end(&mut transaction, &account, Some(&id), cause, at).await?;
            let NewSecret { digest, hint } = secret;
            let record = Arc::new(KeyRecord { hint, digest, ..(*old).clone() });
            if !statements::file(&mut transaction, &record).await? {
                return transaction.undo(Written::Taken).await;
            }
            transaction
                .commit(&[old.fingerprint(), record.fingerprint()], Written::Done(record))
                .await
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
        let (account, id) = (account.clone(), id.clone());
        self.write(async move |mut transaction| {
            statements::lock_known(&mut transaction, &account).await?;
            let record = statements::live(&mut transaction, &account, &id).await?;
            let Some(record) = record.filter(|record| record.fingerprint() == old) else {
                return transaction.undo(Written::NotFound).await;
            };
            let cause = EndCause::Rehashed;
            statements::end(&mut transaction, &account, Some(&id), cause, at).await?;
            let rehashed = Arc::new(KeyRecord { digest, ..(*record).clone() });
            if !statements::file(&mut transaction, &rehashed).await? {
                return transaction.undo(Written::Taken).await;
            }
            transaction.commit(&[old, rehashed.fingerprint()], Written::Done(rehashed)).await
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
        let (account, id) = (account.clone(), id.clone());
        self.write(async move |mut transaction| {
            statements::lock_known(&mut transaction, &account).await?;
            let old = statements::live(&mut transaction, &account, &id).await?;
            let Some(old) = old.filter(|_| successor.account == account) else {
                return transaction.undo(Written::NotFound).await;
            };
            if old.replaced_by.is_some() {
                return transaction.undo(Written::Superseded).await;
            }
            statements::supersede(&mut transaction, &old, &successor, grace_ends).await?;
            let now = successor.created_at;
            if statements::active(&mut transaction, &account, now).await? >= limit {
                return transaction.undo(Written::Refused).await;
            }
            if !statements::file(&mut transaction, &successor).await? {
                return transaction.undo(Written::Taken).await;
            }
            transaction
                .commit(&[old.fingerprint(), successor.fingerprint()], Written::Done(()))
                .await
        })
        .await
    }

    async fn delete(
        &self,
        account: &AccountId,
        id: &KeyId,
        at: SystemTime,
    ) -> Result<Written<()>, StoreError> {
        let (account, id) = (account.clone(), id.clone());
        self.write(async move |mut transaction| {
            statements::lock_known(&mut transaction, &account).await?;
            let cause = EndCause::Deleted;
            let ended = statements::end(&mut transaction, &account, Some(&id), cause, at).await?;
            if ended.is_empty() {
                return transaction.undo(Written::NotFound).await;
            }
            transaction.commit(&ended, Written::Done(())).await
        })
        .await
    }

    async fn delete_all(&self, account: &AccountId, at: SystemTime) -> Result<usize, StoreError> {
        let account = account.clone();
        self.write(async move |mut transaction| {
            statements::lock_known(&mut transaction, &account).await?;
            let ended =
                statements::end(&mut transaction, &account, None, EndCause::Deleted, at).await?;
            if ended.is_empty() {
                return transaction.end(0).await;
            }
            transaction.commit(&ended, ended.len()).await
        })
        .await
    }

    async fn mark_used(&self, uses: &[Use]) -> Result<(), StoreError> {
        // In parts, so that no part holds the accounts' locks for long.
        for some in uses.chunks(USES_AT_ONCE) {
            let uses = some.to_vec();
            self.write(async move |mut transaction| {
                usage::mark_used(&mut transaction, &uses).await?;
                transaction.end(()).await
            })
            .await?;
        }
        Ok(())
    }

    async fn usage(&self, account: &AccountId, since: Day) -> Result<Vec<KeyUsage>, StoreError> {
        let account = account.clone();
        self.read(&self.management, async move |mut transaction| {
            let usage = usage::usage(&mut transaction, &account, since).await?;
            transaction.end(usage).await
        })
        .await
    }

    /// As part of what replicas do: a cache must hear of changes however much is verified and managed.
    async fn changes(&self, since: Version) -> Result<Changes, StoreError> {
        self.read(&self.replicas, async move |mut transaction| {
            let changes = statements::changes(&mut transaction, since).await?;
            transaction.end(changes).await
        })
        .await
    }

    async fn settle(&self) {
        fleet::settle(self, &self.looks).await;
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore")
            .field("limit", &format_args!("{} ms", self.limit))
            .finish_non_exhaustive()
    }
}

//! The store itself: an index that requests read, and the books that writes keep.

use std::sync::{Arc, PoisonError};
use std::time::SystemTime;

use tokio::sync::watch;

use super::books::{Books, active};
use super::index::Index;
use super::sync::{Mutex, MutexGuard};
use crate::digest::{Fingerprint, KeyDigest};
use crate::record::{AccountId, EndCause, KeyId, KeyName, KeyRecord, Tombstone};
use crate::store::{
    Changes, Day, Enrolled, Entry, KeyRegistry, KeyStore, KeyUsage, Looks, Lookup, NewSecret,
    ReplicaId, Roll, SharedRegistry, StoreError, Use, Version, Written, fleet,
};

/// Keys in memory; clones share them.
///
/// A lookup takes one short read lock on one of 64 parts of the index and allocates nothing. All
/// writes go through one lock, which makes each of them atomic; none is held while anything waits.
///
/// ```
/// use tower_api_key::{ApiKeyLayer, KeyManager, MemoryStore};
///
/// let store = MemoryStore::new();
/// let manager = KeyManager::new(store.clone(), "acme".parse()?);
/// let layer = ApiKeyLayer::new(store);
/// # Ok::<_, tower_api_key::InvalidText>(())
/// ```
#[derive(Clone, Default)]
pub struct MemoryStore(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// What verification reads. Only changed under the lock of `books`.
    index: Index,
    books: Mutex<Books>,
    written: watch::Sender<()>,
    looks: Looks,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The one lock of all writes.
    fn books(&self) -> MutexGuard<'_, Books> {
        // Nothing below panics between two changes that belong together: what is under the lock is
        // whole, whatever panicked elsewhere.
        self.0.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_fingerprint(&self, fingerprint: Fingerprint) -> bool {
        self.0.index.get(fingerprint).is_some()
    }

    fn is_used(&self, books: &Books, record: &KeyRecord) -> bool {
        self.has_fingerprint(record.fingerprint())
            || books.records(&record.account).iter().any(|other| other.id == record.id)
    }

    /// Gives a write that touched these secrets the next version.
    fn note(&self, books: &mut Books, touched: &[Fingerprint]) {
        books.note(touched);
        self.0.written.send_replace(());
    }

    fn publish(&self, record: &Arc<KeyRecord>) {
        self.0.index.set(record.fingerprint(), Entry::Live(Arc::clone(record)));
    }

    /// Ends a secret, and gives what it left.
    fn end(&self, record: &KeyRecord, cause: EndCause, at: SystemTime) -> Arc<Tombstone> {
        let tombstone = Arc::new(record.tombstone(cause, at));
        self.0.index.set(record.fingerprint(), Entry::Ended(Arc::clone(&tombstone)));
        tombstone
    }

    fn file(&self, books: &mut Books, record: Arc<KeyRecord>) {
        self.publish(&record);
        let records = books.accounts.entry(record.account.clone()).or_default();
        let age = |record: &KeyRecord| (record.created_at, record.id.clone());
        let place = records.partition_point(|other| age(other) <= age(&record));
        records.insert(place, record);
    }
}

impl KeyStore for MemoryStore {
    fn find(&self, fingerprint: Fingerprint) -> Lookup {
        Lookup::ready(Ok(self.0.index.get(fingerprint)))
    }
}

#[async_trait::async_trait]
impl KeyRegistry for MemoryStore {
    async fn insert(
        &self,
        record: Arc<KeyRecord>,
        limit: usize,
    ) -> Result<Written<()>, StoreError> {
        let mut books = self.books();
        if self.is_used(&books, &record) {
            return Ok(Written::Taken);
        }
        if active(books.records(&record.account), record.created_at) >= limit {
            return Ok(Written::Refused);
        }
        let fingerprint = record.fingerprint();
        self.file(&mut books, record);
        self.note(&mut books, &[fingerprint]);
        Ok(Written::Done(()))
    }

    async fn insert_first(&self, record: Arc<KeyRecord>) -> Result<Written<()>, StoreError> {
        let mut books = self.books();
        if books.accounts.contains_key(&record.account) {
            return Ok(Written::Refused);
        }
        if self.is_used(&books, &record) {
            return Ok(Written::Taken);
        }
        let fingerprint = record.fingerprint();
        self.file(&mut books, record);
        self.note(&mut books, &[fingerprint]);
        Ok(Written::Done(()))
    }

    async fn list(&self, account: &AccountId) -> Result<Vec<Arc<KeyRecord>>, StoreError> {
        Ok(self.books().records(account).to_vec())
    }

    async fn get(
        &self,
        account: &AccountId,
        id: &KeyId,
    ) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        let books = self.books();
        Ok(books.records(account).iter().find(|record| record.id == *id).cloned())
    }

    async fn rename(
        &self,
        account: &AccountId,
        id: &KeyId,
        name: KeyName,
    ) -> Result<Written<Arc<KeyRecord>>, StoreError> {
        let mut books = self.books();
        let Some(slot) = books.slot(account, id) else {
            return Ok(Written::NotFound);
        };
        *slot = Arc::new(KeyRecord { name, ..(**slot).clone() });
        let renamed = Arc::clone(slot);
        self.publish(&renamed);
        self.note(&mut books, &[renamed.fingerprint()]);
        Ok(Written::Done(renamed))
    }

    async fn replace(
        &self,
        account: &AccountId,
        id: &KeyId,
        secret: NewSecret,
        at: SystemTime,
    ) -> Result<Written<Arc<KeyRecord>>, StoreError> {
        let mut books = self.books();
        let Some(slot) = books.slot(account, id) else {
            return Ok(Written::NotFound);
        };
        if slot.replaced_by.is_some() {
            return Ok(Written::Superseded);
        }
        if self.has_fingerprint(secret.digest.fingerprint()) {
            return Ok(Written::Taken);
        }
        let old = Arc::clone(slot);
        self.end(&old, EndCause::Regenerated, at);
        let NewSecret { digest, hint } = secret;
        *slot = Arc::new(KeyRecord { hint, digest, ..(*old).clone() });
        let replaced = Arc::clone(slot);
        self.publish(&replaced);
        self.note(&mut books, &[old.fingerprint(), replaced.fingerprint()]);
        Ok(Written::Done(replaced))
    }

    async fn rehash(
        &self,
        account: &AccountId,
        id: &KeyId,
        old: Fingerprint,
        digest: KeyDigest,
        at: SystemTime,
    ) -> Result<Written<Arc<KeyRecord>>, StoreError> {
        let mut books = self.books();
        let Some(slot) = books.slot(account, id).filter(|slot| slot.fingerprint() == old) else {
            return Ok(Written::NotFound);
        };
        if self.has_fingerprint(digest.fingerprint()) {
            return Ok(Written::Taken);
        }
        self.end(slot, EndCause::Rehashed, at);
        *slot = Arc::new(KeyRecord { digest, ..(**slot).clone() });
        let rehashed = Arc::clone(slot);
        self.publish(&rehashed);
        self.note(&mut books, &[old, rehashed.fingerprint()]);
        Ok(Written::Done(rehashed))
    }

    async fn rotate(
        &self,
        account: &AccountId,
        id: &KeyId,
        successor: Arc<KeyRecord>,
        grace_ends: Option<SystemTime>,
        limit: usize,
    ) -> Result<Written<()>, StoreError> {
        let mut books = self.books();
        let now = successor.created_at;
        let Some(place) = books.place(account, id).filter(|_| successor.account == *account) else {
            return Ok(Written::NotFound);
        };
        if self.is_used(&books, &successor) {
            return Ok(Written::Taken);
        }
        let records = books.accounts.entry(account.clone()).or_default();
        let old = Arc::clone(&records[place]);
        if old.replaced_by.is_some() {
            return Ok(Written::Superseded);
        }
        let superseded = grace_ends.map(|ends| old.superseded(successor.id.clone(), now, ends));
        let stays = superseded.as_ref().is_some_and(|old| !old.is_expired(now));
        let ends_now = !stays && !old.is_expired(now);
        if active(records, now) - usize::from(ends_now) >= limit {
            return Ok(Written::Refused);
        }
        if let Some(superseded) = superseded {
            records[place] = Arc::new(superseded);
            self.publish(&records[place]);
        } else {
            let ended = self.end(&records.remove(place), EndCause::Rotated, now);
            books.usage.end(ended);
        }
        let fingerprint = successor.fingerprint();
        self.file(&mut books, successor);
        self.note(&mut books, &[old.fingerprint(), fingerprint]);
        Ok(Written::Done(()))
    }

    async fn delete(
        &self,
        account: &AccountId,
        id: &KeyId,
        at: SystemTime,
    ) -> Result<Written<()>, StoreError> {
        let mut books = self.books();
        let Some(place) = books.place(account, id) else {
            return Ok(Written::NotFound);
        };
        let record = books.accounts.entry(account.clone()).or_default().remove(place);
        books.usage.end(self.end(&record, EndCause::Deleted, at));
        self.note(&mut books, &[record.fingerprint()]);
        Ok(Written::Done(()))
    }

    async fn delete_all(&self, account: &AccountId, at: SystemTime) -> Result<usize, StoreError> {
        let mut books = self.books();
        let records = books.accounts.get_mut(account).map(std::mem::take).unwrap_or_default();
        for record in &records {
            books.usage.end(self.end(record, EndCause::Deleted, at));
        }
        let ended: Vec<_> = records.iter().map(|record| record.fingerprint()).collect();
        self.note(&mut books, &ended);
        Ok(ended.len())
    }

    async fn mark_used(&self, uses: &[Use]) -> Result<(), StoreError> {
        let mut books = self.books();
        for used in uses {
            let (account, id, is_shown) = match self.0.index.get(used.fingerprint) {
                Some(Entry::Live(record)) => (record.account.clone(), record.id.clone(), true),
                Some(Entry::Ended(left)) => {
                    let is_rehashed = left.cause == EndCause::Rehashed;
                    (left.account.clone(), left.key.clone(), is_rehashed)
                }
                None => continue,
            };
            books.usage.add(&account, &id, used);
            let Some(slot) = books.slot(&account, &id).filter(|_| is_shown) else { continue };
            if used.requests > 0 && slot.last_used_at < Some(used.at) {
                *slot = Arc::new(last_used(slot, used));
                self.publish(slot);
            }
        }
        Ok(())
    }

    async fn usage(&self, account: &AccountId, since: Day) -> Result<Vec<KeyUsage>, StoreError> {
        let books = self.books();
        Ok(books.usage.since(since, account, books.records(account)))
    }

    async fn changes(&self, since: Version) -> Result<Changes, StoreError> {
        Ok(self.books().changes_since(since))
    }

    async fn settle(&self) {
        // Without replicas nobody is waited for, and there may be no clock to wait by: outside of Tokio.
        if !self.books().roll.is_empty() {
            fleet::settle(self, &self.0.looks).await;
        }
    }
}

#[async_trait::async_trait]
impl SharedRegistry for MemoryStore {
    async fn enrol(&self, replica: ReplicaId) -> Result<(), StoreError> {
        let new = Enrolled { id: replica, applied: Version::default(), is_suspected: false };
        self.books().roll.entry(replica).or_insert(new);
        Ok(())
    }

    async fn renew(
        &self,
        replica: ReplicaId,
        applied: Version,
    ) -> Result<Option<Changes>, StoreError> {
        let mut books = self.books();
        let latest = books.version;
        let Some(enrolled) = books.roll.get_mut(&replica).filter(|one| !one.is_suspected) else {
            return Ok(None);
        };
        if applied <= latest {
            enrolled.applied = applied;
        }
        Ok(Some(books.changes_since(applied)))
    }

    async fn withdraw(&self, replicas: &[ReplicaId]) -> Result<(), StoreError> {
        self.books().roll.retain(|replica, _| !replicas.contains(replica));
        Ok(())
    }

    async fn roll(&self) -> Result<Roll, StoreError> {
        let books = self.books();
        Ok(Roll { version: books.version, replicas: books.roll.values().copied().collect() })
    }

    async fn suspect(&self, replicas: &[ReplicaId]) -> Result<(), StoreError> {
        let mut books = self.books();
        for replica in replicas {
            if let Some(enrolled) = books.roll.get_mut(replica) {
                enrolled.is_suspected = true;
            }
        }
        Ok(())
    }

    async fn watch(&self, wake: &(dyn Fn() + Send + Sync)) {
        let mut written = self.0.written.subscribe();
        // The sender is in `self`, so this goes on until it is dropped.
        while written.changed().await.is_ok() {
            wake();
        }
    }
}

/// A record with what a use says of the last request.
fn last_used(record: &KeyRecord, used: &Use) -> KeyRecord {
    KeyRecord {
        last_used_at: Some(used.at),
        last_used_from: used.address,
        last_used_agent: used.agent,
        ..record.clone()
    }
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

//! Keys in this process's memory. Knows no other store, no verification and no HTTP.
//!
//! For tests, examples and services whose keys come from elsewhere at start: everything is gone
//! when the process ends.

mod index;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use self::index::Index;
use super::{Entry, KeyRegistry, KeyStore, Lookup, NewSecret, StoreError, Written};
use crate::digest::Fingerprint;
use crate::record::{AccountId, EndCause, KeyId, KeyName, KeyRecord};

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
    /// What verification reads. Only changed under the lock of `accounts`.
    index: Index,
    accounts: Mutex<Accounts>,
}

/// Every account that ever had a key, with its records, oldest first.
type Accounts = HashMap<AccountId, Vec<Arc<KeyRecord>>>;

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The one lock of all writes.
    fn accounts(&self) -> MutexGuard<'_, Accounts> {
        // Nothing below panics between two changes that belong together: what is under the lock is
        // whole, whatever panicked elsewhere.
        self.0.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_fingerprint(&self, fingerprint: Fingerprint) -> bool {
        self.0.index.get(fingerprint).is_some()
    }

    fn is_used(&self, accounts: &Accounts, record: &KeyRecord) -> bool {
        self.has_fingerprint(record.fingerprint())
            || records(accounts, &record.account).iter().any(|other| other.id == record.id)
    }

    fn publish(&self, record: &Arc<KeyRecord>) {
        self.0.index.set(record.fingerprint(), Entry::Live(Arc::clone(record)));
    }

    fn end(&self, record: &KeyRecord, cause: EndCause, at: SystemTime) {
        let tombstone = Arc::new(record.tombstone(cause, at));
        self.0.index.set(record.fingerprint(), Entry::Ended(tombstone));
    }

    fn file(&self, accounts: &mut Accounts, record: Arc<KeyRecord>) {
        self.publish(&record);
        let records = accounts.entry(record.account.clone()).or_default();
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
        let mut accounts = self.accounts();
        if self.is_used(&accounts, &record) {
            return Ok(Written::Taken);
        }
        if active(records(&accounts, &record.account), record.created_at) >= limit {
            return Ok(Written::Refused);
        }
        self.file(&mut accounts, record);
        Ok(Written::Done(()))
    }

    async fn insert_first(&self, record: Arc<KeyRecord>) -> Result<Written<()>, StoreError> {
        let mut accounts = self.accounts();
        if accounts.contains_key(&record.account) {
            return Ok(Written::Refused);
        }
        if self.is_used(&accounts, &record) {
            return Ok(Written::Taken);
        }
        self.file(&mut accounts, record);
        Ok(Written::Done(()))
    }

    async fn list(&self, account: &AccountId) -> Result<Vec<Arc<KeyRecord>>, StoreError> {
        Ok(records(&self.accounts(), account).to_vec())
    }

    async fn get(
        &self,
        account: &AccountId,
        id: &KeyId,
    ) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        let accounts = self.accounts();
        Ok(records(&accounts, account).iter().find(|record| record.id == *id).cloned())
    }

    async fn rename(
        &self,
        account: &AccountId,
        id: &KeyId,
        name: KeyName,
    ) -> Result<Written<Arc<KeyRecord>>, StoreError> {
        let mut accounts = self.accounts();
        let Some(slot) = slot(&mut accounts, account, id) else {
            return Ok(Written::NotFound);
        };
        *slot = Arc::new(KeyRecord { name, ..(**slot).clone() });
        self.publish(slot);
        Ok(Written::Done(Arc::clone(slot)))
    }

    async fn replace(
        &self,
        account: &AccountId,
        id: &KeyId,
        secret: NewSecret,
        at: SystemTime,
    ) -> Result<Written<Arc<KeyRecord>>, StoreError> {
        let mut accounts = self.accounts();
        let Some(slot) = slot(&mut accounts, account, id) else {
            return Ok(Written::NotFound);
        };
        if self.has_fingerprint(secret.digest.fingerprint()) {
            return Ok(Written::Taken);
        }
        self.end(slot, EndCause::Regenerated, at);
        let NewSecret { digest, hint } = secret;
        *slot = Arc::new(KeyRecord { hint, digest, ..(**slot).clone() });
        self.publish(slot);
        Ok(Written::Done(Arc::clone(slot)))
    }

    async fn rotate(
        &self,
        account: &AccountId,
        id: &KeyId,
        successor: Arc<KeyRecord>,
        grace_ends: Option<SystemTime>,
        limit: usize,
    ) -> Result<Written<()>, StoreError> {
        let mut accounts = self.accounts();
        let now = successor.created_at;
        let Some(place) = place(&accounts, account, id).filter(|_| successor.account == *account)
        else {
            return Ok(Written::NotFound);
        };
        if self.is_used(&accounts, &successor) {
            return Ok(Written::Taken);
        }
        let records = accounts.entry(account.clone()).or_default();
        let old = Arc::clone(&records[place]);
        if old.replaced_by.is_some() {
            return Ok(Written::Superseded);
        }
        let ends_now = grace_ends.is_none() && !old.is_expired(now);
        if active(records, now) - usize::from(ends_now) >= limit {
            return Ok(Written::Refused);
        }
        if let Some(grace_ends) = grace_ends {
            records[place] = Arc::new(old.superseded(successor.id.clone(), grace_ends));
            self.publish(&records[place]);
        } else {
            self.end(&records.remove(place), EndCause::Rotated, now);
        }
        self.file(&mut accounts, successor);
        Ok(Written::Done(()))
    }

    async fn delete(
        &self,
        account: &AccountId,
        id: &KeyId,
        at: SystemTime,
    ) -> Result<Written<()>, StoreError> {
        let mut accounts = self.accounts();
        let Some(place) = place(&accounts, account, id) else {
            return Ok(Written::NotFound);
        };
        let records = accounts.entry(account.clone()).or_default();
        self.end(&records.remove(place), EndCause::Deleted, at);
        Ok(Written::Done(()))
    }

    async fn delete_all(&self, account: &AccountId, at: SystemTime) -> Result<usize, StoreError> {
        let mut accounts = self.accounts();
        let records = accounts.get_mut(account).map(std::mem::take).unwrap_or_default();
        for record in &records {
            self.end(record, EndCause::Deleted, at);
        }
        Ok(records.len())
    }
}

fn records<'a>(accounts: &'a Accounts, account: &AccountId) -> &'a [Arc<KeyRecord>] {
    accounts.get(account).map_or(&[], Vec::as_slice)
}

fn place(accounts: &Accounts, account: &AccountId, id: &KeyId) -> Option<usize> {
    records(accounts, account).iter().position(|record| record.id == *id)
}

fn slot<'a>(
    accounts: &'a mut Accounts,
    account: &AccountId,
    id: &KeyId,
) -> Option<&'a mut Arc<KeyRecord>> {
    accounts.get_mut(account)?.iter_mut().find(|record| record.id == *id)
}

fn active(records: &[Arc<KeyRecord>], now: SystemTime) -> usize {
    records.iter().filter(|record| !record.is_expired(now)).count()
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

//! One store through several handles, as replicas of a service see it. Knows no promise.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use crate::digest::{Fingerprint, KeyDigest};
use crate::record::{AccountId, KeyId, KeyName, KeyRecord};
use crate::store::{
    Changes, Day, KeyRegistry, KeyStore, KeyUsage, Lookup, NewSecret, StoreError, Use, Version,
    Written,
};

/// One store through several handles, each call through the next of them: what one handle wrote,
/// another reads. Around handles with connections of their own, every promise is one between
/// replicas.
///
/// ```
/// use std::sync::Arc;
/// use tower_api_key::{KeyRegistry, MemoryStore};
/// use tower_api_key::store::contract::{Handles, Subject};
///
/// async fn shared() -> Subject {
///     let store = MemoryStore::new();
///     let handle = |_| -> Arc<dyn KeyRegistry> { Arc::new(store.clone()) };
///     Subject::new(Handles::new((0..4).map(handle)))
/// }
///
/// tower_api_key::store_contract!(shared_store, shared);
/// # fn main() {}
/// ```
pub struct Handles {
    handles: Box<[Arc<dyn KeyRegistry>]>,
    calls: AtomicUsize,
}

impl Handles {
    /// One store through these handles.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn new(handles: impl IntoIterator<Item = Arc<dyn KeyRegistry>>) -> Self {
        let handles: Box<[_]> = handles.into_iter().collect();
        assert!(!handles.is_empty(), "a store is reached through one handle at least");
        Self { handles, calls: AtomicUsize::new(0) }
    }

    fn next(&self) -> &dyn KeyRegistry {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        &*self.handles[call % self.handles.len()]
    }
}

impl std::fmt::Debug for Handles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handles").field("handles", &self.handles.len()).finish_non_exhaustive()
    }
}

impl KeyStore for Handles {
    fn find(&self, fingerprint: Fingerprint) -> Lookup {
        self.next().find(fingerprint)
    }
}

#[async_trait::async_trait]
impl KeyRegistry for Handles {
    async fn insert(
        &self,
        record: Arc<KeyRecord>,
        limit: usize,
    ) -> Result<Written<()>, StoreError> {
        self.next().insert(record, limit).await
    }

    async fn insert_first(&self, record: Arc<KeyRecord>) -> Result<Written<()>, StoreError> {
        self.next().insert_first(record).await
    }

    async fn list(&self, account: &AccountId) -> Result<Vec<Arc<KeyRecord>>, StoreError> {
        self.next().list(account).await
    }

    async fn get(
        &self,
        account: &AccountId,
        id: &KeyId,
    ) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.next().get(account, id).await
    }

    async fn rename(
        &self,
        account: &AccountId,
        id: &KeyId,
        name: KeyName,
    ) -> Result<Written<Arc<KeyRecord>>, StoreError> {
        self.next().rename(account, id, name).await
    }

    async fn replace(
        &self,
        account: &AccountId,
        id: &KeyId,
        secret: NewSecret,
        at: SystemTime,
    ) -> Result<Written<Arc<KeyRecord>>, StoreError> {
        self.next().replace(account, id, secret, at).await
    }

    async fn rehash(
        &self,
        account: &AccountId,
        id: &KeyId,
        old: Fingerprint,
        digest: KeyDigest,
        at: SystemTime,
    ) -> Result<Written<Arc<KeyRecord>>, StoreError> {
        self.next().rehash(account, id, old, digest, at).await
    }

    async fn rotate(
        &self,
        account: &AccountId,
        id: &KeyId,
        successor: Arc<KeyRecord>,
        grace_ends: Option<SystemTime>,
        limit: usize,
    ) -> Result<Written<()>, StoreError> {
        self.next().rotate(account, id, successor, grace_ends, limit).await
    }

    async fn delete(
        &self,
        account: &AccountId,
        id: &KeyId,
        at: SystemTime,
    ) -> Result<Written<()>, StoreError> {
        self.next().delete(account, id, at).await
    }

    async fn delete_all(&self, account: &AccountId, at: SystemTime) -> Result<usize, StoreError> {
        self.next().delete_all(account, at).await
    }

    async fn mark_used(&self, uses: &[Use]) -> Result<(), StoreError> {
        self.next().mark_used(uses).await
    }

    async fn usage(&self, account: &AccountId, since: Day) -> Result<Vec<KeyUsage>, StoreError> {
        self.next().usage(account, since).await
    }

    async fn changes(&self, since: Version) -> Result<Changes, StoreError> {
        self.next().changes(since).await
    }

    async fn settle(&self) {
        self.next().settle().await;
    }
}

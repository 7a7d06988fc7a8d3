//! A store with one fault: whatever a [`Faulty`] does not do wrong, a `MemoryStore` does right.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;

use tower_api_key::{
    AccountId, Changes, Day, Entry, Fingerprint, KeyDigest, KeyId, KeyName, KeyRecord, KeyRegistry,
    KeyStore, KeyUsage, Lookup, MemoryStore, NewSecret, ReplicaId, Roll, SharedRegistry,
    StoreError, Use, Version, Written,
};

pub(crate) type Said<T> = Result<Written<T>, StoreError>;

#[async_trait::async_trait]
pub(crate) trait Faulty: Default + Send + Sync + 'static {
    /// The store underneath, which has no fault.
    fn good(&self) -> &MemoryStore;

    fn find(&self, fingerprint: Fingerprint) -> Lookup {
        self.good().find(fingerprint)
    }

    async fn insert(&self, record: Arc<KeyRecord>, limit: usize) -> Said<()> {
        self.good().insert(record, limit).await
    }

    async fn insert_first(&self, record: Arc<KeyRecord>) -> Said<()> {
        self.good().insert_first(record).await
    }

    async fn list(&self, account: &AccountId) -> Vec<Arc<KeyRecord>> {
        self.good().list(account).await.unwrap()
    }

    async fn get(&self, account: &AccountId, id: &KeyId) -> Option<Arc<KeyRecord>> {
        self.good().get(account, id).await.unwrap()
    }

    async fn rename(&self, account: &AccountId, id: &KeyId, name: KeyName) -> Said<Arc<KeyRecord>> {
        self.good().rename(account, id, name).await
    }

    async fn replace(
        &self,
        account: &AccountId,
        id: &KeyId,
        secret: NewSecret,
        at: SystemTime,
    ) -> Said<Arc<KeyRecord>> {
        self.good().replace(account, id, secret, at).await
    }

    async fn rehash(
        &self,
        account: &AccountId,
        id: &KeyId,
        old: Fingerprint,
        digest: KeyDigest,
        at: SystemTime,
    ) -> Said<Arc<KeyRecord>> {
        self.good().rehash(account, id, old, digest, at).await
    }

    async fn rotate(
        &self,
        account: &AccountId,
        id: &KeyId,
        successor: Arc<KeyRecord>,
        grace_ends: Option<SystemTime>,
        limit: usize,
    ) -> Said<()> {
        self.good().rotate(account, id, successor, grace_ends, limit).await
    }

    async fn delete(&self, account: &AccountId, id: &KeyId, at: SystemTime) -> Said<()> {
        self.good().delete(account, id, at).await
    }

    async fn delete_all(&self, account: &AccountId, at: SystemTime) -> usize {
        self.good().delete_all(account, at).await.unwrap()
    }

    async fn mark_used(&self, uses: &[Use]) {
        self.good().mark_used(uses).await.unwrap();
    }

    async fn usage(&self, account: &AccountId, since: Day) -> Vec<KeyUsage> {
        self.good().usage(account, since).await.unwrap()
    }

    async fn changes(&self, since: Version) -> Changes {
        self.good().changes(since).await.unwrap()
    }

    async fn settle(&self) {
        self.good().settle().await;
    }

    async fn enrol(&self, replica: ReplicaId) {
        self.good().enrol(replica).await.unwrap();
    }

    async fn renew(&self, replica: ReplicaId, applied: Version) -> Option<Changes> {
        self.good().renew(replica, applied).await.unwrap()
    }

    async fn withdraw(&self, replicas: &[ReplicaId]) {
        self.good().withdraw(replicas).await.unwrap();
    }

    async fn roll(&self) -> Roll {
        self.good().roll().await.unwrap()
    }

    async fn suspect(&self, replicas: &[ReplicaId]) {
        self.good().suspect(replicas).await.unwrap();
    }
}

/// Declares a fault: what it keeps in mind, if anything, and which methods it does wrong.
macro_rules! fault {
    ($(#[$doc:meta])* $name:ident { $($wrong:tt)* }) => {
        fault! { $(#[$doc])* $name(()) { $($wrong)* } }
    };
    ($(#[$doc:meta])* $name:ident($state:ty) { $($wrong:tt)* }) => {
        $(#[$doc])*
        #[derive(Default)]
        pub(super) struct $name {
            good: tower_api_key::MemoryStore,
            #[allow(dead_code, reason = "most faults keep nothing in mind")]
            state: std::sync::Mutex<$state>,
        }

        #[async_trait::async_trait]
        impl crate::contract_broken::faulty::Faulty for $name {
            fn good(&self) -> &tower_api_key::MemoryStore {
                &self.good
            }

            $($wrong)*
        }
    };
}
pub(super) use fault;

/// Long enough for whoever else is under way.
pub(super) async fn pause() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

pub(super) fn edited(record: &KeyRecord, edit: impl FnOnce(&mut KeyRecord)) -> Arc<KeyRecord> {
    let mut record = record.clone();
    edit(&mut record);
    Arc::new(record)
}

/// What the store underneath has; it never waits.
pub(super) fn found(good: &MemoryStore, fingerprint: Fingerprint) -> Option<Entry> {
    good.find(fingerprint).now_or_never().unwrap().unwrap()
}

pub(crate) struct Broken<F>(pub(crate) F);

impl<F: Faulty> KeyStore for Broken<F> {
    fn find(&self, fingerprint: Fingerprint) -> Lookup {
        self.0.find(fingerprint)
    }
}

#[async_trait::async_trait]
impl<F: Faulty> KeyRegistry for Broken<F> {
    async fn insert(&self, record: Arc<KeyRecord>, limit: usize) -> Said<()> {
        self.0.insert(record, limit).await
    }

    async fn insert_first(&self, record: Arc<KeyRecord>) -> Said<()> {
        self.0.insert_first(record).await
    }

    async fn list(&self, account: &AccountId) -> Result<Vec<Arc<KeyRecord>>, StoreError> {
        Ok(self.0.list(account).await)
    }

    async fn get(
        &self,
        account: &AccountId,
        id: &KeyId,
    ) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        Ok(self.0.get(account, id).await)
    }

    async fn rename(&self, account: &AccountId, id: &KeyId, name: KeyName) -> Said<Arc<KeyRecord>> {
        self.0.rename(account, id, name).await
    }

    async fn replace(
        &self,
        account: &AccountId,
        id: &KeyId,
        secret: NewSecret,
        at: SystemTime,
    ) -> Said<Arc<KeyRecord>> {
        self.0.replace(account, id, secret, at).await
    }

    async fn rehash(
        &self,
        account: &AccountId,
        id: &KeyId,
        old: Fingerprint,
        digest: KeyDigest,
        at: SystemTime,
    ) -> Said<Arc<KeyRecord>> {
        self.0.rehash(account, id, old, digest, at).await
    }

    async fn rotate(
        &self,
        account: &AccountId,
        id: &KeyId,
        successor: Arc<KeyRecord>,
        grace_ends: Option<SystemTime>,
        limit: usize,
    ) -> Said<()> {
        self.0.rotate(account, id, successor, grace_ends, limit).await
    }

    async fn delete(&self, account: &AccountId, id: &KeyId, at: SystemTime) -> Said<()> {
        self.0.delete(account, id, at).await
    }

    async fn delete_all(&self, account: &AccountId, at: SystemTime) -> Result<usize, StoreError> {
        Ok(self.0.delete_all(account, at).await)
    }

    async fn mark_used(&self, uses: &[Use]) -> Result<(), StoreError> {
        self.0.mark_used(uses).await;
        Ok(())
    }

    async fn usage(&self, account: &AccountId, since: Day) -> Result<Vec<KeyUsage>, StoreError> {
        Ok(self.0.usage(account, since).await)
    }

    async fn changes(&self, since: Version) -> Result<Changes, StoreError> {
        Ok(self.0.changes(since).await)
    }

    async fn settle(&self) {
        self.0.settle().await;
    }
}

#[async_trait::async_trait]
impl<F: Faulty> SharedRegistry for Broken<F> {
    async fn enrol(&self, replica: ReplicaId) -> Result<(), StoreError> {
        self.0.enrol(replica).await;
        Ok(())
    }

    async fn renew(
        &self,
        replica: ReplicaId,
        applied: Version,
    ) -> Result<Option<Changes>, StoreError> {
        Ok(self.0.renew(replica, applied).await)
    }

    async fn withdraw(&self, replicas: &[ReplicaId]) -> Result<(), StoreError> {
        self.0.withdraw(replicas).await;
        Ok(())
    }

    async fn roll(&self) -> Result<Roll, StoreError> {
        Ok(self.0.roll().await)
    }

    async fn suspect(&self, replicas: &[ReplicaId]) -> Result<(), StoreError> {
        self.0.suspect(replicas).await;
        Ok(())
    }

    async fn watch(&self, _: &(dyn Fn() + Send + Sync)) {}
}

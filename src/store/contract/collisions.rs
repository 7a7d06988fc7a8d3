//! The promise that the manager relies on: a collision leaves nothing behind, so that it can try
//! again with another key.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use super::given::{NO_CAP, Store, account, assert_shown, colliding, insert, live, record, time};
use crate::digest::{Fingerprint, KeyDigest};
use crate::key::KeyText;
use crate::manage::{IssuedKey, KeyManager, NewKey};
use crate::record::{AccountId, KeyId, KeyName, KeyRecord};
use crate::store::{
    Changes, Day, KeyRegistry, KeyStore, KeyUsage, Lookup, NewSecret, StoreError, Use, Version,
    Written,
};

/// A [`KeyManager`] whose first key collides with a taken fingerprint ends with another, good key.
pub async fn a_collision_is_met_with_another_key(store: Store) {
    let taken = insert(&store, record(&account("b"), time(0))).await;
    let inner = Arc::new(Colliding {
        store: Arc::clone(&store),
        taken: taken.digest.clone(),
        is_armed: AtomicBool::new(false),
    });
    let manager = KeyManager::new(Arc::clone(&inner), "acme".parse().unwrap());
    let manager = manager.with_limit(NO_CAP);
    let owner = account("a");
    let new = || NewKey::new("A name".parse().unwrap());

    inner.arm();
    let first = manager.create_first(&owner, new()).await.unwrap();
    inner.assert_good(first.unwrap(), "create_first").await;
    inner.arm();
    let created = manager.create(&owner, new()).await.unwrap();
    let id = created.record().id.clone();
    inner.assert_good(created, "create").await;
    inner.arm();
    let regenerated = manager.regenerate(&owner, &id).await.unwrap();
    inner.assert_good(regenerated, "regenerate").await;
    inner.arm();
    let rotated = manager.rotate(&owner, &id, Duration::from_mins(1)).await.unwrap();
    inner.assert_good(rotated, "rotate").await;
    assert_eq!(store.list(&owner).await.unwrap().len(), 3, "keys of four calls");
    assert_shown(&store, &taken).await;
}

/// A store in which the next new key collides.
struct Colliding {
    store: Store,
    taken: KeyDigest,
    is_armed: AtomicBool,
}

impl Colliding {
    fn arm(&self) {
        self.is_armed.store(true, Ordering::SeqCst);
    }

    /// The key is there, its text is its own, and there was a collision before it.
    async fn assert_good(&self, issued: IssuedKey, what: &str) {
        assert!(!self.is_armed.load(Ordering::SeqCst), "{what} has not met the collision");
        let record = issued.record().clone();
        let digest = KeyDigest::of(KeyText::parse(issued.reveal().as_str().as_bytes()).unwrap());
        let found = live(&self.store, digest.fingerprint()).await;
        assert!(
            found.digest.matches(&digest),
            "{what}: the key that was shown is not the one filed"
        );
        assert_eq!(found.id, record.id, "{what}");
    }

    fn collide(&self, digest: &KeyDigest) -> KeyDigest {
        if self.is_armed.swap(false, Ordering::SeqCst) {
            colliding(&self.taken, 0)
        } else {
            digest.clone()
        }
    }

    fn collided(&self, record: &KeyRecord) -> Arc<KeyRecord> {
        Arc::new(KeyRecord { digest: self.collide(&record.digest), ..record.clone() })
    }
}

impl KeyStore for Colliding {
    fn find(&self, fingerprint: Fingerprint) -> Lookup {
        self.store.find(fingerprint)
    }
}

#[async_trait::async_trait]
impl KeyRegistry for Colliding {
    async fn insert(
        &self,
        record: Arc<KeyRecord>,
        limit: usize,
    ) -> Result<Written<()>, StoreError> {
        self.store.insert(self.collided(&record), limit).await
    }

    async fn insert_first(&self, record: Arc<KeyRecord>) -> Result<Written<()>, StoreError> {
        self.store.insert_first(self.collided(&record)).await
    }

    async fn list(&self, account: &AccountId) -> Result<Vec<Arc<KeyRecord>>, StoreError> {
        self.store.list(account).await
    }

    async fn get(
        &self,
        account: &AccountId,
        id: &KeyId,
    ) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.store.get(account, id).await
    }

    async fn rename(
        &self,
        account: &AccountId,
        id: &KeyId,
        name: KeyName,
    ) -> Result<Written<Arc<KeyRecord>>, StoreError> {
        self.store.rename(account, id, name).await
    }

    async fn replace(
        &self,
        account: &AccountId,
        id: &KeyId,
        mut secret: NewSecret,
        at: SystemTime,
    ) -> Result<Written<Arc<KeyRecord>>, StoreError> {
        secret.digest = self.collide(&secret.digest);
        self.store.replace(account, id, secret, at).await
    }

    async fn rehash(
        &self,
        account: &AccountId,
        id: &KeyId,
        old: Fingerprint,
        digest: KeyDigest,
        at: SystemTime,
    ) -> Result<Written<Arc<KeyRecord>>, StoreError> {
        self.store.rehash(account, id, old, self.collide(&digest), at).await
    }

    async fn rotate(
        &self,
        account: &AccountId,
        id: &KeyId,
        successor: Arc<KeyRecord>,
        grace_ends: Option<SystemTime>,
        limit: usize,
    ) -> Result<Written<()>, StoreError> {
        self.store.rotate(account, id, self.collided(&successor), grace_ends, limit).await
    }

    async fn delete(
        &self,
        account: &AccountId,
        id: &KeyId,
        at: SystemTime,
    ) -> Result<Written<()>, StoreError> {
        self.store.delete(account, id, at).await
    }

    async fn delete_all(&self, account: &AccountId, at: SystemTime) -> Result<usize, StoreError> {
        self.store.delete_all(account, at).await
    }

    async fn mark_used(&self, uses: &[Use]) -> Result<(), StoreError> {
        self.store.mark_used(uses).await
    }

    async fn usage(&self, account: &AccountId, since: Day) -> Result<Vec<KeyUsage>, StoreError> {
        self.store.usage(account, since).await
    }

    async fn changes(&self, since: Version) -> Result<Changes, StoreError> {
        self.store.changes(since).await
    }

    async fn settle(&self) {
        self.store.settle().await;
    }
}

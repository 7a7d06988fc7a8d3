//! A shared store is a store, so that a service can choose one when it starts.

use std::sync::Arc;
use std::time::SystemTime;

use super::{
    Changes, Day, KeyRegistry, KeyStore, KeyUsage, Lookup, NewSecret, ReplicaId, Roll,
    SharedRegistry, StoreError, Use, Version, Written,
};
use crate::digest::{Fingerprint, KeyDigest};
use crate::record::{AccountId, KeyId, KeyName, KeyRecord};

impl<T: KeyStore + ?Sized> KeyStore for Arc<T> {
    fn find(&self, fingerprint: Fingerprint) -> Lookup {
        (**self).find(fingerprint)
    }
}

#[async_trait::async_trait]
impl<T: KeyRegistry + ?Sized> KeyRegistry for Arc<T> {
    async fn insert(
        &self,
        record: Arc<KeyRecord>,
        limit: usize,
    ) -> Result<Written<()>, StoreError> {
        (**self).insert(record, limit).await
    }

    async fn insert_first(&self, record: Arc<KeyRecord>) -> Result<Written<()>, StoreError> {
        (**self).insert_first(record).await
    }

    async fn list(&self, account: &AccountId) -> Result<Vec<Arc<KeyRecord>>, StoreError> {
        (**self).list(account).await
    }

    async fn get(
        &self,
        account: &AccountId,
        id: &KeyId,
    ) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        (**self).get(account, id).await
    }

    async fn rename(
        &self,
        account: &AccountId,
        id: &KeyId,
        name: KeyName,
    ) -> Result<Written<Arc<KeyRecord>>, StoreError> {
        (**self).rename(account, id, name).await
    }

    async fn replace(
        &self,
        account: &AccountId,
        id: &KeyId,
        secret: NewSecret,
        at: SystemTime,
    ) -> Result<Written<Arc<KeyRecord>>, StoreError> {
        (**self).replace(account, id, secret, at).await
    }

    async fn rehash(
        &self,
        account: &AccountId,
        id: &KeyId,
        old: Fingerprint,
        digest: KeyDigest,
        at: SystemTime,
    ) -> Result<Written<Arc<KeyRecord>>, StoreError> {
        (**self).rehash(account, id, old, digest, at).await
    }

    async fn rotate(
        &self,
        account: &AccountId,
        id: &KeyId,
        successor: Arc<KeyRecord>,
        grace_ends: Option<SystemTime>,
        limit: usize,
    ) -> Result<Written<()>, StoreError> {
        (**self).rotate(account, id, successor, grace_ends, limit).await
    }

    async fn delete(
        &self,
        account: &AccountId,
        id: &KeyId,
        at: SystemTime,
    ) -> Result<Written<()>, StoreError> {
        (**self).delete(account, id, at).await
    }

    async fn delete_all(&self, account: &AccountId, at: SystemTime) -> Result<usize, StoreError> {
        (**self).delete_all(account, at).await
    }

    async fn mark_used(&self, uses: &[Use]) -> Result<(), StoreError> {
        (**self).mark_used(uses).await
    }

    async fn usage(&self, account: &AccountId, since: Day) -> Result<Vec<KeyUsage>, StoreError> {
        (**self).usage(account, since).await
    }

    async fn changes(&self, since: Version) -> Result<Changes, StoreError> {
        (**self).changes(since).await
    }

    async fn settle(&self) {
        (**self).settle().await;
    }
}

#[async_trait::async_trait]
impl<T: SharedRegistry + ?Sized> SharedRegistry for Arc<T> {
    async fn enrol(&self, replica: ReplicaId) -> Result<(), StoreError> {
        (**self).enrol(replica).await
    }

    async fn renew(
        &self,
        replica: ReplicaId,
        applied: Version,
    ) -> Result<Option<Changes>, StoreError> {
        (**self).renew(replica, applied).await
    }

    async fn withdraw(&self, replicas: &[ReplicaId]) -> Result<(), StoreError> {
        (**self).withdraw(replicas).await
    }

    async fn roll(&self) -> Result<Roll, StoreError> {
        (**self).roll().await
    }

    async fn suspect(&self, replicas: &[ReplicaId]) -> Result<(), StoreError> {
        (**self).suspect(replicas).await
    }

    async fn watch(&self, wake: &(dyn Fn() + Send + Sync)) {
        (**self).watch(wake).await;
    }
}

//! Writes as values, so that one can be made of a store and of the store in memory alike.

use std::sync::Arc;
use std::time::SystemTime;

use tower_api_key::{
    AccountId, Fingerprint, Hint, KeyId, KeyName, KeyRecord, NewSecret, StoreError, Written,
};

use super::Store;
use crate::support::{digest, record, time};

#[derive(Clone, Debug)]
pub(super) enum Call {
    Insert(Arc<KeyRecord>),
    InsertFirst(Arc<KeyRecord>),
    Rename(KeyId, KeyName),
    Replace(KeyId, NewSecret),
    Rotate(KeyId, Arc<KeyRecord>, Option<SystemTime>),
    Delete(KeyId),
    DeleteAll,
}

/// Kinds of calls, to make any number of each.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Insert,
    InsertFirst,
    Rename,
    Replace,
    RotateWithGrace,
    RotateAtOnce,
    Delete,
    DeleteAll,
}

impl Kind {
    pub(super) const ALL: [Self; 8] = [
        Self::Insert,
        Self::InsertFirst,
        Self::Rename,
        Self::Replace,
        Self::RotateWithGrace,
        Self::RotateAtOnce,
        Self::Delete,
        Self::DeleteAll,
    ];

    /// A call of this kind, on a key where it is one that needs one.
    pub(super) fn call(self, owner: &AccountId, id: &KeyId) -> Call {
        let new = || Arc::new(record(owner, time(10)));
        match self {
            Self::Insert => Call::Insert(new()),
            Self::InsertFirst => Call::InsertFirst(new()),
            Self::Rename => Call::Rename(id.clone(), "Another name".parse().unwrap()),
            Self::Replace => {
                let digest = digest(&format!("secret-of-{}", new().id));
                Call::Replace(id.clone(), NewSecret::new(digest, Hint::default()))
            }
            Self::RotateWithGrace => Call::Rotate(id.clone(), new(), Some(time(1_000))),
            Self::RotateAtOnce => Call::Rotate(id.clone(), new(), None),
            Self::Delete => Call::Delete(id.clone()),
            Self::DeleteAll => Call::DeleteAll,
        }
    }
}

impl Call {
    /// The secret that it files, if it is done.
    pub(super) fn secret(&self) -> Option<Fingerprint> {
        match self {
            Self::Insert(record) | Self::InsertFirst(record) | Self::Rotate(_, record, _) => {
                Some(record.fingerprint())
            }
            Self::Replace(_, secret) => Some(secret.digest.fingerprint()),
            Self::Rename(..) | Self::Delete(_) | Self::DeleteAll => None,
        }
    }

    /// What the store says to it, as text.
    pub(super) async fn run(
        &self,
        store: &Store,
        owner: &AccountId,
        limit: usize,
    ) -> Result<String, StoreError> {
        let said = |written: Written<()>| format!("{written:?}");
        let record = |written: Written<Arc<KeyRecord>>| format!("{written:?}");
        match self.clone() {
            Self::Insert(new) => store.insert(new, limit).await.map(said),
            Self::InsertFirst(new) => store.insert_first(new).await.map(said),
            Self::Rename(id, name) => store.rename(owner, &id, name).await.map(record),
            Self::Replace(id, secret) => {
                store.replace(owner, &id, secret, time(20)).await.map(record)
            }
            Self::Rotate(id, new, grace) => {
                store.rotate(owner, &id, new, grace, limit).await.map(said)
            }
            Self::Delete(id) => store.delete(owner, &id, time(20)).await.map(said),
            Self::DeleteAll => {
                store.delete_all(owner, time(20)).await.map(|count| count.to_string())
            }
        }
    }
}

//! What was answered, and so must stay true.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tower_api_key::{
    AccountId, Entry, Fingerprint, Hint, KeyRecord, NewSecret, StoreError, Written,
};

use super::Store;
use crate::support::{digest, record, time};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Truth {
    /// Its creation was not answered: anything may be.
    Unknown,
    /// Its creation was answered.
    Live,
    /// Its end was not answered.
    LiveOrEnded,
    /// Its end was answered.
    Ended,
}

/// What is known of each secret. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Ledger(Arc<Mutex<HashMap<Fingerprint, Truth>>>);

impl Ledger {
    fn set(&self, secret: Fingerprint, truth: Truth) {
        self.0.lock().unwrap().insert(secret, truth);
    }

    pub(super) async fn create(
        &self,
        store: &Store,
        owner: &AccountId,
    ) -> Result<Arc<KeyRecord>, StoreError> {
        let new = Arc::new(record(owner, time(0)));
        self.set(new.fingerprint(), Truth::Unknown);
        let written = store.insert(Arc::clone(&new), usize::MAX).await?;
        assert_eq!(written, Written::Done(()));
        self.set(new.fingerprint(), Truth::Live);
        Ok(new)
    }

    pub(super) async fn delete(&self, store: &Store, key: &KeyRecord) -> Result<(), StoreError> {
        self.set(key.fingerprint(), Truth::LiveOrEnded);
        let written = store.delete(&key.account, &key.id, time(1)).await?;
        assert_eq!(written, Written::Done(()));
        self.set(key.fingerprint(), Truth::Ended);
        Ok(())
    }

    pub(super) async fn replace(&self, store: &Store, key: &KeyRecord) -> Result<(), StoreError> {
        let secret = NewSecret::new(digest(&format!("new-{}", key.id)), Hint::default());
        let new = secret.digest.fingerprint();
        self.set(key.fingerprint(), Truth::LiveOrEnded);
        self.set(new, Truth::Unknown);
        let written = store.replace(&key.account, &key.id, secret, time(1)).await?;
        assert!(matches!(written, Written::Done(_)));
        self.set(key.fingerprint(), Truth::Ended);
        self.set(new, Truth::Live);
        Ok(())
    }

    /// Asserts that all of it is true; how many creations and ends were answered.
    pub(super) async fn check(&self, store: &Store) -> (usize, usize) {
        let all = self.0.lock().unwrap().clone();
        let (mut created, mut ended) = (0, 0);
        for (secret, truth) in all {
            let found = store.find(secret).await.unwrap();
            let is_true = match truth {
                Truth::Unknown => true,
                Truth::Live => matches!(found, Some(Entry::Live(_))),
                Truth::LiveOrEnded => found.is_some(),
                Truth::Ended => matches!(found, Some(Entry::Ended(_))),
            };
            assert!(is_true, "answered {truth:?}, found {found:?}");
            created += usize::from(truth != Truth::Unknown);
            ended += usize::from(truth == Truth::Ended);
        }
        (created, ended)
    }

    /// Adds what another ledger knows.
    pub(super) fn take(&self, other: &Self) {
        self.0.lock().unwrap().extend(other.0.lock().unwrap().drain());
    }
}

//! A store that fails at one chosen call, before or after the call took effect, or panics, or never
//! answers; and what is then true of the keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use tower_api_key::{
    AccountId, Changes, Fingerprint, KeyId, KeyManager, KeyName, KeyRecord, KeyRegistry, KeyStore,
    Lookup, ManageError, MemoryStore, NewSecret, StoreError, Use, Version, Written,
};

use super::state::coherent;
use super::{Door, Store};
use crate::support::{account, named, soon, text};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum How {
    /// The call does not happen.
    Before,
    /// It happens, and its answer is lost.
    After,
    /// It panics as it begins.
    Panics,
    /// It panics while it is waited for.
    PanicsLater,
    Never,
}

/// A store that fails once, at the call of this number.
#[derive(Clone)]
pub(super) struct Failing<S> {
    inner: S,
    how: How,
    /// Calls until then; less than 0 when it has failed.
    left: Arc<std::sync::atomic::AtomicIsize>,
}

impl<S> Failing<S> {
    pub(super) fn at(inner: S, call: usize, how: How) -> Self {
        let left = isize::try_from(call).unwrap();
        Self { inner, how, left: Arc::new(left.into()) }
    }

    pub(super) fn has_failed(&self) -> bool {
        self.left.load(Ordering::SeqCst) < 0
    }

    fn fails_now(&self) -> bool {
        self.left.fetch_sub(1, Ordering::SeqCst) == 0
    }

    async fn call<T>(
        &self,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        if !self.fails_now() {
            return call.await;
        }
        match self.how {
            Before | After => {}
            Panics | PanicsLater => panic!("as it was told"),
            Never => std::future::pending().await,
        }
        if self.how == After {
            let _ = call.await;
        }
        Err(failed())
    }
}

use How::{After, Before, Never, Panics, PanicsLater};

fn failed() -> StoreError {
    StoreError::unavailable("failing", "as it was told")
}

impl<S: KeyStore> KeyStore for Failing<S> {
    fn find(&self, fingerprint: Fingerprint) -> Lookup {
        if !self.fails_now() {
            return self.inner.find(fingerprint);
        }
        match self.how {
            Before => Lookup::ready(Err(failed())),
            After => {
                let lookup = self.inner.find(fingerprint);
                Lookup::waiting(async {
                    let _ = lookup.await;
                    Err(failed())
                })
            }
            Panics => panic!("as it was told"),
            PanicsLater => Lookup::waiting(async {
                tokio::task::yield_now().await;
                panic!("as it was told")
            }),
            Never => Lookup::waiting(std::future::pending()),
        }
    }
}

#[async_trait::async_trait]
impl<S: KeyRegistry> KeyRegistry for Failing<S> {
    async fn insert(
        &self,
        record: Arc<KeyRecord>,
        limit: usize,
    ) -> Result<Written<()>, StoreError> {
        self.call(self.inner.insert(record, limit)).await
    }

    async fn insert_first(&self, record: Arc<KeyRecord>) -> Result<Written<()>, StoreError> {
        self.call(self.inner.insert_first(record)).await
    }

    async fn list(&self, account: &AccountId) -> Result<Vec<Arc<KeyRecord>>, StoreError> {
        self.call(self.inner.list(account)).await
    }

    async fn get(
        &self,
        account: &AccountId,
        id: &KeyId,
    ) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.call(self.inner.get(account, id)).await
    }

    async fn rename(
        &self,
        account: &AccountId,
        id: &KeyId,
        name: KeyName,
    ) -> Result<Written<Arc<KeyRecord>>, StoreError> {
        self.call(self.inner.rename(account, id, name)).await
    }

    async fn replace(
        &self,
        account: &AccountId,
        id: &KeyId,
        secret: NewSecret,
        at: SystemTime,
    ) -> Result<Written<Arc<KeyRecord>>, StoreError> {
        self.call(self.inner.replace(account, id, secret, at)).await
    }

    async fn rotate(
        &self,
        account: &AccountId,
        id: &KeyId,
        successor: Arc<KeyRecord>,
        grace_ends: Option<SystemTime>,
        limit: usize,
    ) -> Result<Written<()>, StoreError> {
        self.call(self.inner.rotate(account, id, successor, grace_ends, limit)).await
    }

    async fn delete(
        &self,
        account: &AccountId,
        id: &KeyId,
        at: SystemTime,
    ) -> Result<Written<()>, StoreError> {
        self.call(self.inner.delete(account, id, at)).await
    }

    async fn delete_all(&self, account: &AccountId, at: SystemTime) -> Result<usize, StoreError> {
        self.call(self.inner.delete_all(account, at)).await
    }

    async fn mark_used(&self, uses: &[Use]) -> Result<(), StoreError> {
        self.call(self.inner.mark_used(uses)).await
    }

    async fn changes(&self, since: Version) -> Result<Changes, StoreError> {
        self.call(self.inner.changes(since)).await
    }
}

/// What a manager can do to the first key of an account that has two.
const OPERATIONS: [&str; 10] = [
    "create",
    "create at the cap",
    "create_first",
    "list",
    "get",
    "rename",
    "regenerate",
    "rotate",
    "rotate at once",
    "delete",
];

async fn operate(
    manager: &KeyManager,
    operation: &str,
    owner: &AccountId,
    id: &KeyId,
) -> Result<Option<String>, ManageError> {
    let issued = |issued| Ok(Some(text(issued)));
    match operation {
        "create" | "create at the cap" => issued(manager.create(owner, named("new")).await?),
        "create_first" => {
            let first = manager.create_first(&account("newcomer"), named("new")).await?;
            Ok(first.map(text))
        }
        "list" => manager.list(owner).await.map(|_| None),
        "get" => manager.get(owner, id).await.map(|_| None),
        "rename" => manager.rename(owner, id, "renamed".parse().unwrap()).await.map(|_| None),
        "regenerate" => issued(manager.regenerate(owner, id).await?),
        "rotate" => issued(manager.rotate(owner, id, Duration::from_mins(1)).await?),
        "rotate at once" => issued(manager.rotate(owner, id, Duration::ZERO).await?),
        "delete" => manager.delete(owner, id).await.map(|()| None),
        _ => unreachable!(),
    }
}

/// Whatever call of an operation fails: the operation says so, and it is done or not done as a whole.
/// A key is accepted exactly when it is listed.
#[tokio::test]
async fn an_operation_whose_store_fails_is_whole() {
    let mut failures = 0;
    for operation in OPERATIONS {
        for how in [Before, After] {
            for call in 0.. {
                let failing = Failing::at(MemoryStore::new(), call, how);
                let store = Arc::new(failing.inner.clone());
                if !fails_whole(failing, store, operation).await {
                    break;
                }
                failures += 1;
            }
        }
    }
    println!("{failures} failures in {} operations", OPERATIONS.len());
    assert!(failures >= 2 * 13, "some operations call the store more than once: {failures}");
}

/// Whether the call was reached. `through` is what is asked; `truth` never fails.
async fn fails_whole(failing: Failing<MemoryStore>, truth: Store, operation: &str) -> bool {
    let owner = account("a");
    let limit = if operation == "create at the cap" { 2 } else { 3 };
    let prepared = KeyManager::new(Arc::clone(&truth), "acme".parse().unwrap());
    let (first, second) = (
        prepared.create(&owner, named("first")).await.unwrap(),
        prepared.create(&owner, named("second")).await.unwrap(),
    );
    let id = first.record().id.clone();
    let mut texts = vec![text(first), text(second)];
    let before = format!("{:?}", truth.list(&owner).await.unwrap());
    let manager = KeyManager::new(failing.clone(), "acme".parse().unwrap()).with_limit(limit);
    let answer = operate(&manager, operation, &owner, &id).await;
    assert_eq!(failing.has_failed(), matches!(answer, Err(ManageError::Store(_))), "{operation}");

    if let Ok(issued) = &answer {
        texts.extend(issued.clone());
    }
    let secrets: Vec<_> =
        texts.iter().map(|text| crate::support::digest(text).fingerprint()).collect();
    let listed = coherent(&truth, &owner, &secrets[..2]).await;
    assert!(listed.len() <= limit, "{operation}: the cap");
    let all = [listed.clone(), truth.list(&account("newcomer")).await.unwrap()].concat();
    let door = Door::of(truth);
    for (text, secret) in texts.iter().zip(&secrets) {
        let is_live = all.iter().any(|record| record.fingerprint() == *secret);
        assert_eq!(door.status(text).await, if is_live { 200 } else { 401 }, "{operation}");
    }
    assert_eq!(door.status(&texts[1]).await, 200, "{operation}: a key that has no part in it");
    if failing.has_failed() && failing.how == Before {
        assert_eq!(before, format!("{listed:?}"), "{operation}: nothing happened");
    }
    failing.has_failed()
}

/// A store may panic, or never answer: one request is refused in time, and the next is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_panics_or_hangs_refuses_one_request() {
    for how in [Before, After, Panics, PanicsLater, Never] {
        let memory = MemoryStore::new();
        let (_, key) = crate::support::with_key(memory.clone()).await;
        let door = Door::of(Arc::new(Failing::at(memory, 1, how)));
        assert_eq!(door.status(&key).await, 200);
        let (status, took) = soon(door.ask(&key)).await;
        assert_eq!(status, 503, "{how:?}");
        assert!(took < Duration::from_secs(1), "{how:?}: {took:?}");
        assert_eq!(door.status(&key).await, 200, "{how:?}");
        println!("{how:?}: 503 in {took:.0?}");
    }
}

/// A store that hangs for one request does not hold up another.
#[tokio::test(flavor = "multi_thread")]
async fn requests_do_not_wait_for_one_that_hangs() {
    let memory = MemoryStore::new();
    let (_, key) = crate::support::with_key(memory.clone()).await;
    let door = Door::of(Arc::new(Failing::at(memory, 0, Never)));
    let answered = AtomicUsize::new(0);
    let hanging = door.ask(&key);
    let others = async {
        tokio::task::yield_now().await;
        for _ in 0..100 {
            assert_eq!(door.status(&key).await, 200);
            answered.fetch_add(1, Ordering::SeqCst);
        }
        answered.load(Ordering::SeqCst)
    };
    let ((status, took), _) = tokio::join!(hanging, others);
    assert_eq!((status, answered.load(Ordering::SeqCst)), (503, 100));
    assert!(took < Duration::from_secs(1));
}

//! A store that fails at one chosen call, before or after the call took effect, or panics, or never
//! answers; and what is then true of the keys.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tower_api_key::{
    AccountId, CacheSettings, CachedStore, Changes, Day, Fingerprint, KeyDigest, KeyId, KeyManager,
    KeyName, KeyRecord, KeyRegistry, KeyStore, KeyUsage, Lookup, ManageError, MemoryStore,
    NewSecret, StoreError, Use, Version, Written,
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

/// A store that fails once, after so many calls. Clones share the count.
#[derive(Clone)]
pub(super) struct Failing<S> {
    inner: S,
    how: How,
    plan: Arc<Mutex<Plan>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Plan {
    Never,
    After(usize),
    Failed,
}

impl<S> Failing<S> {
    fn new(inner: S, how: How) -> Self {
        Self { inner, how, plan: Arc::new(Mutex::new(Plan::Never)) }
    }

    /// Lets so many calls pass from now on, and then fails.
    fn fail_after(&self, calls: usize) {
        *self.plan.lock().unwrap() = Plan::After(calls);
    }

    fn has_failed(&self) -> bool {
        *self.plan.lock().unwrap() == Plan::Failed
    }

    /// Lets everything pass from now on.
    fn calm(&self) {
        *self.plan.lock().unwrap() = Plan::Never;
    }

    fn fails_now(&self) -> bool {
        let mut plan = self.plan.lock().unwrap();
        let now = *plan == Plan::After(0);
        *plan = match *plan {
            Plan::After(0) => Plan::Failed,
            Plan::After(calls) => Plan::After(calls - 1),
            plan => plan,
        };
        now
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

    async fn rehash(
        &self,
        account: &AccountId,
        id: &KeyId,
        old: Fingerprint,
        digest: KeyDigest,
        at: SystemTime,
    ) -> Result<Written<Arc<KeyRecord>>, StoreError> {
        self.call(self.inner.rehash(account, id, old, digest, at)).await
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

    async fn usage(&self, account: &AccountId, since: Day) -> Result<Vec<KeyUsage>, StoreError> {
        self.call(self.inner.usage(account, since)).await
    }

    async fn changes(&self, since: Version) -> Result<Changes, StoreError> {
        self.call(self.inner.changes(since)).await
    }

    async fn settle(&self) {
        self.inner.settle().await;
    }
}

/// What a manager can do to the first key of an account that has two.
const OPERATIONS: [&str; 11] = [
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
    "delete_all",
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
        "delete_all" => manager.delete_all(owner).await.map(|_| None),
        _ => unreachable!(),
    }
}

/// What stands between the store that fails and those who use it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Between {
    Nothing,
    Cache,
}

#[tokio::test]
async fn an_operation_whose_store_fails_is_whole() {
    every_failure_is_whole(Between::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_whose_store_fails_under_the_cache_is_whole() {
    every_failure_is_whole(Between::Cache).await;
}

/// Whatever call of an operation fails: the operation says so, and it is done or not done as a whole.
/// A key is accepted exactly when it is listed.
async fn every_failure_is_whole(between: Between) {
    let mut failures = 0;
    for operation in OPERATIONS {
        for how in [Before, After] {
            for calls in 0.. {
                let failing = Failing::new(MemoryStore::new(), how);
                if !fails_whole(failing, calls, between, operation).await {
                    break;
                }
                failures += 1;
            }
        }
    }
    println!("{between:?} between: {failures} failures in {} operations", OPERATIONS.len());
    assert!(failures >= 2 * 13, "some operations call the store more than once: {failures}");
}

/// Whether an operation came to the call that fails.
async fn fails_whole(
    failing: Failing<MemoryStore>,
    calls: usize,
    between: Between,
    operation: &str,
) -> bool {
    let truth: Store = Arc::new(failing.inner.clone());
    let through: Store = match between {
        Between::Nothing => Arc::new(failing.clone()),
        Between::Cache => Arc::new(CachedStore::alone(failing.clone(), CacheSettings::default())),
    };
    let (owner, newcomer) = (account("a"), account("newcomer"));
    let limit = if operation == "create at the cap" { 2 } else { 3 };
    let manager = KeyManager::new(Arc::clone(&through), "acme".parse().unwrap());
    let first = manager.create(&owner, named("first")).await.unwrap();
    let second = manager.create(&owner, named("second")).await.unwrap();
    let id = first.record().id.clone();
    let mut texts = vec![text(first), text(second)];
    let door = Door::of(Arc::clone(&through));
    for text in &texts {
        assert_eq!(door.status(text).await, 200, "where it can be kept, it is kept now");
    }
    let before = format!("{:?}", truth.list(&owner).await.unwrap());

    failing.fail_after(calls);
    let answer = operate(&manager.with_limit(limit), operation, &owner, &id).await;
    let has_failed = failing.has_failed();
    failing.calm();
    // What a cache asks for itself may fail without anybody's noticing.
    let is_told = matches!(answer, Err(ManageError::Store(_)));
    assert!(
        is_told == has_failed || has_failed && between == Between::Cache,
        "{operation}: {answer:?}"
    );
    texts.extend(answer.ok().flatten());

    let secrets: Vec<_> =
        texts.iter().map(|text| crate::support::digest(text).fingerprint()).collect();
    let listed = coherent(&truth, &owner, &secrets[..2]).await;
    let seen = coherent(&through, &owner, &secrets[..2]).await;
    assert_eq!(format!("{listed:?}"), format!("{seen:?}"), "{operation}");
    assert!(listed.len() <= limit, "{operation}: the cap");
    if is_told && failing.how == Before {
        assert_eq!(before, format!("{listed:?}"), "{operation}: nothing happened");
    }
    let all = [listed, truth.list(&newcomer).await.unwrap()].concat();
    for (text, secret) in texts.iter().zip(&secrets) {
        let is_live = all.iter().any(|record| record.fingerprint() == *secret);
        assert_eq!(door.status(text).await, if is_live { 200 } else { 401 }, "{operation}");
    }
    if operation != "delete_all" {
        assert_eq!(door.status(&texts[1]).await, 200, "{operation}: a key that has no part in it");
    }
    has_failed
}

/// A store may panic, or never answer: one request is refused in time, and the next is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_panics_or_hangs_refuses_one_request() {
    for how in [Before, After, Panics, PanicsLater, Never] {
        let memory = MemoryStore::new();
        let (_, key) = crate::support::with_key(memory.clone()).await;
        let failing = Failing::new(memory, how);
        let door = Door::of(Arc::new(failing.clone()));
        assert_eq!(door.status(&key).await, 200);
        failing.fail_after(0);
        let (status, took) = soon(door.ask(&key)).await;
        assert_eq!(status, 503, "{how:?}");
        assert!(took < Duration::from_secs(3), "{how:?}: {took:?}");
        assert_eq!(door.status(&key).await, 200, "{how:?}");
        println!("{how:?}: 503 in {took:.0?}");
    }
}

/// A store that hangs for one request does not hold up another.
#[tokio::test(flavor = "multi_thread")]
async fn requests_do_not_wait_for_one_that_hangs() {
    let memory = MemoryStore::new();
    let (_, key) = crate::support::with_key(memory.clone()).await;
    let failing = Failing::new(memory, Never);
    failing.fail_after(0);
    let door = Door::of(Arc::new(failing.clone()));
    let hanging = tokio::spawn({
        let (door, key) = (door.clone(), key.clone());
        async move { door.ask(&key).await }
    });
    while !failing.has_failed() {
        tokio::task::yield_now().await;
        assert!(!hanging.is_finished());
    }
    let mut meanwhile = 0;
    for _ in 0..100 {
        assert_eq!(door.ask(&key).await.0, 200);
        meanwhile += usize::from(!hanging.is_finished());
    }
    assert!(meanwhile > 1, "all waited for the one that hangs");
    let (status, took) = hanging.await.unwrap();
    assert!(status == 503 && took < Duration::from_secs(3), "{status} in {took:?}");
}

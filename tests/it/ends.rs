//! When what is open ends: with its key, and with a registry that is silent; and not before.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::time::Instant;
use tower_api_key::ends::Ended;
use tower_api_key::{
    AccountId, CacheSettings, CachedStore, Changes, Day, EndsSettings, Fingerprint, Identity,
    KeyDigest, KeyEnd, KeyEnds, KeyId, KeyManager, KeyName, KeyRecord, KeyRegistry, KeyStore,
    KeyUsage, KeyVerifier, Lookup, ManualClock, MemoryStore, NewKey, NewSecret, StoreError, Use,
    Version, Written,
};

use crate::support::{Log, account, digest, named, soon, text, time};

const INTERVAL: Duration = Duration::from_millis(500);

/// A store that counts what it is asked, and fails as told.
#[derive(Clone)]
pub(crate) struct Watched {
    pub(crate) inner: MemoryStore,
    asked: Arc<AtomicUsize>,
    looked_up: Arc<AtomicUsize>,
    pub(crate) fails: Arc<AtomicBool>,
    hangs: Arc<AtomicBool>,
    panics: Arc<AtomicBool>,
    forgets: Arc<AtomicBool>,
    lookups_fail: Arc<AtomicBool>,
}

impl Watched {
    pub(crate) fn new() -> Self {
        Self {
            inner: MemoryStore::new(),
            asked: Arc::default(),
            looked_up: Arc::default(),
            fails: Arc::default(),
            hangs: Arc::default(),
            panics: Arc::default(),
            forgets: Arc::default(),
            lookups_fail: Arc::default(),
        }
    }

    async fn trouble(&self) -> Result<(), StoreError> {
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        assert!(!self.panics.load(Ordering::SeqCst), "on fire");
        if self.fails.load(Ordering::SeqCst) { Err(on_fire()) } else { Ok(()) }
    }
}

fn on_fire() -> StoreError {
    StoreError::unavailable("test", "on fire")
}

impl KeyStore for Watched {
    fn find(&self, fingerprint: Fingerprint) -> Lookup {
        self.inner.find(fingerprint)
    }
}

#[async_trait::async_trait]
impl KeyRegistry for Watched {
    async fn insert(
        &self,
        record: Arc<KeyRecord>,
        limit: usize,
    ) -> Result<Written<()>, StoreError> {
        self.inner.insert(record, limit).await
    }

    async fn insert_first(&self, record: Arc<KeyRecord>) -> Result<Written<()>, StoreError> {
        self.inner.insert_first(record).await
    }

    async fn list(&self, account: &AccountId) -> Result<Vec<Arc<KeyRecord>>, StoreError> {
        self.inner.list(account).await
    }

    async fn get(
        &self,
        account: &AccountId,
        id: &KeyId,
    ) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.trouble().await?;
        if self.lookups_fail.load(Ordering::SeqCst) {
            return Err(on_fire());
        }
        self.looked_up.fetch_add(1, Ordering::SeqCst);
        self.inner.get(account, id).await
    }

    async fn rename(
        &self,
        account: &AccountId,
        id: &KeyId,
        name: KeyName,
    ) -> Result<Written<Arc<KeyRecord>>, StoreError> {
        self.inner.rename(account, id, name).await
    }

    async fn replace(
        &self,
        account: &AccountId,
        id: &KeyId,
        secret: NewSecret,
        at: std::time::SystemTime,
    ) -> Result<Written<Arc<KeyRecord>>, StoreError> {
        self.inner.replace(account, id, secret, at).await
    }

    async fn rehash(
        &self,
        account: &AccountId,
        id: &KeyId,
        old: Fingerprint,
        digest: KeyDigest,
        at: std::time::SystemTime,
    ) -> Result<Written<Arc<KeyRecord>>, StoreError> {
        self.inner.rehash(account, id, old, digest, at).await
    }

    async fn rotate(
        &self,
        account: &AccountId,
        id: &KeyId,
        successor: Arc<KeyRecord>,
        grace_ends: Option<std::time::SystemTime>,
        limit: usize,
    ) -> Result<Written<()>, StoreError> {
        self.inner.rotate(account, id, successor, grace_ends, limit).await
    }

    async fn delete(
        &self,
        account: &AccountId,
        id: &KeyId,
        at: std::time::SystemTime,
    ) -> Result<Written<()>, StoreError> {
        self.inner.delete(account, id, at).await
    }

    async fn delete_all(
        &self,
        account: &AccountId,
        at: std::time::SystemTime,
    ) -> Result<usize, StoreError> {
        self.inner.delete_all(account, at).await
    }

    async fn mark_used(&self, uses: &[Use]) -> Result<(), StoreError> {
        self.inner.mark_used(uses).await
    }

    async fn usage(&self, account: &AccountId, since: Day) -> Result<Vec<KeyUsage>, StoreError> {
        self.inner.usage(account, since).await
    }

    async fn changes(&self, since: Version) -> Result<Changes, StoreError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.trouble().await?;
        match self.inner.changes(since).await? {
            changes if self.forgets.load(Ordering::SeqCst) => {
                Ok(Changes::Forgotten { latest: changes.latest() })
            }
            changes => Ok(changes),
        }
    }

    async fn settle(&self) {}
}

struct Fixture {
    store: Watched,
    manager: KeyManager,
    clock: ManualClock,
    ends: KeyEnds,
}

impl Fixture {
    fn new() -> Self {
        let (store, clock) = (Watched::new(), ManualClock::at(time(0)));
        let manager = KeyManager::new(store.clone(), "acme".parse().unwrap());
        let settings = EndsSettings::default().with_clock(clock.clone());
        let ends = KeyEnds::watch(store.clone(), settings);
        let manager = manager.with_clock(clock.clone()).with_limit(100_000);
        Self { store, manager, clock, ends }
    }

    async fn caller(&self, new: NewKey) -> Identity {
        let key = text(self.manager.create(&account("a"), new).await.unwrap());
        let verifier = KeyVerifier::new(self.store.clone()).with_clock(self.clock.clone());
        verifier.verify(&key).await.unwrap()
    }

    async fn delete(&self, caller: &Identity) {
        self.manager.delete(caller.account(), caller.key_id()).await.unwrap();
    }
}

/// Lets some rounds pass.
async fn rounds(number: u32) {
    tokio::time::sleep(INTERVAL * number + Duration::from_millis(1)).await;
}

fn is_open(ended: &mut Ended) -> bool {
    ended.now_or_never().is_none()
}

async fn ends_within(limit: Duration, ended: Ended) -> KeyEnd {
    let since = Instant::now();
    let end = soon(ended).await;
    assert!(since.elapsed() <= limit, "{:?}", since.elapsed());
    end
}

#[tokio::test(start_paused = true)]
async fn every_end_of_a_key_ends_what_is_open_with_it_and_no_other() {
    let fixture = Fixture::new();
    let (manager, ends) = (&fixture.manager, &fixture.ends);
    let other = fixture.caller(named("x")).await;
    let mut staying = ends.of(&other);

    let deleted = fixture.caller(named("x")).await;
    let (first, second) = (ends.of(&deleted), ends.of(&deleted));
    rounds(2).await;
    fixture.delete(&deleted).await;
    assert_eq!(ends_within(INTERVAL, first).await, KeyEnd::Invalid);
    assert_eq!(ends_within(Duration::ZERO, second).await, KeyEnd::Invalid);

    let regenerated = fixture.caller(named("x")).await;
    let mut ended = ends.of(&regenerated);
    rounds(2).await;
    manager.rename(&account("a"), regenerated.key_id(), "y".parse().unwrap()).await.unwrap();
    rounds(2).await;
    assert!(is_open(&mut ended), "a new name is no end");
    let _ = manager.regenerate(&account("a"), regenerated.key_id()).await.unwrap();
    assert_eq!(ends_within(INTERVAL, ended).await, KeyEnd::Invalid);

    let rotated = fixture.caller(named("x")).await;
    let ended = ends.of(&rotated);
    rounds(2).await;
    let _ = manager.rotate(&account("a"), rotated.key_id(), Duration::ZERO).await.unwrap();
    assert_eq!(ends_within(INTERVAL, ended).await, KeyEnd::Invalid);

    let closed = fixture.caller(named("x")).await;
    let ended = ends.of(&closed);
    assert!(is_open(&mut staying));
    manager.delete_all(&account("a")).await.unwrap();
    assert_eq!(ends_within(INTERVAL, ended).await, KeyEnd::Invalid);
    assert_eq!(ends_within(INTERVAL, staying).await, KeyEnd::Invalid, "it was of that account");
}

#[tokio::test(start_paused = true)]
async fn the_same_key_under_another_digest_is_no_end() {
    let fixture = Fixture::new();
    let caller = fixture.caller(named("x")).await;
    let mut ended = fixture.ends.of(&caller);
    rounds(2).await;
    let (owner, id) = (caller.account().clone(), caller.key_id().clone());
    let rehashed = digest("the-same-key-peppered");
    let written =
        fixture.store.rehash(&owner, &id, caller.fingerprint(), rehashed, time(1)).await.unwrap();
    assert!(matches!(written, Written::Done(_)));
    rounds(3).await;
    assert!(is_open(&mut ended));
    // Somebody who comes with the old digest, a moment after it was changed.
    let mut late = fixture.ends.of(&caller);
    rounds(1).await;
    assert!(is_open(&mut late));
    let _ = fixture.manager.regenerate(&owner, &id).await.unwrap();
    assert_eq!(ends_within(INTERVAL, ended).await, KeyEnd::Invalid);
    assert_eq!(ends_within(INTERVAL, late).await, KeyEnd::Invalid);
    // Given another digest and another secret between two looks.
    let caller = fixture.caller(named("x")).await;
    let ended = fixture.ends.of(&caller);
    rounds(2).await;
    let rehashed = digest("that-one-peppered");
    let id = caller.key_id();
    let _ =
        fixture.store.rehash(&owner, id, caller.fingerprint(), rehashed, time(1)).await.unwrap();
    let _ = fixture.manager.regenerate(&owner, id).await.unwrap();
    assert_eq!(ends_within(INTERVAL, ended).await, KeyEnd::Invalid);
}

#[tokio::test(start_paused = true)]
async fn an_expiry_and_the_end_of_a_grace_come_by_the_clock() {
    let fixture = Fixture::new();
    let expiring = fixture.caller(named("x").with_expires_at(time(60))).await;
    let graced = fixture.caller(named("x")).await;
    let (mut expires, mut grace) = (fixture.ends.of(&expiring), fixture.ends.of(&graced));
    let hour = Duration::from_hours(1);
    let _ = fixture.manager.rotate(&account("a"), graced.key_id(), hour).await.unwrap();
    fixture.clock.set(time(59));
    rounds(3).await;
    assert!(is_open(&mut expires) && is_open(&mut grace));
    fixture.clock.set(time(60));
    assert_eq!(ends_within(INTERVAL, expires).await, KeyEnd::Invalid);
    fixture.clock.set(time(3_599));
    rounds(3).await;
    assert!(is_open(&mut grace));
    fixture.clock.set(time(3_600));
    assert_eq!(ends_within(INTERVAL, grace).await, KeyEnd::Invalid);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_ended_before_ends_what_is_opened_at_once() {
    let fixture = Fixture::new();
    let caller = fixture.caller(named("x")).await;
    rounds(3).await;
    fixture.delete(&caller).await;
    assert_eq!(ends_within(Duration::ZERO, fixture.ends.of(&caller)).await, KeyEnd::Invalid);
    // Deleted between two looks, with something else open with it.
    let caller = fixture.caller(named("x")).await;
    let open = fixture.ends.of(&caller);
    rounds(3).await;
    fixture.delete(&caller).await;
    let late = fixture.ends.of(&caller);
    assert_eq!(ends_within(INTERVAL, late).await, KeyEnd::Invalid);
    assert_eq!(ends_within(Duration::ZERO, open).await, KeyEnd::Invalid);
}

/// One way for the registry to be down: how long after 10 s the end comes.
async fn is_down(trouble: impl Fn(&Watched) -> &AtomicBool, late: Duration) {
    let (log, _guard) = Log::capture();
    let fixture = Fixture::new();
    let caller = fixture.caller(named("x")).await;
    let patience = Duration::from_secs(10);
    let mut open = fixture.ends.of(&caller);
    rounds(4).await;
    // A shorter outage ends nothing, but for what was deleted meanwhile.
    let deleted = fixture.caller(named("x")).await;
    let mut ended = fixture.ends.of(&deleted);
    rounds(2).await;
    trouble(&fixture.store).store(true, Ordering::SeqCst);
    fixture.delete(&deleted).await;
    tokio::time::sleep(patience * 4 / 5).await;
    assert!(is_open(&mut open) && is_open(&mut ended));
    trouble(&fixture.store).store(false, Ordering::SeqCst);
    assert_eq!(ends_within(INTERVAL + late, ended).await, KeyEnd::Invalid);
    assert!(is_open(&mut open));
    rounds(2).await;

    trouble(&fixture.store).store(true, Ordering::SeqCst);
    let since = Instant::now();
    assert_eq!(soon(open).await, KeyEnd::Unknown);
    let outlived = since.elapsed();
    assert!(
        outlived + INTERVAL >= patience && outlived <= patience + INTERVAL + late,
        "{outlived:?}"
    );
    // What is opened while it lasts has as long.
    let opened = Instant::now();
    assert_eq!(soon(fixture.ends.of(&caller)).await, KeyEnd::Unknown);
    // Counted from the beginning of a round.
    assert!(opened.elapsed() + INTERVAL + late >= patience, "{:?}", opened.elapsed());
    assert_eq!(log.lines("what was open is ended").len(), 2);

    trouble(&fixture.store).store(false, Ordering::SeqCst);
    let mut open = fixture.ends.of(&caller);
    tokio::time::sleep(patience * 2).await;
    assert!(is_open(&mut open));
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_fails_ends_all_when_patience_is_over() {
    is_down(|store| &store.fails, Duration::ZERO).await;
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_panics_does_too() {
    is_down(|store| &store.panics, Duration::ZERO).await;
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_hangs_does_too() {
    is_down(|store| &store.hangs, Duration::from_secs(2)).await;
}

/// Changes are told of, and what they are cannot be looked up.
#[tokio::test(start_paused = true)]
async fn a_change_that_cannot_be_looked_up_ends_its_key_and_no_other() {
    let fixture = Fixture::new();
    let (caller, other) = (fixture.caller(named("x")).await, fixture.caller(named("x")).await);
    let (mut open, mut staying) = (fixture.ends.of(&caller), fixture.ends.of(&other));
    rounds(4).await;
    fixture.store.lookups_fail.store(true, Ordering::SeqCst);
    fixture.delete(&caller).await;
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert!(is_open(&mut open));
    assert_eq!(ends_within(Duration::from_secs(2), open).await, KeyEnd::Unknown);
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert!(is_open(&mut staying));
}

#[tokio::test(start_paused = true)]
async fn where_the_registry_has_forgotten_everything_is_looked_at() {
    let fixture = Fixture::new();
    let (caller, other) = (fixture.caller(named("x")).await, fixture.caller(named("x")).await);
    let (open, mut staying) = (fixture.ends.of(&caller), fixture.ends.of(&other));
    rounds(4).await;
    fixture.store.forgets.store(true, Ordering::SeqCst);
    fixture.delete(&caller).await;
    assert_eq!(ends_within(INTERVAL, open).await, KeyEnd::Invalid);
    rounds(4).await;
    assert!(is_open(&mut staying));
}

/// Another process deletes and regenerates, and this one's cache goes on answering for 30 s.
#[tokio::test]
async fn a_memory_that_is_behind_is_not_believed() {
    let store = MemoryStore::new();
    let elsewhere = KeyManager::new(store.clone(), "acme".parse().unwrap());
    let cached = CachedStore::alone(store, CacheSettings::default());
    let verifier = KeyVerifier::new(cached.clone());
    let ends = KeyEnds::watch(cached, EndsSettings::default());
    let mut open = Vec::new();
    for _ in 0..3 {
        let issued = elsewhere.create(&account("a"), named("x")).await.unwrap();
        let id = issued.record().id.clone();
        let caller = verifier.verify(&text(issued)).await.unwrap();
        open.push((id, ends.of(&caller)));
    }
    let (_, mut staying) = open.pop().unwrap();
    let (deleted, first) = open.pop().unwrap();
    let (regenerated, second) = open.pop().unwrap();
    elsewhere.delete(&account("a"), &deleted).await.unwrap();
    let _ = elsewhere.regenerate(&account("a"), &regenerated).await.unwrap();
    for ended in [first, second] {
        assert_eq!(ends_within(Duration::from_secs(5), ended).await, KeyEnd::Invalid);
    }
    assert!(is_open(&mut staying));
}

/// What rounds ask does not grow with what is open.
#[tokio::test(start_paused = true)]
async fn many_streams_cost_one_question_a_round() {
    let fixture = Fixture::new();
    let mut callers = Vec::new();
    for _ in 0..500 {
        callers.push(fixture.caller(named("x")).await);
    }
    // A key that was made since the last round has changed since then, and is asked for once more.
    rounds(1).await;
    let mut open: HashMap<usize, Vec<Ended>> = HashMap::new();
    for (number, caller) in callers.iter().enumerate() {
        open.insert(number, (0..20).map(|_| fixture.ends.of(caller)).collect());
    }
    rounds(3).await;
    let asked = |what: &AtomicUsize| what.swap(0, Ordering::SeqCst);
    assert_eq!(asked(&fixture.store.looked_up), 500, "each key once");
    asked(&fixture.store.asked);
    rounds(100).await;
    assert_eq!(asked(&fixture.store.looked_up), 0);
    assert!((99..=101).contains(&asked(&fixture.store.asked)));

    fixture.delete(&callers[7]).await;
    asked(&fixture.store.looked_up);
    for ended in open.remove(&7).unwrap() {
        assert_eq!(ends_within(INTERVAL, ended).await, KeyEnd::Invalid);
    }
    assert_eq!(asked(&fixture.store.looked_up), 1);
    assert!(open.values_mut().flatten().all(is_open));
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_with_the_last_handle_and_the_last_stream() {
    let fixture = Fixture::new();
    let caller = fixture.caller(named("x")).await;
    let guarded = fixture.ends.guard(&caller, stream::pending::<()>());
    let Fixture { store, ends, manager, .. } = fixture;
    drop(ends);
    store.asked.store(0, Ordering::SeqCst);
    rounds(4).await;
    assert!(store.asked.load(Ordering::SeqCst) >= 4, "a stream is a handle");
    drop(guarded);
    rounds(1).await;
    store.asked.store(0, Ordering::SeqCst);
    rounds(10).await;
    assert_eq!(store.asked.load(Ordering::SeqCst), 0);
    drop(manager);
}

#[test]
fn what_outlives_its_runtime_ends() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (ended, ends, caller) = runtime.block_on(async {
        let fixture = Fixture::new();
        let caller = fixture.caller(named("x")).await;
        (fixture.ends.of(&caller), fixture.ends, caller)
    });
    drop(runtime);
    assert_eq!(ended.now_or_never(), Some(KeyEnd::Unknown));
    assert_eq!(ends.of(&caller).now_or_never(), Some(KeyEnd::Unknown));
}

#[tokio::test(start_paused = true)]
async fn a_guarded_stream_gives_all_until_its_key_ends() {
    let fixture = Fixture::new();
    let caller = fixture.caller(named("x")).await;
    let numbers = stream::iter(0..3).chain(stream::pending());
    let mut guarded = fixture.ends.guard(&caller, numbers);
    for number in 0..3 {
        assert_eq!(guarded.next().await, Some(number));
    }
    assert!(guarded.next().now_or_never().is_none());
    fixture.delete(&caller).await;
    assert_eq!(soon(guarded.next()).await, None);
    assert_eq!(guarded.next().await, None, "and goes on being over");

    let whole = fixture.ends.guard(&fixture.caller(named("x")).await, stream::iter(0..3));
    assert_eq!(whole.collect::<Vec<_>>().await, [0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_guarded_body_does_too() {
    use http_body_util::{BodyExt as _, StreamBody};
    let fixture = Fixture::new();
    let caller = fixture.caller(named("x")).await;
    let frame = |text: &'static str| {
        Ok::<_, std::io::Error>(http_body::Frame::data(bytes::Bytes::from(text)))
    };
    let frames = stream::iter([frame("a"), frame("b")]).chain(stream::pending());
    let mut body = fixture.ends.guard(&caller, StreamBody::new(frames));
    for expected in ["a", "b"] {
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), expected);
    }
    assert!(!http_body::Body::is_end_stream(&body));
    fixture.delete(&caller).await;
    assert!(soon(body.frame()).await.is_none());
    assert!(http_body::Body::is_end_stream(&body));
}

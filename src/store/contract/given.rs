//! What the promises start from and how they look at what a store did. Knows no promise.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::Barrier;
use tokio::task::JoinHandle;

use crate::digest::{Fingerprint, KeyDigest};
use crate::key::KeyText;
use crate::record::{AccountId, KeyRecord, Tombstone};
use crate::store::{Entry, KeyRegistry, NewSecret, StoreError, Written};

pub(super) type Store = Arc<dyn KeyRegistry>;

/// More than any promise files for one account: for writes that are not about the cap.
pub(super) const NO_CAP: usize = 100_000;

pub(super) fn account(name: &str) -> AccountId {
    name.parse().unwrap()
}

/// A time in whole milliseconds, as records have it.
pub(super) fn time(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
}

/// A record of its own digest and id.
pub(super) fn record(account: &AccountId, created_at: SystemTime) -> KeyRecord {
    let number = next();
    let id = format!("key_{number:020}").parse().unwrap();
    let digest = digest(&format!("record-{number}"));
    KeyRecord::new(id, account.clone(), "A name".parse().unwrap(), digest, created_at)
}

/// A secret of its own.
pub(super) fn secret() -> NewSecret {
    let number = next();
    let hint = format!("…{:04}", number % 10_000).parse().unwrap();
    NewSecret::new(digest(&format!("secret-{number}")), hint)
}

fn next() -> u64 {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

fn digest(text: &str) -> KeyDigest {
    KeyDigest::of(KeyText::parse(text.as_bytes()).unwrap())
}

/// Another digest of the same fingerprint: a collision of 64 bits. `nth` tells several apart.
pub(super) fn colliding(with: &KeyDigest, nth: usize) -> KeyDigest {
    let mut bytes = *with.as_bytes();
    bytes[8..16].copy_from_slice(&(nth as u64 + 1).to_be_bytes());
    KeyDigest::from_bytes(bytes)
}

pub(super) async fn insert(store: &Store, record: KeyRecord) -> Arc<KeyRecord> {
    let record = Arc::new(record);
    let inserted = store.insert(Arc::clone(&record), NO_CAP).await;
    assert_eq!(said(inserted), Written::Done(()), "a new key below the cap is filed");
    record
}

/// What a write said, without what it gave.
pub(super) fn said<T>(written: Result<Written<T>, StoreError>) -> Written<()> {
    match written.unwrap() {
        Written::Done(_) => Written::Done(()),
        Written::NotFound => Written::NotFound,
        Written::Refused => Written::Refused,
        Written::Superseded => Written::Superseded,
        Written::Taken => Written::Taken,
    }
}

/// A write that nothing forbids is done.
#[track_caller]
pub(super) fn assert_done<T>(written: Result<Written<T>, StoreError>, what: &str) {
    assert_eq!(said(written), Written::Done(()), "{what}: nothing forbids it");
}

pub(super) fn done(all: &[Written<()>]) -> usize {
    all.iter().filter(|said| **said == Written::Done(())).count()
}

pub(super) async fn find(store: &Store, fingerprint: Fingerprint) -> Option<Entry> {
    let found = store.find(fingerprint).await.unwrap();
    let filed_under = match &found {
        Some(Entry::Live(record)) => record.fingerprint(),
        Some(Entry::Ended(tombstone)) => tombstone.fingerprint,
        None => fingerprint,
    };
    assert_eq!(filed_under, fingerprint, "find gives what is filed under the fingerprint");
    found
}

pub(super) async fn is_live(store: &Store, fingerprint: Fingerprint) -> bool {
    matches!(find(store, fingerprint).await, Some(Entry::Live(_)))
}

/// The live record of this fingerprint.
pub(super) async fn live(store: &Store, fingerprint: Fingerprint) -> Arc<KeyRecord> {
    match find(store, fingerprint).await {
        Some(Entry::Live(record)) => record,
        Some(Entry::Ended(_)) => panic!("find says that a live secret was ended"),
        None => panic!("find does not find a live secret"),
    }
}

/// The tombstone of this fingerprint.
pub(super) async fn ended(store: &Store, fingerprint: Fingerprint) -> Arc<Tombstone> {
    match find(store, fingerprint).await {
        Some(Entry::Ended(tombstone)) => tombstone,
        Some(Entry::Live(_)) => panic!("a secret that was ended is live"),
        None => panic!("a secret that was ended has left no tombstone"),
    }
}

/// A record as `get`, `list` and `find` give it, all the same but for the last use.
pub(super) async fn shown(store: &Store, like: &KeyRecord) -> Arc<KeyRecord> {
    let got = store.get(&like.account, &like.id).await.unwrap();
    let Some(got) = got else { panic!("get does not give a key of the account") };
    let listed = store.list(&like.account).await.unwrap();
    let listed: Vec<_> = listed.iter().filter(|record| record.id == like.id).collect();
    assert_eq!(listed.len(), 1, "list gives a key of the account once");
    assert_same(listed[0], &got, "list and get");
    // What a cache gives may have been used since.
    let found = live(store, got.fingerprint()).await;
    let found = KeyRecord {
        last_used_at: got.last_used_at,
        last_used_from: got.last_used_from,
        last_used_agent: got.last_used_agent,
        ..(*found).clone()
    };
    assert_same(&found, &got, "find and get");
    got
}

/// Compares everything; never prints a digest.
pub(super) fn assert_same(left: &KeyRecord, right: &KeyRecord, what: &str) {
    assert_eq!(format!("{left:?}"), format!("{right:?}"), "{what} are not the same");
    assert!(left.digest.matches(&right.digest), "{what} are not of one digest");
}

/// `get`, `list` and `find` give exactly this record.
pub(super) async fn assert_shown(store: &Store, record: &KeyRecord) {
    assert_same(&*shown(store, record).await, record, "get and what was expected");
}

/// A refused record is nowhere.
pub(super) async fn assert_nowhere(store: &Store, record: &KeyRecord) {
    assert!(find(store, record.fingerprint()).await.is_none(), "find finds what was refused");
    let got = store.get(&record.account, &record.id).await.unwrap();
    assert!(got.is_none(), "get gives what was refused");
    let listed = store.list(&record.account).await.unwrap();
    assert!(listed.iter().all(|other| other.id != record.id), "list gives what was refused");
}

/// How many keys of the account have not expired.
pub(super) async fn active(store: &Store, owner: &AccountId, now: SystemTime) -> usize {
    let listed = store.list(owner).await.unwrap();
    listed.iter().filter(|record| !record.is_expired(now)).count()
}

/// Starts `many` calls at once and waits for all of them. Every other time they are started the
/// other way round, so that a store that is done before the second call begins meets both orders.
pub(super) async fn at_once<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    many: usize,
    call: impl Fn(usize) -> F,
) -> Vec<T> {
    static TURN: AtomicU64 = AtomicU64::new(0);
    let barrier = Arc::new(Barrier::new(many));
    let start = |number| {
        let (barrier, call) = (Arc::clone(&barrier), call(number));
        tokio::spawn(async move {
            barrier.wait().await;
            call.await
        })
    };
    if TURN.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
        return join((0..many).map(start).collect()).await;
    }
    let mut results = join((0..many).rev().map(start).collect()).await;
    results.reverse();
    results
}

/// Lets watchers look at the store: once before `act`, again and again until it is over, and once
/// more after that.
/// A look is given what the watcher's last look gave, and whether `act` was over before it began.
pub(super) async fn while_watched<S, F, T>(
    watchers: Vec<S>,
    look: impl Fn(S, bool) -> F + Clone + Send + 'static,
    act: impl Future<Output = T>,
) -> (T, Vec<S>)
where
    S: Send + 'static,
    F: Future<Output = S> + Send + 'static,
{
    let is_over = Arc::new(AtomicBool::new(false));
    let watch = |mut seen: S| {
        let (is_over, look) = (Arc::clone(&is_over), look.clone());
        tokio::spawn(async move {
            loop {
                let was_over = is_over.load(Ordering::SeqCst);
                seen = look(seen, was_over).await;
                if was_over {
                    return seen;
                }
                tokio::task::yield_now().await;
            }
        })
    };
    let mut ready = Vec::new();
    for watcher in watchers {
        ready.push(look(watcher, false).await);
    }
    let watchers: Vec<_> = ready.into_iter().map(watch).collect();
    let acted = act.await;
    is_over.store(true, Ordering::SeqCst);
    (acted, join(watchers).await)
}

/// The results of tasks; a panic in one of them goes on here.
pub(super) async fn join<T>(tasks: Vec<JoinHandle<T>>) -> Vec<T> {
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.unwrap_or_else(|broken| resume_unwind(broken.into_panic())));
    }
    results
}

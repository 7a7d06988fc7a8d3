//! Writes to the memory store, in every order in which threads can do them, by loom: with the file of the
//! store itself, and an index of one lock that loom knows.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use loom::future::block_on;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;

use self::registry::MemoryStore;
use crate::digest::{Fingerprint, KeyDigest};
use crate::key::KeyText;
use crate::record::{AccountId, EndCause, KeyId, KeyRecord};
use crate::store::{Entry, KeyRegistry as _, KeyStore as _, NewSecret, Written};

mod sync {
    pub(super) use loom::sync::{Mutex, MutexGuard};
}

#[allow(
    dead_code,
    unreachable_pub,
    clippy::duplicate_mod,
    reason = "the same file, with other locks"
)]
#[path = "registry.rs"]
mod registry;

#[allow(dead_code, clippy::duplicate_mod, reason = "the same file")]
#[path = "books.rs"]
mod books;

#[allow(dead_code, clippy::duplicate_mod, reason = "the same file")]
#[path = "usage.rs"]
mod usage;

mod index {
    use std::collections::BTreeMap;

    use loom::sync::RwLock;

    use super::{Entry, Fingerprint};

    #[derive(Default)]
    pub(super) struct Index(RwLock<BTreeMap<[u8; 8], Entry>>);

    impl Index {
        pub(super) fn get(&self, fingerprint: Fingerprint) -> Option<Entry> {
            self.0.read().unwrap().get(fingerprint.as_bytes()).cloned()
        }

        pub(super) fn set(&self, fingerprint: Fingerprint, entry: Entry) {
            self.0.write().unwrap().insert(*fingerprint.as_bytes(), entry);
        }
    }
}

const NOW: SystemTime = SystemTime::UNIX_EPOCH;

fn account() -> AccountId {
    "a@example.com".parse().unwrap()
}

fn id(number: u8) -> KeyId {
    format!("key_{number}").parse().unwrap()
}

fn digest(number: u8) -> KeyDigest {
    KeyDigest::of(KeyText::parse(&[b'a' + number]).unwrap())
}

fn record(number: u8) -> Arc<KeyRecord> {
    let name = "A name".parse().unwrap();
    Arc::new(KeyRecord::new(id(number), account(), name, digest(number), NOW))
}

fn secret(number: u8) -> NewSecret {
    NewSecret::new(digest(number), record(number).hint.clone())
}

/// Keys with these numbers, in a store without a limit.
fn with(numbers: &[u8]) -> MemoryStore {
    let store = MemoryStore::default();
    for &number in numbers {
        assert!(is_done(block_on(store.insert(record(number), usize::MAX))));
    }
    store
}

#[allow(clippy::needless_pass_by_value, reason = "it is over")]
fn is_done<T, E>(written: Result<Written<T>, E>) -> bool {
    matches!(written, Ok(Written::Done(_)))
}

fn found(store: &MemoryStore, number: u8) -> Option<Entry> {
    block_on(store.find(digest(number).fingerprint()).into_future()).unwrap()
}

fn is_live(store: &MemoryStore, number: u8) -> bool {
    matches!(found(store, number), Some(Entry::Live(_)))
}

fn live(store: &MemoryStore) -> usize {
    block_on(store.list(&account())).unwrap().len()
}

/// Everything, with so many switches of threads that nobody asked for; `LOOM_MAX_PREEMPTIONS` sets another
/// number. Says how many orders that were.
fn every_order(switches: usize, test: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    let switches = *model.preemption_bound.get_or_insert(switches);
    let orders = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counted = Arc::clone(&orders);
    model.check(move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        test();
    });
    let thread = std::thread::current();
    println!("{}: {orders:?} orders, {switches} switches", thread.name().unwrap_or_default());
}

/// Two threads that each do one thing, and how many of them have done it.
fn both(
    store: &MemoryStore,
    one: impl FnOnce(MemoryStore) -> bool + Send + 'static,
    other: impl FnOnce(MemoryStore) -> bool,
) -> usize {
    let for_one = store.clone();
    let one = thread::spawn(move || one(for_one));
    let other = other(store.clone());
    usize::from(one.join().unwrap()) + usize::from(other)
}

#[test]
fn of_three_that_take_the_last_place_one_gets_it() {
    every_order(5, || {
        let store = with(&[1]);
        let done = Arc::new(AtomicUsize::new(0));
        let others = [2, 3].map(|number| {
            let (store, done) = (store.clone(), Arc::clone(&done));
            thread::spawn(move || {
                if is_done(block_on(store.insert(record(number), 2))) {
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        if is_done(block_on(store.insert(record(4), 2))) {
            done.fetch_add(1, Ordering::Relaxed);
        }
        for other in others {
            other.join().unwrap();
        }
        assert_eq!((done.load(Ordering::Relaxed), live(&store)), (1, 2));
    });
}

#[test]
fn a_rotation_takes_a_place_like_any_other() {
    every_order(5, || {
        let store = with(&[1]);
        let grace = Some(NOW + Duration::from_mins(1));
        let done = both(
            &store,
            move |store| is_done(block_on(store.rotate(&account(), &id(1), record(2), grace, 2))),
            |store| is_done(block_on(store.insert(record(3), 2))),
        );
        assert_eq!((done, live(&store)), (1, 2));
    });
}

#[test]
fn an_account_gets_one_first_key() {
    every_order(5, || {
        let store = MemoryStore::default();
        let first = |number| {
            move |store: MemoryStore| is_done(block_on(store.insert_first(record(number))))
        };
        assert_eq!(both(&store, first(1), first(2)), 1);
        assert_eq!(live(&store), 1);
    });
}

#[test]
fn one_digest_is_one_key_s() {
    every_order(5, || {
        let store = MemoryStore::default();
        let same = |number| {
            let mut record = (*record(number)).clone();
            record.digest = digest(9);
            move |store: MemoryStore| is_done(block_on(store.insert(Arc::new(record), 9)))
        };
        assert_eq!(both(&store, same(1), same(2)), 1);
        assert_eq!(live(&store), 1);
    });
}

#[test]
fn one_key_has_one_successor() {
    every_order(5, || {
        let store = with(&[1]);
        let grace = Some(NOW + Duration::from_mins(1));
        let rotate = |number| {
            move |store: MemoryStore| {
                is_done(block_on(store.rotate(&account(), &id(1), record(number), grace, 9)))
            }
        };
        assert_eq!(both(&store, rotate(2), rotate(3)), 1);
        assert_eq!(live(&store), 2);
    });
}

/// A rotation and a regeneration at once: a key that has a successor gets no new secret.
#[test]
fn who_has_a_successor_is_not_regenerated() {
    every_order(5, || {
        let store = with(&[1]);
        let rotator = {
            let store = store.clone();
            let grace = Some(NOW + Duration::from_mins(1));
            thread::spawn(move || {
                is_done(block_on(store.rotate(&account(), &id(1), record(2), grace, 9)))
            })
        };
        let replaced = block_on(store.replace(&account(), &id(1), secret(3), NOW)).unwrap();
        assert!(rotator.join().unwrap());
        match replaced {
            Written::Done(key) => assert!(key.replaced_by.is_none() && !is_live(&store, 1)),
            Written::Superseded => assert!(is_live(&store, 1) && !is_live(&store, 3)),
            other => panic!("{other:?}"),
        }
        assert_eq!(live(&store), 2);
    });
}

/// Whoever starts after a deletion has returned does not find the key, whatever else is done to it.
#[test]
fn what_was_deleted_stays_dead() {
    every_order(5, || {
        let store = with(&[1]);
        let is_deleted = Arc::new(AtomicBool::new(false));
        let deleter = {
            let (store, is_deleted) = (store.clone(), Arc::clone(&is_deleted));
            thread::spawn(move || {
                assert!(is_done(block_on(store.delete(&account(), &id(1), NOW))));
                is_deleted.store(true, Ordering::SeqCst);
            })
        };
        let is_renamed =
            is_done(block_on(store.rename(&account(), &id(1), "Another".parse().unwrap())));
        if is_deleted.load(Ordering::SeqCst) {
            assert!(!is_live(&store, 1));
        }
        deleter.join().unwrap();
        assert!(!is_live(&store, 1), "renamed: {is_renamed}");
        assert_eq!(live(&store), 0);
    });
}

/// A regeneration and a deletion at once: in the end no secret of the key works, old or new.
#[test]
fn a_new_secret_does_not_outlive_its_key() {
    every_order(5, || {
        let store = with(&[1]);
        both(
            &store,
            |store| is_done(block_on(store.replace(&account(), &id(1), secret(2), NOW))),
            |store| is_done(block_on(store.delete(&account(), &id(1), NOW))),
        );
        assert!(!is_live(&store, 1) && !is_live(&store, 2));
        assert_eq!(live(&store), 0);
        let Some(Entry::Ended(ended)) = found(&store, 1) else { panic!("it was there") };
        assert!(matches!(ended.cause, EndCause::Deleted | EndCause::Regenerated));
    });
}

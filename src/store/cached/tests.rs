//! The lease and the reads under way, in every order in which threads can act on them, by loom: with the
//! files of the cache themselves, and a map in the place of the entries whose lock loom knows.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use loom::future::block_on;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

use self::flights::Flights;
use self::lease::Lease;
use super::CacheSettings;
use crate::digest::{Fingerprint, KeyDigest};
use crate::key::KeyText;
use crate::record::KeyRecord;
use crate::store::{Entry, Found, Lookup};

mod sync {
    pub(super) use loom::sync::atomic::{AtomicU64, Ordering};
    pub(super) use loom::sync::{Mutex, MutexGuard};

    pub(super) const BOARDS: usize = 2;
}

#[allow(dead_code, clippy::duplicate_mod, reason = "the same file, with other locks")]
#[path = "flights.rs"]
mod flights;

#[allow(dead_code, clippy::duplicate_mod, reason = "the same file, with other locks")]
#[path = "lease.rs"]
mod lease;

/// The entries, small: of one fingerprint. Nothing in them orders anything, as if every thread had a copy of
/// its own that comes up to date when something else makes it.
mod entries {
    use std::sync::Mutex;

    use loom::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::{CacheSettings, Duration, Entry, Fingerprint, Found};

    pub(super) struct Entries {
        /// The place of what is known, from one; 0 if nothing is.
        known: AtomicUsize,
        /// Whatever was put.
        all: Mutex<Vec<Option<Entry>>>,
    }

    impl Entries {
        pub(super) fn new(_: &CacheSettings) -> Self {
            Self { known: AtomicUsize::new(0), all: Mutex::default() }
        }

        pub(super) fn get(&self, _: Fingerprint, _: Duration) -> Option<Found> {
            let place = self.known.load(Relaxed).checked_sub(1)?;
            Some(Ok(self.all.lock().unwrap()[place].clone()))
        }

        pub(super) fn is_live(&self, fingerprint: Fingerprint) -> bool {
            matches!(self.get(fingerprint, Duration::ZERO), Some(Ok(Some(Entry::Live(_)))))
        }

        pub(super) fn put(&self, _: Fingerprint, found: Option<Entry>, _: Duration) {
            let place = {
                let mut all = self.all.lock().unwrap();
                all.push(found);
                all.len()
            };
            self.known.store(place, Relaxed);
        }

        pub(super) fn forget(&self, _: Fingerprint) {
            self.known.store(0, Relaxed);
        }

        pub(super) fn forget_absences(&self) {
            self.forget_all();
        }

        pub(super) fn forget_all(&self) {
            self.known.store(0, Relaxed);
        }
    }
}

/// A store with one key, and this process's cache of it.
struct Service {
    key: Arc<KeyRecord>,
    is_deleted: AtomicBool,
    flights: Arc<Flights>,
    lease: Lease,
}

impl Service {
    /// With the lease until the tenth second.
    fn new() -> Arc<Self> {
        let digest = KeyDigest::of(KeyText::parse(b"a-key").unwrap());
        let id = "key_01jd0000000000000000000000".parse().unwrap();
        let (account, name) = ("a".parse().unwrap(), "A name".parse().unwrap());
        let key = KeyRecord::new(id, account, name, digest, SystemTime::UNIX_EPOCH);
        let lease = Lease::none();
        lease.extend(second(10));
        Arc::new(Self {
            key: Arc::new(key),
            is_deleted: AtomicBool::new(false),
            flights: Arc::new(Flights::new(&CacheSettings::default())),
            lease,
        })
    }

    fn fingerprint(&self) -> Fingerprint {
        self.key.fingerprint()
    }

    /// As a request sees it that comes in this second.
    fn find(self: &Arc<Self>, at: u64) -> Lookup {
        let service = Arc::clone(self);
        let ask = move || {
            let is_live = !service.is_deleted.load(Ordering::SeqCst);
            Lookup::ready(Ok(is_live.then(|| Entry::Live(Arc::clone(&service.key)))))
        };
        let (fingerprint, now) = (self.fingerprint(), second(at));
        if !self.lease.covers(now) {
            return self.flights.begin(fingerprint, now, ask);
        }
        if let Some(found) = self.flights.known(fingerprint, now) {
            return Lookup::ready(found);
        }
        self.flights.join_or_begin(fingerprint, now, ask)
    }

    fn is_live(self: &Arc<Self>, at: u64) -> bool {
        matches!(block_on(self.find(at).into_future()), Ok(Some(Entry::Live(_))))
    }
}

fn second(number: u64) -> Duration {
    Duration::from_secs(number)
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

/// A write elsewhere has waited until the lease was over. Whoever finds it renewed finds the key gone.
#[test]
fn who_sees_a_lease_sees_what_was_dropped_before_it() {
    every_order(5, || {
        let service = Service::new();
        assert!(service.is_live(1), "the key is in memory");
        service.is_deleted.store(true, Ordering::SeqCst);
        let replica = {
            let service = Arc::clone(&service);
            thread::spawn(move || {
                service.flights.forget(service.fingerprint());
                service.lease.extend(second(20));
            })
        };
        assert!(!service.is_live(15));
        replica.join().unwrap();
        assert!(!service.is_live(15));
    });
}

/// And whoever comes after the lease was given up does not answer from memory.
#[test]
fn a_lease_that_was_given_up_is_over() {
    every_order(5, || {
        let service = Service::new();
        assert!(service.is_live(1), "the key is in memory");
        let replica = {
            let service = Arc::clone(&service);
            thread::spawn(move || {
                service.lease.give_up(second(2));
                // Off the roll: nobody waits for it any more.
                service.is_deleted.store(true, Ordering::SeqCst);
            })
        };
        if service.is_deleted.load(Ordering::SeqCst) {
            assert!(!service.is_live(3));
        }
        replica.join().unwrap();
        assert!(!service.is_live(3));
    });
}

/// A write here: a read that was under way neither answers those who come after it nor leaves its answer.
#[test]
fn nothing_that_was_read_before_a_write_is_repeated_after_it() {
    every_order(5, || {
        let service = Service::new();
        let reader = {
            let service = Arc::clone(&service);
            thread::spawn(move || service.is_live(1))
        };
        service.is_deleted.store(true, Ordering::SeqCst);
        service.flights.forget(service.fingerprint());
        assert!(!service.is_live(1));
        reader.join().unwrap();
        assert!(!service.is_live(1));
    });
}

#[test]
fn nothing_that_was_read_before_everything_was_dropped_is_repeated() {
    every_order(5, || {
        let service = Service::new();
        let reader = {
            let service = Arc::clone(&service);
            thread::spawn(move || service.is_live(1))
        };
        service.is_deleted.store(true, Ordering::SeqCst);
        service.flights.forget_all();
        assert!(!service.is_live(1));
        reader.join().unwrap();
        assert!(!service.is_live(1));
    });
}

/// Somebody who reads for others goes away; they get their answer.
#[test]
fn who_waits_for_a_read_that_is_given_up_reads_on() {
    every_order(5, || {
        let service = Service::new();
        let leaver = service.find(1).into_future();
        let waiter = {
            let service = Arc::clone(&service);
            thread::spawn(move || assert!(service.is_live(1)))
        };
        drop(leaver);
        assert!(service.is_live(1));
        waiter.join().unwrap();
    });
}

/// All at once: somebody reads, the replica catches up and renews, and a write here ends the key.
#[test]
fn a_write_holds_beside_a_read_and_a_renewal() {
    every_order(2, || {
        let service = Service::new();
        let reader = {
            let service = Arc::clone(&service);
            thread::spawn(move || service.is_live(1))
        };
        let replica = {
            let service = Arc::clone(&service);
            thread::spawn(move || {
                service.flights.forget(service.fingerprint());
                service.lease.extend(second(20));
            })
        };
        service.is_deleted.store(true, Ordering::SeqCst);
        service.flights.forget(service.fingerprint());
        assert!(!service.is_live(1));
        assert!(!service.is_live(15));
        reader.join().unwrap();
        replica.join().unwrap();
        assert!(!service.is_live(15));
    });
}

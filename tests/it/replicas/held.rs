//! A replica over a store whose answers come when the test lets them, by a clock that the test sets.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use futures_util::FutureExt as _;
use tokio::sync::Semaphore;
use tower_api_key::store::{LEASE, Looks, settle};
use tower_api_key::{
    CacheSettings, CachedStore, Changes, Entry, Fingerprint, KeyRecord, KeyRegistry as _,
    KeyStore as _, Lookup, ManualClock, MemoryStore, ReplicaId, Roll, SharedRegistry as _, Version,
    Written,
};

use crate::contract_broken::faulty::{Broken, Faulty};
use crate::support::{account, record, soon, time};

/// A store that answers truly, but when it is let.
struct Held {
    good: MemoryStore,
    /// How many renewals may still be answered.
    renewals: Semaphore,
    withdrawals: Semaphore,
    enrolments: Semaphore,
    /// By which names somebody enrolled.
    names: Mutex<Vec<ReplicaId>>,
    /// How many calls have come.
    asked_to_renew: AtomicUsize,
    asked_to_withdraw: AtomicUsize,
    asked_to_find: AtomicUsize,
    /// It came back with nothing in it.
    has_lost_all: AtomicBool,
    panics: AtomicBool,
    /// How many times the roll was looked at; every other time it takes a while.
    looks: AtomicUsize,
}

impl Default for Held {
    fn default() -> Self {
        let many = || Semaphore::new(Semaphore::MAX_PERMITS / 2);
        let number = AtomicUsize::default;
        let no = AtomicBool::default;
        Self {
            good: MemoryStore::new(),
            renewals: many(),
            withdrawals: many(),
            enrolments: many(),
            names: Mutex::default(),
            asked_to_renew: number(),
            asked_to_withdraw: number(),
            asked_to_find: number(),
            has_lost_all: no(),
            panics: no(),
            looks: number(),
        }
    }
}

#[async_trait::async_trait]
impl Faulty for Held {
    fn good(&self) -> &MemoryStore {
        &self.good
    }

    fn find(&self, fingerprint: Fingerprint) -> Lookup {
        self.asked_to_find.fetch_add(1, Ordering::SeqCst);
        if self.has_lost_all.load(Ordering::SeqCst) {
            return Lookup::ready(Ok(None));
        }
        self.good.find(fingerprint)
    }

    async fn enrol(&self, replica: ReplicaId) {
        self.names.lock().unwrap().push(replica);
        self.good.enrol(replica).await.unwrap();
        self.enrolments.acquire().await.unwrap().forget();
    }

    async fn renew(&self, replica: ReplicaId, applied: Version) -> Option<Changes> {
        assert!(!self.panics.load(Ordering::SeqCst), "a store may do that");
        let answer = self.good.renew(replica, applied).await.unwrap();
        self.asked_to_renew.fetch_add(1, Ordering::SeqCst);
        self.renewals.acquire().await.unwrap().forget();
        if self.has_lost_all.load(Ordering::SeqCst) {
            // Of what was lost, nothing is told.
            return Some(Changes::Known { latest: answer?.latest(), changes: Vec::new() });
        }
        answer
    }

    async fn withdraw(&self, replicas: &[ReplicaId]) {
        self.asked_to_withdraw.fetch_add(1, Ordering::SeqCst);
        self.withdrawals.acquire().await.unwrap().forget();
        self.good.withdraw(replicas).await.unwrap();
    }

    async fn roll(&self) -> Roll {
        if self.looks.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
            tokio::time::sleep(Duration::from_millis(9)).await;
        }
        self.good.roll().await.unwrap()
    }
}

struct Replica {
    store: Arc<Broken<Held>>,
    cached: CachedStore<Arc<Broken<Held>>>,
    clock: ManualClock,
    key: Arc<KeyRecord>,
}

impl Replica {
    /// With a lease of this moment, and a key in memory.
    async fn new() -> Self {
        let store = Arc::new(Broken(Held::default()));
        let clock = ManualClock::at(SystemTime::UNIX_EPOCH);
        clock.advance(Duration::from_secs(100));
        let settings = CacheSettings::default();
        let cached =
            CachedStore::shared_with_clock(Arc::clone(&store), settings, clock.clone()).await;
        let key = Arc::new(record(&account("a"), time(0)));
        assert_eq!(store.insert(Arc::clone(&key), 9).await.unwrap(), Written::Done(()));
        let replica = Self { store, cached, clock, key };
        let heard = || replica.cached.status().unwrap().applied == Version::new(1);
        replica.until(heard).await;
        assert!(replica.is_live().await);
        assert!(replica.answers_from_memory());
        replica
    }

    fn held(&self) -> &Held {
        &self.store.0
    }

    async fn until(&self, is_so: impl Fn() -> bool) {
        soon(async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }

    async fn is_live(&self) -> bool {
        matches!(self.cached.find(self.key.fingerprint()).await.unwrap(), Some(Entry::Live(_)))
    }

    /// Whether the store is not asked.
    fn answers_from_memory(&self) -> bool {
        let before = self.held().asked_to_find.load(Ordering::SeqCst);
        let found = self.cached.find(self.key.fingerprint()).now_or_never();
        assert!(found.is_some(), "the store underneath never waits");
        self.held().asked_to_find.load(Ordering::SeqCst) == before
    }

    /// From now on no renewal is answered; returns when one has been asked for.
    async fn hold_renewals(&self) {
        self.held().renewals.forget_permits(Semaphore::MAX_PERMITS);
        let before = self.held().asked_to_renew.load(Ordering::SeqCst);
        let asked = || self.held().asked_to_renew.load(Ordering::SeqCst) > before;
        self.until(asked).await;
    }
}

fn milliseconds(number: u64) -> Duration {
    Duration::from_millis(number)
}

/// Where the store answers in time.
#[tokio::test(start_paused = true)]
async fn it_has_a_lease_from_the_start() {
    let (store, clock) = (Broken(Held::default()), ManualClock::at(SystemTime::UNIX_EPOCH));
    let cached = CachedStore::shared_with_clock(store, CacheSettings::default(), clock).await;
    let status = cached.status().unwrap();
    assert!(status.lease.is_some() && status.is_connected, "{status:?}");
}

/// The answer to a renewal comes late: the lease is as old as the question.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_counts_from_before_the_store_was_asked() {
    let replica = Replica::new().await;
    replica.hold_renewals().await;
    // It was asked for at this moment.
    replica.clock.advance(milliseconds(500));
    assert!(replica.answers_from_memory());
    replica.held().renewals.add_permits(1);
    let asked = replica.held().asked_to_renew.load(Ordering::SeqCst);
    let again = || replica.held().asked_to_renew.load(Ordering::SeqCst) > asked;
    // The next one is under way, so the answer has arrived.
    replica.until(again).await;
    replica.clock.advance(milliseconds(99));
    assert!(replica.answers_from_memory());
    assert_eq!(replica.cached.status().unwrap().lease, Some(milliseconds(1)));
    replica.clock.advance(milliseconds(1));
    assert!(!replica.answers_from_memory());
    assert_eq!(replica.cached.status().unwrap().lease, None);
    assert!(replica.is_live().await, "it is looked up");
}

/// Nobody waits for one that goes off the roll, so it must have stopped before.
#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_stops_before_it_says_so() {
    let replica = Replica::new().await;
    replica.held().withdrawals.forget_permits(Semaphore::MAX_PERMITS);
    let closing = tokio::spawn({
        let cached = replica.cached.clone();
        async move { cached.close().await }
    });
    let said = || replica.held().asked_to_withdraw.load(Ordering::SeqCst) > 0;
    replica.until(said).await;
    assert!(!replica.answers_from_memory());
    // Whoever closes it once more waits, too.
    let again = tokio::time::timeout(milliseconds(20), replica.cached.close()).await;
    assert!(again.is_err(), "it is still on the roll");
    replica.held().withdrawals.add_permits(1);
    soon(closing).await.unwrap();
    soon(replica.cached.close()).await;
    assert!(replica.store.roll().await.unwrap().replicas.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_stops_before_it_leaves() {
    let replica = Replica::new().await;
    replica.held().withdrawals.forget_permits(Semaphore::MAX_PERMITS);
    let before = replica.cached.status().unwrap().id.unwrap();
    replica.store.suspect(&[before]).await.unwrap();
    let said = || replica.held().asked_to_withdraw.load(Ordering::SeqCst) > 0;
    replica.until(said).await;
    assert!(!replica.answers_from_memory());
    replica.held().withdrawals.add_permits(10);
    let comes_back = || replica.cached.status().unwrap().lease.is_some();
    replica.until(comes_back).await;
    assert_ne!(replica.cached.status().unwrap().id, Some(before));
    let on_the_roll = replica.store.roll().await.unwrap().replicas;
    assert!(on_the_roll.iter().all(|row| row.id != before));
}

/// Whoever waits for a name may strike it off late: one that may be on the roll already is not tried again.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_tried_once() {
    let replica = Replica::new().await;
    let held = replica.held();
    held.enrolments.forget_permits(Semaphore::MAX_PERMITS);
    let first = replica.cached.status().unwrap().id.unwrap();
    replica.store.suspect(&[first]).await.unwrap();
    let tried = || held.names.lock().unwrap().len();
    // The answer to the second comes too late.
    replica.until(|| tried() == 3).await;
    held.enrolments.add_permits(1);
    replica.until(|| replica.cached.status().unwrap().lease.is_some()).await;
    let names = held.names.lock().unwrap().clone();
    assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len(), "{names:?}");
    let on_the_roll = replica.store.roll().await.unwrap().replicas;
    let on_the_roll: Vec<_> = on_the_roll.iter().map(|row| row.id).collect();
    assert_eq!(on_the_roll, [replica.cached.status().unwrap().id.unwrap()]);
}

/// A hiccup costs the lease, and neither the name nor the memory.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_short_silence_it_goes_on_with_what_it_has() {
    let replica = Replica::new().await;
    let before = replica.cached.status().unwrap().id;
    replica.hold_renewals().await;
    replica.clock.advance(milliseconds(2_500));
    assert!(!replica.answers_from_memory());
    replica.held().renewals.add_permits(100);
    replica.until(|| replica.cached.status().unwrap().lease.is_some()).await;
    assert!(replica.answers_from_memory());
    assert_eq!(replica.cached.status().unwrap().id, before);
}

/// A store that was away for long may be another, with less in it, whatever its version.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_long_silence_it_begins_again() {
    let replica = Replica::new().await;
    let before = replica.cached.status().unwrap().id;
    replica.hold_renewals().await;
    replica.clock.advance(Duration::from_secs(4));
    replica.held().has_lost_all.store(true, Ordering::SeqCst);
    replica.held().renewals.add_permits(100);
    let comes_back = || {
        let status = replica.cached.status().unwrap();
        status.lease.is_some() && status.id != before
    };
    replica.until(comes_back).await;
    assert!(!replica.is_live().await, "that was in the memory of before");
}

/// A store that panics is one that does not answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_does_not_end_the_renewals() {
    let replica = Replica::new().await;
    replica.held().panics.store(true, Ordering::SeqCst);
    replica.until(|| !replica.cached.status().unwrap().is_connected).await;
    replica.held().panics.store(false, Ordering::SeqCst);
    replica.clock.advance(milliseconds(700));
    replica.until(|| replica.cached.status().unwrap().lease.is_some()).await;
    assert!(replica.cached.status().unwrap().is_connected);
}

/// Whoever sees that the lease has come back sees that the store has answered: also somebody who looks
/// while it is still being applied what the store said.
#[tokio::test]
async fn who_has_a_lease_again_is_connected() {
    let replica = Replica::new().await;
    replica.held().panics.store(true, Ordering::SeqCst);
    replica.until(|| !replica.cached.status().unwrap().is_connected).await;
    replica.clock.advance(milliseconds(700));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let look_when_it_says_something = {
        let (cached, seen) = (replica.cached.clone(), Arc::clone(&seen));
        move || {
            seen.lock().unwrap().push(cached.status().unwrap());
            std::io::sink()
        }
    };
    let log = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG);
    let log = log.with_writer(look_when_it_says_something).finish();
    let logged = tracing::subscriber::set_default(log);
    let another = Arc::new(record(&account("a"), time(0)));
    assert_eq!(replica.store.insert(another, 9).await.unwrap(), Written::Done(()));
    replica.held().panics.store(false, Ordering::SeqCst);
    replica.until(|| replica.cached.status().unwrap().applied == Version::new(2)).await;
    drop(logged);
    let seen = seen.lock().unwrap();
    let mut with_a_lease = seen.iter().filter(|status| status.lease.is_some()).peekable();
    assert!(with_a_lease.peek().is_some(), "it says what it has applied");
    assert!(with_a_lease.all(|status| status.is_connected), "{seen:?}");
}

/// However long the looks take: the first write suspects, the second strikes off.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_replica_costs_two_writes_also_where_looks_take_their_time() {
    let store = Broken(Held::default());
    let dead = ReplicaId::from_bytes([7; 16]);
    let mut forgotten = 0;
    for _ in 0..4 {
        store.enrol(dead).await.unwrap();
        let key = Arc::new(record(&account("a"), time(0)));
        assert_eq!(store.insert(key, 1000).await.unwrap(), Written::Done(()));
        for _ in 0..2 {
            let began = Instant::now();
            settle(&store, &Looks::default()).await;
            let took = began.elapsed();
            assert!(took >= LEASE && took < 2 * LEASE, "{took:?}");
        }
        forgotten += usize::from(store.roll().await.unwrap().replicas.is_empty());
        store.0.good().withdraw(&[dead]).await.unwrap();
    }
    // A look may take longer than a write waits for it, where the machine has much else to do.
    assert!(forgotten >= 2, "{forgotten} of 4");
}

//! The cache: what it may repeat and for how long, who waits for whose read, and what a write takes
//! out of it.

mod history;
mod scripted;

use std::error::Error as _;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use futures_util::FutureExt as _;
use http::{Request, Response, StatusCode};
use tokio::sync::Semaphore;
use tower::{Layer as _, ServiceExt as _};
use tower_api_key::{
    ApiKeyLayer, CacheSettings, CachedStore, Clock as _, Day, Entry, Fingerprint, Found, KeyDigest,
    KeyManager, KeyRecord, KeyRegistry as _, KeyStore as _, Lookup, ManualClock, MemoryStore,
    Monotonic, StoreError, SystemClock, Transport, Use, Written,
};

use self::scripted::{End, Plan, Scripted};
use crate::allocations::allocations;
use crate::support::{account, digest, record, soon, time, with_key};

const MILLISECOND: Duration = Duration::from_millis(1);

/// A cache over a scripted store, whose clock stands still.
struct Bench {
    behind: Scripted,
    clock: ManualClock,
    cached: CachedStore<Scripted>,
}

impl Bench {
    fn new() -> Self {
        Self::with(CacheSettings::default())
    }

    fn with(settings: CacheSettings) -> Self {
        let (behind, clock) = (Scripted::default(), ManualClock::at(time(0)));
        let cached = CachedStore::alone_with_clock(behind.clone(), settings, clock.clone());
        Self { behind, clock, cached }
    }

    /// A key that another process made.
    async fn key(&self) -> Arc<KeyRecord> {
        let made = Arc::new(record(&account("a"), time(0)));
        let inserted = self.behind.memory().insert(Arc::clone(&made), usize::MAX).await.unwrap();
        assert_eq!(inserted, Written::Done(()));
        made
    }

    /// A key that is in the cache, which has seen everything that was written so far.
    async fn cached_key(&self) -> Arc<KeyRecord> {
        let made = self.key().await;
        self.write_something().await;
        assert!(is_live(&self.find(&made).await));
        assert!(self.is_known(&made));
        made
    }

    async fn find(&self, record: &KeyRecord) -> Found {
        soon(self.cached.find(record.fingerprint())).await
    }

    async fn find_by(&self, digest: &KeyDigest) -> Found {
        soon(self.cached.find(digest.fingerprint())).await
    }

    /// Whether the cache answers by itself. Asks nobody else.
    fn is_known(&self, record: &KeyRecord) -> bool {
        self.knows(record.fingerprint())
    }

    fn knows(&self, fingerprint: Fingerprint) -> bool {
        format!("{:?}", self.cached.find(fingerprint)) == "Lookup::Ready(…)"
    }

    async fn delete(&self, record: &KeyRecord) {
        let deleted = soon(self.cached.delete(&record.account, &record.id, time(1))).await;
        assert_eq!(deleted.unwrap(), Written::Done(()));
    }

    /// Deletes it as another process would.
    async fn delete_elsewhere(&self, record: &KeyRecord) {
        let deleted = self.behind.memory().delete(&record.account, &record.id, time(1)).await;
        assert_eq!(deleted.unwrap(), Written::Done(()));
    }

    /// A write that touches no key of this test.
    async fn write_something(&self) {
        let made = Arc::new(record(&account("other"), time(0)));
        let _ = soon(self.cached.insert(made, usize::MAX)).await;
    }

    /// A read of the key that has begun and is held open, and what lets it go on.
    fn begin(&self, record: &KeyRecord, end: End) -> (Lookup, Arc<Semaphore>) {
        let (plan, gate) = Plan::held(end);
        self.behind.read(plan);
        let mut read = self.cached.find(record.fingerprint());
        assert!(is_pending(&mut read));
        self.behind.read(Plan::default());
        (read, gate)
    }
}

fn is_pending(future: &mut (impl Future + Unpin)) -> bool {
    future.poll_unpin(&mut Context::from_waker(Waker::noop())).is_pending()
}

/// Polls a write that a gate holds open until it has come to the gate.
async fn up_to_the_gate(write: &mut (impl Future + Unpin)) {
    for _ in 0..10 {
        assert!(is_pending(write));
        tokio::task::yield_now().await;
    }
}

fn is_live(found: &Found) -> bool {
    matches!(found, Ok(Some(Entry::Live(_))))
}

fn is_ended(found: &Found) -> bool {
    matches!(found, Ok(Some(Entry::Ended(_))))
}

fn unknown(number: u64) -> Fingerprint {
    Fingerprint::from_bytes(number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_ne_bytes())
}

// What is repeated, and for how long.

#[tokio::test]
async fn a_hit_is_ready_asks_nobody_and_allocates_nothing() {
    let bench = Bench::new();
    let key = bench.cached_key().await;
    let (lookup, allocated) = allocations(|| bench.cached.find(key.fingerprint()));
    assert_eq!(format!("{lookup:?}"), "Lookup::Ready(…)");
    assert_eq!(allocated, 0);
    assert!(is_live(&lookup.await));
    assert_eq!(bench.behind.reads(), 1);
}

#[tokio::test]
async fn a_live_record_is_repeated_for_30_seconds_and_no_longer() {
    let bench = Bench::new();
    let key = bench.cached_key().await;
    bench.delete_elsewhere(&key).await;
    bench.clock.advance(Duration::from_millis(29_999));
    assert!(is_live(&bench.find(&key).await), "another process's write is seen late");
    bench.clock.advance(MILLISECOND);
    assert!(is_ended(&bench.find(&key).await));
    assert_eq!(bench.behind.reads(), 2);
}

#[tokio::test]
async fn a_tombstone_is_repeated_for_30_seconds_and_no_longer() {
    let bench = Bench::new();
    let key = bench.key().await;
    bench.delete(&key).await;
    for (advance, reads) in [(0, 1), (29_999, 1), (1, 2)] {
        bench.clock.advance(Duration::from_millis(advance));
        assert!(is_ended(&bench.find(&key).await));
        assert_eq!(bench.behind.reads(), reads, "after {advance}");
    }
}

#[tokio::test]
async fn an_unknown_fingerprint_is_repeated_for_a_second_and_no_longer() {
    let bench = Bench::new();
    for (advance, reads) in [(0, 1), (999, 1), (1, 2)] {
        bench.clock.advance(Duration::from_millis(advance));
        assert!(bench.cached.find(unknown(7)).await.unwrap().is_none());
        assert_eq!(bench.behind.reads(), reads, "after {advance}");
    }
}

#[tokio::test]
async fn ages_count_from_when_the_read_began() {
    let bench = Bench::new();
    let key = bench.key().await;
    let (read, gate) = bench.begin(&key, End::Answers);
    bench.clock.advance(Duration::from_secs(20));
    gate.add_permits(1);
    assert!(is_live(&read.await));
    bench.clock.advance(Duration::from_millis(9_999));
    assert!(bench.is_known(&key));
    bench.clock.advance(MILLISECOND);
    bench.find(&key).await.unwrap();
    assert_eq!(bench.behind.reads(), 2);
}

#[tokio::test]
async fn the_time_of_day_makes_nothing_old_or_young() {
    let bench = Bench::new();
    let key = bench.cached_key().await;
    bench.clock.set(time(1_000_000));
    assert!(bench.is_known(&key));
    bench.clock.advance(Duration::from_secs(30));
    bench.clock.set(time(0));
    bench.find(&key).await.unwrap();
    assert_eq!(bench.behind.reads(), 2);
}

#[test]
fn a_manual_clock_s_advance_moves_both_times_and_set_only_the_time_of_day() {
    let clock = ManualClock::at(time(0));
    clock.advance(Duration::from_secs(5));
    assert_eq!((clock.now(), clock.elapsed()), (time(5), Duration::from_secs(5)));
    clock.set(time(2));
    assert_eq!((clock.now(), clock.elapsed()), (time(2), Duration::from_secs(5)));
}

#[test]
fn the_system_s_monotonic_clock_goes_on() {
    let before = SystemClock.elapsed();
    std::thread::sleep(Duration::from_millis(20));
    let passed = SystemClock.elapsed().checked_sub(before).unwrap();
    // To the nearest tick of the kernel, of which there are a hundred a second at least.
    assert!(passed >= Duration::from_millis(10) && passed < Duration::from_mins(1), "{passed:?}");
}

#[tokio::test]
async fn no_more_is_kept_than_the_settings_say() {
    let mut settings = CacheSettings::default();
    settings.max_live = 200;
    settings.max_absent = 100;
    let bench = Bench::with(settings);
    let mut keys = Vec::new();
    for _ in 0..1000 {
        keys.push(bench.key().await);
    }
    for key in &keys {
        bench.find(key).await.unwrap();
    }
    for number in 0..1000 {
        bench.cached.find(unknown(number)).await.unwrap();
    }
    // Each is kept in up to 8 parts, which are filled unevenly and rounded up.
    let live = keys.iter().filter(|key| bench.is_known(key)).count();
    assert!((100..=208).contains(&live), "{live}");
    let absent = (0..1000).filter(|number| bench.knows(unknown(*number))).count();
    assert!((50..=108).contains(&absent), "{absent}");
}

#[tokio::test]
async fn a_cache_of_no_size_keeps_nothing() {
    let mut settings = CacheSettings::default();
    (settings.max_live, settings.max_absent) = (0, 0);
    let bench = Bench::with(settings);
    let key = bench.key().await;
    for reads in 1..=3 {
        assert!(is_live(&bench.find(&key).await));
        assert_eq!(bench.behind.reads(), reads);
    }
    bench.delete(&key).await;
    for reads in 4..=6 {
        assert!(is_ended(&bench.find(&key).await));
        assert_eq!(bench.behind.reads(), reads);
    }
}

#[tokio::test]
async fn a_flood_of_unknown_fingerprints_pushes_no_live_key_out() {
    let bench = Bench::new();
    let flood = async |numbers: std::ops::Range<u64>| {
        for number in numbers {
            assert!(bench.cached.find(unknown(number)).await.unwrap().is_none());
        }
    };
    // The keys come when the flood has filled all that it can fill, and are asked for once: nothing
    // but their own space keeps them.
    flood(0..200_000).await;
    let mut keys = Vec::new();
    for _ in 0..100 {
        let key = bench.key().await;
        assert!(is_live(&bench.find(&key).await));
        keys.push(key);
    }
    flood(200_000..1_000_000).await;
    assert_eq!(bench.behind.reads(), 1_000_100);
    assert!(keys.iter().all(|key| bench.is_known(key)));
}

#[tokio::test]
async fn lists_and_single_records_are_never_cached() {
    let bench = Bench::new();
    let key = bench.cached_key().await;
    assert_eq!(bench.cached.list(&key.account).await.unwrap().len(), 1);
    assert!(bench.cached.get(&key.account, &key.id).await.unwrap().is_some());
    bench.delete_elsewhere(&key).await;
    assert!(bench.cached.list(&key.account).await.unwrap().is_empty());
    assert!(bench.cached.get(&key.account, &key.id).await.unwrap().is_none());
}

#[tokio::test]
async fn noting_a_use_drops_nothing() {
    let bench = Bench::new();
    let key = bench.cached_key().await;
    bench.cached.mark_used(&[Use::new(key.fingerprint(), time(9))]).await.unwrap();
    assert!(bench.is_known(&key));
    let got = bench.cached.get(&key.account, &key.id).await.unwrap().unwrap();
    assert_eq!(got.last_used_at, Some(time(9)));
}

#[tokio::test]
async fn usage_is_never_cached_and_drops_nothing() {
    let bench = Bench::new();
    let key = bench.cached_key().await;
    let requests = async || {
        let usage = bench.cached.usage(&key.account, Day::of(time(9))).await.unwrap();
        usage.iter().flat_map(|used| &used.days).map(|day| day.requests).sum::<u64>()
    };
    assert_eq!(requests().await, 0);
    // By another process, too.
    bench.behind.memory().mark_used(&[Use::new(key.fingerprint(), time(9))]).await.unwrap();
    assert_eq!(requests().await, 1);
    bench.cached.mark_used(&[Use::new(key.fingerprint(), time(9))]).await.unwrap();
    assert_eq!(requests().await, 2);
    assert!(bench.is_known(&key));
}

// One read for many.

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_requests_for_one_key_are_one_read() {
    for _ in 0..20 {
        let bench = Bench::new();
        let key = bench.key().await;
        let (plan, gate) = Plan::held(End::Answers);
        bench.behind.read(plan);
        let requests: Vec<_> = (0..1000)
            .map(|number| {
                if number == 500 {
                    // Some come before the answer, some as it comes, some after.
                    gate.add_permits(1);
                }
                tokio::spawn(bench.cached.find(key.fingerprint()))
            })
            .collect();
        for request in requests {
            assert!(is_live(&soon(request).await.unwrap()));
        }
        assert_eq!(bench.behind.reads(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn requests_that_race_with_the_answer_begin_no_second_read() {
    let bench = Arc::new(Bench::new());
    let mut keys = Vec::new();
    for _ in 0..300 {
        keys.push(bench.key().await);
    }
    bench.behind.read(Plan { slow: true, ..Plan::default() });
    let requests: Vec<_> = keys
        .iter()
        .flat_map(|key| std::iter::repeat_n(key.fingerprint(), 100))
        .map(|fingerprint| {
            let bench = Arc::clone(&bench);
            tokio::spawn(async move { bench.cached.find(fingerprint).await })
        })
        .collect();
    for request in requests {
        assert!(is_live(&soon(request).await.unwrap()));
    }
    assert_eq!(bench.behind.reads(), keys.len());
}

#[tokio::test]
async fn a_read_from_before_a_write_is_not_joined_and_leaves_nothing_behind() {
    let bench = Bench::new();
    let key = bench.key().await;
    bench.write_something().await;
    let (before, gate) = bench.begin(&key, End::Answers);
    bench.delete(&key).await;
    assert!(is_ended(&bench.find(&key).await), "not given the answer of the read from before");
    gate.add_permits(1);
    assert!(is_live(&before.await), "it had begun before the delete");
    assert!(is_ended(&bench.find(&key).await), "the late answer was not cached over the later one");
}

#[tokio::test]
async fn the_answer_of_a_read_from_before_a_write_is_not_cached() {
    for everything in [false, true] {
        let bench = Bench::new();
        let key = bench.key().await;
        if everything {
            bench.behind.changes(Plan::ends(End::Fails));
        } else {
            bench.write_something().await;
        }
        let (before, gate) = bench.begin(&key, End::Answers);
        bench.delete(&key).await;
        gate.add_permits(1);
        assert!(is_live(&before.await), "it had begun before the delete");
        assert!(is_ended(&bench.find(&key).await), "everything dropped: {everything}");
    }
}

#[tokio::test]
async fn a_late_answer_does_not_pass_for_that_of_the_read_which_replaced_it() {
    let bench = Bench::new();
    let key = bench.key().await;
    let (before, gate_before) = bench.begin(&key, End::Answers);
    bench.delete(&key).await;
    let (after, gate_after) = bench.begin(&key, End::Answers);
    gate_before.add_permits(1);
    assert!(is_live(&before.await), "it had begun before the delete");
    assert!(!bench.is_known(&key));
    let mut joined = bench.cached.find(key.fingerprint());
    assert!(is_pending(&mut joined));
    assert_eq!(bench.behind.reads(), 2, "the second read is joined as before");
    gate_after.add_permits(1);
    assert!(is_ended(&joined.await));
    assert!(is_ended(&after.await));
    assert!(bench.is_known(&key));
}

#[tokio::test]
async fn a_read_goes_on_without_the_request_that_began_it() {
    let bench = Bench::new();
    let key = bench.key().await;
    let (first, gate) = bench.begin(&key, End::Answers);
    let mut second = bench.cached.find(key.fingerprint());
    assert!(is_pending(&mut second));
    let third = bench.cached.find(key.fingerprint());
    drop(first);
    gate.add_permits(1);
    assert!(is_live(&soon(second).await));
    assert!(is_live(&soon(third).await));
    assert_eq!(bench.behind.reads(), 1);
    assert!(bench.is_known(&key));
}

#[tokio::test]
async fn a_read_that_nobody_waits_for_any_more_is_dropped() {
    let bench = Bench::new();
    let key = bench.key().await;
    let (first, _gate) = bench.begin(&key, End::Answers);
    let second = bench.cached.find(key.fingerprint());
    drop(first);
    assert_eq!(bench.behind.open_reads(), 1);
    drop(second);
    assert_eq!(bench.behind.open_reads(), 0);
    assert!(is_live(&bench.find(&key).await));
    assert_eq!(bench.behind.reads(), 2);
}

#[tokio::test]
async fn a_request_that_never_polls_its_lookup_is_in_nobody_s_way() {
    let bench = Bench::new();
    let key = bench.key().await;
    let never_polled = bench.cached.find(key.fingerprint());
    assert!(is_live(&bench.find(&key).await));
    assert_eq!(bench.behind.reads(), 1);
    assert!(is_live(&never_polled.await));
    drop(bench.cached.find(unknown(1)));
    assert!(bench.cached.find(unknown(1)).await.unwrap().is_none());
}

#[tokio::test]
async fn a_stuck_read_is_not_joined_after_500_milliseconds() {
    let bench = Bench::new();
    let key = bench.key().await;
    let (mut stuck, gate) = bench.begin(&key, End::Answers);
    bench.clock.advance(Duration::from_millis(499));
    let mut joined = bench.cached.find(key.fingerprint());
    assert!(is_pending(&mut joined));
    assert_eq!(bench.behind.reads(), 1);
    bench.clock.advance(MILLISECOND);
    bench.delete_elsewhere(&key).await;
    assert!(is_ended(&bench.find(&key).await), "the store is well again");
    assert_eq!(bench.behind.reads(), 2);
    assert!(is_pending(&mut stuck));
    // An old answer that comes late does not push a newer one out.
    gate.add_permits(1);
    assert!(is_live(&stuck.await));
    assert!(is_live(&joined.await));
    assert!(is_ended(&bench.find(&key).await));
    assert_eq!(bench.behind.reads(), 2);
}

// Outages.

#[tokio::test]
async fn an_outage_is_not_cached() {
    for end in [End::Fails, End::TimesOut, End::Panics, End::PanicsAtOnce] {
        let bench = Bench::new();
        let key = bench.key().await;
        bench.behind.read(Plan::ends(end));
        for reads in 1..=3 {
            assert!(bench.find(&key).await.is_err());
            assert_eq!(bench.behind.reads(), reads);
        }
        bench.behind.read(Plan::default());
        assert!(is_live(&bench.find(&key).await));
    }
}

#[tokio::test]
async fn an_outage_reaches_everybody_who_waits_as_it_is() {
    let bench = Bench::new();
    let key = bench.key().await;
    let (first, gate) = bench.begin(&key, End::Fails);
    let second = bench.cached.find(key.fingerprint());
    gate.add_permits(1);
    for waiting in [second, first] {
        let error = soon(waiting).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable { store: "scripted", .. }), "{error:?}");
        assert_eq!(error.source().unwrap().to_string(), "the cable is cut");
    }
    let (first, gate) = bench.begin(&key, End::TimesOut);
    let second = bench.cached.find(key.fingerprint());
    gate.add_permits(1);
    for waiting in [second, first] {
        let error = soon(waiting).await.unwrap_err();
        let expected = Duration::from_secs(3);
        assert!(matches!(error, StoreError::Timeout { limit, .. } if limit == expected));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_panic_of_the_store_reaches_everybody_who_waits_and_is_over_then() {
    let bench = Bench::new();
    let key = bench.key().await;
    let (plan, gate) = Plan::held(End::Panics);
    bench.behind.read(plan);
    let requests: Vec<_> =
        (0..100).map(|_| tokio::spawn(bench.cached.find(key.fingerprint()))).collect();
    gate.add_permits(1);
    for request in requests {
        let error = soon(request).await.unwrap().unwrap_err();
        let source = error.source().unwrap().to_string();
        assert_eq!(source, "it panicked: the script says so");
    }
    assert_eq!(bench.behind.reads(), 1);
    bench.behind.read(Plan::default());
    assert!(is_live(&bench.find(&key).await));
}

#[tokio::test]
async fn a_failure_behind_the_cache_is_a_503_and_then_it_works_again() {
    let behind = Scripted::default();
    let cached = CachedStore::alone(behind.clone(), CacheSettings::default());
    let (_manager, key) = with_key(cached.clone()).await;
    let layer = ApiKeyLayer::new(cached).with_transport(Transport::dangerously_assume_https());
    let service = layer.layer(tower::service_fn(async |_: Request<()>| {
        Ok::<_, std::convert::Infallible>(Response::new(()))
    }));
    let answer = async || {
        let request = Request::builder().header("api-key", &key).body(()).unwrap();
        soon(service.clone().oneshot(request)).await.unwrap().status()
    };
    for end in [End::Fails, End::TimesOut, End::Panics, End::PanicsAtOnce] {
        behind.read(Plan::ends(end));
        assert_eq!(answer().await, StatusCode::SERVICE_UNAVAILABLE);
    }
    behind.read(Plan::default());
    assert_eq!(answer().await, StatusCode::OK);
}

// Writes.

#[tokio::test]
async fn a_key_works_as_soon_as_it_is_made_though_it_was_unknown_a_moment_ago() {
    let bench = Bench::new();
    let made = Arc::new(record(&account("a"), time(0)));
    assert!(bench.find(&made).await.unwrap().is_none());
    assert!(bench.is_known(&made));
    let inserted = bench.cached.insert(Arc::clone(&made), 25).await.unwrap();
    assert_eq!(inserted, Written::Done(()));
    assert!(is_live(&bench.find(&made).await));
}

#[tokio::test]
async fn a_write_drops_what_it_touched_and_nothing_else() {
    let bench = Bench::new();
    let (deleted, renamed, other) =
        (bench.cached_key().await, bench.cached_key().await, bench.cached_key().await);
    bench.delete(&deleted).await;
    let name = "Another name".parse().unwrap();
    let done = bench.cached.rename(&renamed.account, &renamed.id, name).await.unwrap();
    assert!(matches!(done, Written::Done(_)));
    assert!(bench.is_known(&other), "first, for the others are read below");
    assert!(is_ended(&bench.find(&deleted).await));
    let Ok(Some(Entry::Live(found))) = bench.find(&renamed).await else { panic!("not live") };
    assert_eq!(found.name.as_str(), "Another name");
}

#[tokio::test]
async fn a_write_drops_what_another_process_wrote_since_the_last() {
    let bench = Bench::new();
    let key = bench.cached_key().await;
    bench.delete_elsewhere(&key).await;
    assert!(is_live(&bench.find(&key).await));
    let again = bench.cached.delete(&key.account, &key.id, time(1)).await.unwrap();
    assert_eq!(again, Written::NotFound);
    assert!(is_ended(&bench.find(&key).await), "what is not found does not work either");
}

#[tokio::test]
async fn a_write_that_fails_may_have_been_done() {
    for end in [End::Fails, End::TimesOut, End::Panics] {
        for first_write in [true, false] {
            let bench = Bench::new();
            let key = bench.key().await;
            if !first_write {
                bench.write_something().await;
            }
            assert!(is_live(&bench.find(&key).await));
            bench.behind.write(Plan::ends(end));
            assert!(bench.cached.delete(&key.account, &key.id, time(1)).await.is_err());
            assert!(is_ended(&bench.find(&key).await));
        }
    }
}

#[tokio::test]
async fn everything_is_dropped_when_nobody_knows_what_has_changed() {
    for end in [End::Fails, End::TimesOut, End::Panics, End::HasForgotten] {
        let bench = Bench::new();
        let (deleted, other) = (bench.cached_key().await, bench.cached_key().await);
        bench.behind.changes(Plan::ends(end));
        // Whether or not the delete is answered with an error, it was done.
        let _ = bench.cached.delete(&deleted.account, &deleted.id, time(1)).await;
        assert!(!bench.is_known(&other));
        assert!(is_ended(&bench.find(&deleted).await));

        bench.behind.changes(Plan::default());
        assert!(is_live(&bench.find(&other).await));
        bench.delete(&other).await;
        assert!(is_ended(&bench.find(&other).await));
        let third = bench.cached_key().await;
        bench.write_something().await;
        assert!(bench.is_known(&third), "and afterwards writes drop only what they touched");
    }
}

/// A request brings it about, by a key that is filed under an older digest.
#[tokio::test]
async fn a_rehash_in_an_outage_drops_that_key_and_nothing_else() {
    for end in [End::Fails, End::TimesOut, End::Panics] {
        let bench = Bench::new();
        let (key, other) = (bench.cached_key().await, bench.cached_key().await);
        let elsewhere = bench.cached_key().await;
        bench.delete_elsewhere(&elsewhere).await;
        bench.behind.write(Plan::ends(end));
        bench.behind.changes(Plan::ends(end));
        let today = KeyDigest::from_bytes([1; 32]);
        assert!(bench.find_by(&today).await.unwrap().is_none());
        let (id, old) = (&key.id, key.fingerprint());
        let _ = bench.cached.rehash(&key.account, id, old, today.clone(), time(1)).await;
        assert!(!bench.is_known(&key) && !bench.knows(today.fingerprint()));
        assert!(bench.is_known(&other), "what a rehash cannot have touched");
        assert!(is_live(&bench.find_by(&today).await), "it was done all the same");

        bench.behind.write(Plan::default());
        bench.behind.changes(Plan::default());
        bench.write_something().await;
        assert!(is_ended(&bench.find(&elsewhere).await), "what others wrote is not missed");
    }
}

#[tokio::test]
async fn more_changes_than_the_store_remembers_drop_everything() {
    let bench = Bench::new();
    let key = bench.cached_key().await;
    bench.delete_elsewhere(&key).await;
    for _ in 0..tower_api_key::store::CHANGES_KEPT {
        bench.key().await;
    }
    bench.write_something().await;
    assert!(is_ended(&bench.find(&key).await));
}

#[tokio::test]
async fn a_write_ends_though_its_caller_goes_away() {
    // While the store works, and while the changes are read.
    for in_the_write in [true, false] {
        let bench = Bench::new();
        let key = bench.cached_key().await;
        let (plan, gate) = Plan::held(End::Answers);
        if in_the_write {
            bench.behind.write(plan);
        } else {
            bench.behind.changes(plan);
        }
        let mut delete = bench.cached.delete(&key.account, &key.id, time(1));
        up_to_the_gate(&mut delete).await;
        drop(delete);
        assert!(is_live(&bench.find(&key).await), "it has not ended");
        gate.add_permits(1);
        soon(async {
            while !is_ended(&bench.find(&key).await) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[test]
fn a_write_whose_runtime_ends_under_it_drops_everything() {
    let bench = Bench::new();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (first, second) = (runtime(), runtime());
    let key = first.block_on(async {
        let key = bench.cached_key().await;
        let (plan, _gate) = Plan::held(End::Answers);
        bench.behind.write(plan);
        let mut delete = bench.cached.delete(&key.account, &key.id, time(1));
        up_to_the_gate(&mut delete).await;
        key.clone()
    });
    drop(first);
    assert!(is_ended(&second.block_on(bench.cached.find(key.fingerprint()))));
}

/// What two writes have changed is read in turns: the second does not take for its own what was read for
/// the first before it was done.
#[tokio::test]
async fn writes_that_overlap_leave_nothing_out() {
    let bench = Bench::new();
    let (a, b, other) =
        (bench.cached_key().await, bench.cached_key().await, bench.cached_key().await);
    let (plan, gate) = Plan::held(End::Answers);
    bench.behind.changes(plan);
    let mut writes = Vec::new();
    for key in [&a, &b] {
        let mut delete = bench.cached.delete(&key.account, &key.id, time(1));
        up_to_the_gate(&mut delete).await;
        writes.push((delete, key));
    }
    for (delete, key) in writes {
        gate.add_permits(1);
        assert_eq!(soon(delete).await.unwrap(), Written::Done(()));
        assert!(is_ended(&bench.find(key).await));
    }
    bench.behind.changes(Plan::default());
    assert!(bench.is_known(&other));
    bench.delete(&other).await;
    for key in [&a, &b, &other] {
        assert!(is_ended(&bench.find(key).await));
    }
}

#[tokio::test]
async fn a_manager_and_a_layer_over_one_cache_agree() {
    let cached = CachedStore::alone(MemoryStore::new(), CacheSettings::default());
    let manager = KeyManager::new(cached.clone(), "acme".parse().unwrap());
    let owner = account("a");
    let issued = manager.create(&owner, crate::support::named("A name")).await.unwrap();
    let record = issued.record().clone();
    assert!(is_live(&cached.find(record.fingerprint()).await));
    assert!(is_live(&cached.find(record.fingerprint()).await));
    manager.delete(&owner, &record.id).await.unwrap();
    assert!(is_ended(&cached.find(record.fingerprint()).await));
    assert!(cached.find(digest("another").fingerprint()).await.unwrap().is_none());
}

//! A hit beside a bare `quick_cache` get, memory for each key, and a flood of unknown keys:
//! `cargo bench --bench cache`.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark")]

#[allow(unreachable_pub, dead_code, reason = "shared by the benchmarks")]
mod report;

use std::hash::{BuildHasherDefault, Hasher};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use criterion::Criterion;
use futures_util::FutureExt as _;
use quick_cache::UnitWeighter;
use quick_cache::sync::{Cache, DefaultLifecycle};
use tower_api_key::{
    CacheSettings, CachedStore, Entry, Fingerprint, KeyDigest, KeyRecord, KeyStore, KeyText,
    Lookup, Monotonic as _, SystemClock,
};

const SIZES: [u64; 3] = [1, 1_000, 1_000_000];
const UNKNOWN: u64 = 10_000_000;
const LIVE: u64 = 10_000;
/// One request with a live key after so many with unknown ones.
const SELDOM: u64 = 100;

/// The first so many fingerprints are live, all others unknown. Counts how often it is asked.
#[derive(Clone)]
struct Numbered {
    live: u64,
    /// One record for all, or one for each.
    shared: Option<Arc<KeyRecord>>,
    asked: Arc<AtomicU64>,
}

impl Numbered {
    fn new(live: u64, shared: bool) -> Self {
        Self { live, shared: shared.then(|| Arc::new(record())), asked: Arc::default() }
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl KeyStore for Numbered {
    fn find(&self, fingerprint: Fingerprint) -> Lookup {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let record = || self.shared.clone().unwrap_or_else(|| Arc::new(record()));
        let live = number(fingerprint) < self.live;
        Lookup::ready(Ok(live.then(|| Entry::Live(record()))))
    }
}

fn record() -> KeyRecord {
    KeyRecord::new(
        "key_01jd0000000000000000000000".parse().unwrap(),
        "admin@example.com".parse().unwrap(),
        "Production CRM".parse().unwrap(),
        KeyDigest::of(KeyText::parse(b"a-key").unwrap()),
        SystemTime::UNIX_EPOCH,
    )
}

/// Spread as those of a SHA-256 are, and known by their number: multiplication by an odd constant can
/// be undone.
fn fingerprint(number: u64) -> Fingerprint {
    let spread = number.wrapping_mul(SPREAD);
    Fingerprint::from_bytes((spread ^ (spread >> 32)).wrapping_mul(SPREAD).to_ne_bytes())
}

fn number(fingerprint: Fingerprint) -> u64 {
    let spread = u64::from_ne_bytes(*fingerprint.as_bytes()).wrapping_mul(INVERSE);
    (spread ^ (spread >> 32)).wrapping_mul(INVERSE)
}

const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
const INVERSE: u64 = inverse(SPREAD);

/// By Newton's method: each step doubles the number of bits that are right.
const fn inverse(odd: u64) -> u64 {
    let mut inverse = odd;
    let mut step = 0;
    while step < 6 {
        inverse = inverse.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(inverse)));
        step += 1;
    }
    inverse
}

fn settings() -> CacheSettings {
    let mut settings = CacheSettings::default();
    // Nothing gets too old while it is measured.
    settings.max_age = Duration::from_hours(1);
    settings.max_live = 2_000_000;
    settings
}

fn filled<S: KeyStore>(store: S, count: u64) -> CachedStore<S> {
    let cached = CachedStore::alone(store, settings());
    for number in 0..count {
        cached.find(fingerprint(number)).now_or_never().unwrap().unwrap();
    }
    cached
}

/// The map that the cache uses for live records, with nothing around it.
type Bare = Cache<
    Fingerprint,
    (Arc<KeyRecord>, Duration),
    UnitWeighter,
    BuildHasherDefault<Pass>,
    DefaultLifecycle<Fingerprint, (Arc<KeyRecord>, Duration)>,
>;

#[derive(Default)]
struct Pass(u64);

impl Hasher for Pass {
    fn write_u64(&mut self, fingerprint: u64) {
        self.0 = fingerprint;
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("a fingerprint is one u64");
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn bare(count: u64) -> Bare {
    let capacity = settings().max_live;
    let bare = Bare::with(
        capacity,
        capacity as u64,
        UnitWeighter,
        BuildHasherDefault::default(),
        DefaultLifecycle::default(),
    );
    for number in 0..count {
        bare.insert(fingerprint(number), (Arc::new(record()), Duration::MAX));
    }
    bare
}

/// A hit, in both, for up to 10,000 of the keys in turn.
fn hits(criterion: &mut Criterion, count: u64) {
    let asked: Vec<Fingerprint> =
        (0..count.min(10_000)).map(|n| fingerprint(n * (count / count.min(10_000)))).collect();
    let bare = bare(count);
    let mut turn = asked.iter().cycle();
    criterion.bench_function(&format!("bare_{count}"), |bencher| {
        bencher.iter(|| black_box(bare.get(turn.next().unwrap())).unwrap());
    });
    drop(bare);
    let store = Numbered::new(count, false);
    let cached = filled(store.clone(), count);
    let mut turn = asked.iter().cycle();
    criterion.bench_function(&format!("hit_{count}"), |bencher| {
        bencher.iter(|| black_box(cached.find(*turn.next().unwrap())));
    });
    assert_eq!(store.asked(), count, "every one was a hit");
}

fn main() {
    report::forget();
    assert_eq!(number(fingerprint(12_345)), 12_345);
    println!("memory, by the process's resident set");
    memory();
    flood();

    let mut criterion = report::criterion();
    criterion.bench_function("clock", |bencher| bencher.iter(|| SystemClock.elapsed()));
    for count in SIZES {
        hits(&mut criterion, count);
    }
    println!();
    report::ratio("the clock, apart", "clock", "bare_1", "");
    for count in SIZES {
        let what = format!("a hit among {count} keys, beside a bare quick_cache get");
        report::ratio(&what, &format!("hit_{count}"), &format!("bare_{count}"), "aim 2");
    }
}

fn memory() {
    let count = 1_000_000;
    for (what, shared) in [("without its record", true), ("with a record of its own", false)] {
        let before = resident();
        let cached = filled(Numbered::new(count, shared), count);
        if let (Some(before), Some(after)) = (before, resident()) {
            let each = after.saturating_sub(before) / count;
            println!("{:<58} {each:>8} bytes", format!("a cached key, {what}"));
        }
        drop(cached);
    }
}

fn flood() {
    let store = Numbered::new(LIVE, false);
    let mut settings = CacheSettings::default();
    // So that what is counted is what was pushed out, not what grew old.
    settings.max_age = Duration::from_hours(1);
    let cached = CachedStore::alone(store.clone(), settings);
    let find = |number: u64| cached.find(fingerprint(number)).now_or_never().unwrap().unwrap();
    let all = || (0..LIVE).for_each(|number| assert!(find(number).is_some()));
    let share =
        |hits: u64, of: u64| format!("{}.{:02} %", hits * 100 / of, hits * 10_000 / of % 100);

    all();
    let asked = store.asked();
    all();
    let before = share(LIVE - (store.asked() - asked), LIVE);
    let resident_before = resident();

    let (started, asked) = (Instant::now(), store.asked());
    let mut live = 0;
    for unknown in 0..UNKNOWN {
        assert!(find(LIVE + unknown).is_none());
        if unknown % SELDOM == 0 {
            // A stride, so that the same key comes back only after all others.
            assert!(find(live * 7919 % LIVE).is_some());
            live += 1;
        }
    }
    let each = started.elapsed() / u32::try_from(UNKNOWN).unwrap();
    let during = share(live - (store.asked() - asked - UNKNOWN), live);
    let resident_after = resident();
    let asked = store.asked();
    all();
    let after = share(LIVE - (store.asked() - asked), LIVE);

    println!("\na flood of {UNKNOWN} unknown keys over {LIVE} live ones");
    println!("{:<58} {before} / {during} / {after}", "live hits before / during / after");
    if let (Some(before), Some(after)) = (resident_before, resident_after) {
        let growth = after.saturating_sub(before) / 1024;
        println!("{:<58} {:>8} KiB before, {growth} KiB more after", "resident", before / 1024);
    }
    println!("{:<58} {each:>8.0?} each", "an unknown key, store included");
}

/// The process's resident memory in bytes, where the system says it.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

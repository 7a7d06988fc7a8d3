//! How much each key is used, from where, and how often it is refused. Knows no HTTP; writes only
//! off the request path.
//!
//! ```
//! use tower_api_key::{ApiKeyLayer, KeyManager, MemoryStore, Usage, UsageSettings};
//!
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = MemoryStore::new();
//! let usage = Usage::collect(store.clone(), UsageSettings::default());
//! let layer = ApiKeyLayer::new(store.clone()).with_usage(&usage);
//! # let _ = layer;
//!
//! // … serve; and when the server has stopped:
//! usage.close().await;
//!
//! // What there is to see of it:
//! let manager = KeyManager::new(store, "acme".parse()?);
//! for key in manager.usage(&"admin@example.com".parse()?, 30).await? {
//!     for day in key.days {
//!         println!("{}: {} requests, {} refused", key.name, day.requests, day.refusals);
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! # What is counted
//!
//! * Each accepted request, for its key and the day (UTC) of the first one of an interval; also one that a part
//!   of the service then refuses, because its key lacks the scope of
//!   [`require_scope`](crate::middleware::require_scope).
//! * Each refused request with a key that the store knows: expired, of another environment, without the
//!   [layer's](crate::ApiKeyLayer::with_required_scope) scope; and with a key that was deleted, regenerated or
//!   rotated, which is put down to the key that it was. An attempt is no use: it does not change when a key was last
//!   used. Attempts with keys that never were are nobody's: count the [events](crate::KeyEvents).
//! * When and from where a key was last used, and a hash of the `User-Agent`: those of the first request
//!   of an interval, so at most one interval older than the last one; without a cache, over a store that
//!   makes a new record for each request, those of the last. The address is the socket's peer or, behind
//!   [`TrustedProxies`](crate::TrustedProxies), the one that they say.
//!
//! # What it costs, and what it may lose
//!
//! A request adds one to a count beside the record that it holds already; the first of an interval also
//! takes a short lock, as does every one that is refused for its key. Once in an
//! [interval](UsageSettings::with_interval) all counts are written, a thousand keys in one call, so the store shows
//! them that much later. They are no accounts: what was not written is lost when the process is killed, and a write
//! that failed after it was done is counted
//! twice. While the store is down they are kept, for [so many keys](UsageSettings::with_most_keys) at the
//! most; those beyond are not counted, and the log says how many.
//!
//! A count that comes late cannot bring a deleted key back, and verification waits for none of this.

use std::collections::{HashMap, HashSet};
use std::hint::black_box;
use std::mem;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use tokio::time::{sleep, timeout};

use crate::clock::{Clock, SystemClock, to_milliseconds};
use crate::digest::{AgentHash, Fingerprint};
use crate::events::{KeyEvent, KeyEvents, Listeners};
use crate::record::KeyRecord;
use crate::store::{Day, KeyRegistry, StoreError, Use};

/// How long one write may take before the interval goes on without it.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many uses are written in one call.
const USES_AT_ONCE: usize = 1_000;

/// How uses are collected.
#[derive(Clone)]
#[must_use]
pub struct UsageSettings {
    interval: Duration,
    most_keys: usize,
    warned_before: Duration,
    clock: Arc<dyn Clock>,
    listeners: Listeners,
}

impl Default for UsageSettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            most_keys: 100_000,
            warned_before: Duration::from_hours(7 * 24),
            clock: Arc::new(SystemClock),
            listeners: Listeners::default(),
        }
    }
}

impl UsageSettings {
    /// How long uses are counted before they are written; 10 s unless set, and at least 10 ms.
    pub fn with_interval(mut self, interval: Duration) -> Self {
        self.interval = interval.max(Duration::from_millis(10));
        self
    }

    /// Of how many keys uses are kept until they are written; 100,000 unless set, for about 100 bytes each.
    pub fn with_most_keys(mut self, most: usize) -> Self {
        self.most_keys = most;
        self
    }

    /// How long before its end a key that is in use is told of as [expiring](KeyEvent::Expiring); 7 days
    /// unless set.
    pub fn with_warned_before(mut self, time: Duration) -> Self {
        self.warned_before = time;
        self
    }

    /// The clock; the system's unless set.
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Tells `listener` what is [written](KeyEvent::Used) and which keys are
    /// [about to expire](KeyEvent::Expiring), beside those that were told to listen before.
    pub fn with_events(mut self, listener: impl KeyEvents) -> Self {
        self.listeners = self.listeners.and(listener);
        self
    }
}

impl std::fmt::Debug for UsageSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UsageSettings")
            .field("interval", &self.interval)
            .field("most_keys", &self.most_keys)
            .field("warned_before", &self.warned_before)
            .finish_non_exhaustive()
    }
}

/// Collects the uses of keys and writes them now and then; clones share what they collect.
#[derive(Clone)]
pub struct Usage(Arc<Collector>);

struct Collector {
    registry: Arc<dyn KeyRegistry>,
    settings: UsageSettings,
    pending: Mutex<Pending>,
    /// One write at a time.
    writing: tokio::sync::Mutex<Warned>,
    closed: AtomicBool,
}

#[derive(Default)]
struct Pending {
    uses: HashMap<Fingerprint, Counted>,
    /// Uses for which there was no room.
    lost: u64,
}

/// What is known of one secret's uses, beside what its record counts by itself.
struct Counted {
    /// Whose tally goes on counting; `None` where only refusals were seen.
    record: Option<Arc<KeyRecord>>,
    sight: Use,
}

/// The keys whose coming end was told of on a day.
#[derive(Default)]
struct Warned {
    day: Option<Day>,
    keys: HashSet<Fingerprint>,
}

/// Where a request came from, and what it called itself.
pub(crate) type Origin = (Option<IpAddr>, Option<AgentHash>);

impl Usage {
    /// Collects for the keys of `registry`, and writes to it once in an interval, from a task that ends
    /// when the last clone is gone.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    #[must_use]
    pub fn collect(registry: impl KeyRegistry, settings: UsageSettings) -> Self {
        let interval = settings.interval;
        let collector = Arc::new(Collector {
            registry: Arc::new(registry),
            settings,
            pending: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
            closed: AtomicBool::new(false),
        });
        tokio::spawn(write_now_and_then(Arc::downgrade(&collector), interval));
        Self(collector)
    }

    /// Writes what was collected so far. Goes on when it is dropped. While the store does not answer it
    /// takes 10 s at the most, and what was not written is kept.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub async fn flush(&self) {
        flush(Arc::clone(&self.0)).await;
    }

    /// Writes what was collected, as [`flush`](Self::flush) does, and the task writes no more. To be called
    /// when the server has answered its last request.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub async fn close(&self) {
        self.0.closed.store(true, Ordering::Relaxed);
        flush(Arc::clone(&self.0)).await;
    }

    /// Counts an accepted request. `origin` is asked for the first one of an interval only.
    pub(crate) fn accepted(&self, record: &Arc<KeyRecord>, origin: impl FnOnce() -> Origin) {
        if record.tally.count() {
            self.0.first_of_an_interval(record, origin());
        }
    }

    /// Counts a refused request with a secret that is or was a key's.
    pub(crate) fn refused(&self, secret: Fingerprint) {
        let mut pending = self.0.pending();
        if let Some(counted) = pending.uses.get_mut(&secret) {
            counted.sight.refusals += 1;
        } else if pending.uses.len() >= self.0.settings.most_keys {
            pending.lost += 1;
        } else {
            drop(pending);
            self.0.first_refusal(secret);
        }
    }

    /// Takes as long as [`refused`](Self::refused) does but for the first time in an interval, and counts nothing:
    /// the time tells nobody which secret is or was a key's. Any stands for one that has no fingerprint.
    pub(crate) fn looked_for(&self, secret: Option<Fingerprint>) {
        let secret = secret.unwrap_or_else(|| Fingerprint::from_bytes([0; 8]));
        black_box(self.0.pending().uses.get_mut(&secret));
    }
}

/// Until the last handle is gone, or it is closed.
async fn write_now_and_then(collector: Weak<Collector>, interval: Duration) {
    loop {
        sleep(interval).await;
        let Some(collector) = collector.upgrade() else { return };
        if collector.closed.load(Ordering::Relaxed) {
            return;
        }
        flush(collector).await;
    }
}

/// In a task of its own: a caller that goes away does not stop it half way, and a store that panics ends
/// this one, and not the collecting.
async fn flush(collector: Arc<Collector>) {
    if tokio::spawn(async move { collector.flush().await }).await.is_err() {
        tracing::error!(target: "tower_api_key", "uses of keys were lost: the store panicked");
    }
}

impl Collector {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        // Counts are whole between any two instructions that could panic.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cold]
    fn first_of_an_interval(&self, record: &Arc<KeyRecord>, (address, agent): Origin) {
        let at = to_milliseconds(self.settings.clock.now());
        let mut pending = self.pending();
        let Some(counted) = pending.entry(record.fingerprint(), at, self.settings.most_keys) else {
            // It must be a first one again, or it would never be counted.
            pending.lost += record.tally.take().saturating_sub(1);
            return;
        };
        counted.sight = Use { at, address, agent, ..counted.sight };
        // A store that keeps nothing in memory makes a new record for every request.
        if let Some(earlier) = counted.record.replace(Arc::clone(record))
            && !Arc::ptr_eq(&earlier, record)
        {
            counted.sight.requests += earlier.tally.take();
        }
    }

    #[cold]
    fn first_refusal(&self, secret: Fingerprint) {
        let at = to_milliseconds(self.settings.clock.now());
        let mut pending = self.pending();
        if let Some(counted) = pending.entry(secret, at, self.settings.most_keys) {
            counted.sight.refusals += 1;
        }
    }

    async fn flush(&self) {
        let mut warned = self.writing.lock().await;
        let Pending { uses, lost } = mem::take(&mut *self.pending());
        if lost > 0 {
            tracing::warn!(target: "tower_api_key", lost, "uses of keys were not counted: more keys than there is room for");
        }
        let counted: Vec<Counted> = uses.into_values().map(Counted::summed).collect();
        self.warn(&mut warned, &counted);
        let uses: Vec<Use> = counted.into_iter().map(|counted| counted.sight).collect();
        let uses: Vec<Use> = uses.into_iter().filter(|of| of.requests + of.refusals > 0).collect();
        let mut rest = uses.chunks(USES_AT_ONCE);
        while let Some(some) = rest.next() {
            if let Err(error) = self.write(some).await {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(target: "tower_api_key", error, "uses of keys were not written, and are kept");
                // What has failed once is not tried a hundred times over.
                for unwritten in std::iter::once(some).chain(rest) {
                    self.keep(unwritten);
                }
                return;
            }
            for of in some {
                self.settings.listeners.tell(&KeyEvent::Used { of });
            }
        }
    }

    async fn write(&self, uses: &[Use]) -> Result<(), StoreError> {
        let written = timeout(PATIENCE, self.registry.mark_used(uses)).await;
        written.unwrap_or(Err(StoreError::Timeout { store: "key", limit: PATIENCE }))
    }

    /// For the next time.
    fn keep(&self, uses: &[Use]) {
        let mut pending = self.pending();
        for of in uses {
            let Some(counted) = pending.entry(of.fingerprint, of.at, self.settings.most_keys)
            else {
                pending.lost += of.requests + of.refusals - 1;
                continue;
            };
            // A use is told of, and not an attempt after it; of two, the later one.
            let is_used = counted.record.is_some() || counted.sight.requests > 0;
            counted.sight.requests += of.requests;
            counted.sight.refusals += of.refusals;
            if (is_used, counted.sight.at) <= (of.requests > 0, of.at) {
                counted.sight =
                    Use { address: of.address, agent: of.agent, at: of.at, ..counted.sight };
            }
        }
    }

    /// Tells of the keys that were used and are about to expire.
    fn warn(&self, warned: &mut Warned, counted: &[Counted]) {
        let now = self.settings.clock.now();
        let soon = now.checked_add(self.settings.warned_before);
        let today = Some(Day::of(now));
        if warned.day != today {
            *warned = Warned { day: today, keys: HashSet::new() };
        }
        for key in counted.iter().filter_map(|counted| counted.record.as_ref()) {
            let is_soon = key.expires_at.is_some_and(|end| soon.is_none_or(|soon| end <= soon));
            if is_soon && !key.is_expired(now) && warned.keys.insert(key.fingerprint()) {
                tracing::warn!(
                    target: "tower_api_key",
                    key_id = %key.id,
                    key_name = key.name.as_str(),
                    account = key.account.as_str(),
                    "a key that is in use is about to expire"
                );
                self.settings.listeners.tell(&KeyEvent::Expiring { key });
            }
        }
    }
}

impl Pending {
    /// What is known of a secret, or `None` where there is no room for one more.
    fn entry(&mut self, secret: Fingerprint, at: SystemTime, most: usize) -> Option<&mut Counted> {
        if self.uses.len() >= most && !self.uses.contains_key(&secret) {
            self.lost += 1;
            return None;
        }
        let none = || Counted { record: None, sight: Use { requests: 0, ..Use::new(secret, at) } };
        Some(self.uses.entry(secret).or_insert_with(none))
    }
}

impl Counted {
    /// With what the record has counted by itself.
    fn summed(mut self) -> Self {
        self.sight.requests += self.record.as_ref().map_or(0, |record| record.tally.take());
        self
    }
}

impl std::fmt::Debug for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Usage").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}

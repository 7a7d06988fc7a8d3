//! The side of one replica: keeps its lease, drops what was written elsewhere, and says so.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{FutureExt as _, future};
use rand::TryRng as _;
use rand::rngs::SysRng;
use tokio::sync::{Notify, watch};

use super::flights::{Flights, panicked};
use super::lease::Lease;
use crate::clock::Monotonic;
use crate::store::fleet::{LEASE, TRUST};
use crate::store::{Changes, ReplicaId, SharedRegistry, StoreError, Version};

/// How often the lease is renewed when nothing happens.
const RENEWAL: Duration = Duration::from_millis(200);

/// How soon a renewal that failed is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// Whoever has heard nothing from the store for so long begins again: it may have come back with less than it
/// had.
const AWAY: Duration = Duration::from_secs(3);

/// What the cache and the task that keeps its lease share.
pub(super) struct Replica {
    names: Mutex<Names>,
    lease: Arc<Lease>,
    flights: Arc<Flights>,
    clock: Arc<dyn Monotonic>,
    /// Something may have been written.
    nudge: Notify,
    /// The version up to which everything has been dropped, as the store was told.
    applied: AtomicU64,
    /// When the store was last asked with success, and when it last had something new.
    heard_at: Moment,
    changed_at: Moment,
    has_failed: AtomicBool,
}

/// By which names the replica may be on the store's roll.
#[derive(Default)]
struct Names {
    /// That by which it is there.
    id: Option<ReplicaId>,
    /// Those by which it answers nothing.
    former: Vec<ReplicaId>,
}

/// Ends the task when it is dropped.
pub(super) struct Keeper {
    stop: watch::Sender<bool>,
    /// Closed when the task has ended.
    ended: watch::Receiver<()>,
}

/// How a replica stands with the store that it shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplicaStatus {
    /// Its name on the store's roll; `None` before the store was reached for the first time.
    pub id: Option<ReplicaId>,
    /// For how long it may still answer from memory, if nothing more is heard from the store;
    /// `None`: it asks the store for every key.
    pub lease: Option<Duration>,
    /// How long ago the store was last asked, and answered: nothing is missing that was written before.
    pub age: Option<Duration>,
    /// The version up to which it has dropped what changed. How far it lies behind the store's, and who
    /// else does, [`SharedRegistry::roll`] says.
    pub applied: Version,
    /// How long ago it last heard of a change.
    pub last_change: Option<Duration>,
    /// Whether the last renewal succeeded. A lease that has come back is never seen without it.
    pub is_connected: bool,
}

impl Replica {
    pub(super) fn new(lease: Arc<Lease>, flights: Arc<Flights>, clock: Arc<dyn Monotonic>) -> Self {
        Self {
            names: Mutex::default(),
            lease,
            flights,
            clock,
            nudge: Notify::new(),
            applied: AtomicU64::new(0),
            heard_at: Moment::never(),
            changed_at: Moment::never(),
            has_failed: AtomicBool::new(false),
        }
    }

    /// Lets the task look at once whether something was written.
    pub(super) fn nudge(&self) {
        self.nudge.notify_one();
    }

    pub(super) fn status(&self) -> ReplicaStatus {
        let now = self.clock.elapsed();
        ReplicaStatus {
            id: self.names().id,
            lease: self.lease.end().checked_sub(now).filter(|left| !left.is_zero()),
            applied: Version::new(self.applied.load(Ordering::Relaxed)),
            age: self.heard_at.ago(now),
            last_change: self.changed_at.ago(now),
            is_connected: self.heard_at.ago(now).is_some()
                && !self.has_failed.load(Ordering::Relaxed),
        }
    }

    /// Keeps the lease until it is stopped, and goes off the store's roll.
    pub(super) async fn run<S: SharedRegistry>(
        self: Arc<Self>,
        store: Arc<S>,
        mut stopped: watch::Receiver<bool>,
        first: Arc<Notify>,
        _ended: watch::Sender<()>,
    ) {
        {
            let wake = || self.nudge();
            let watch = AssertUnwindSafe(store.watch(&wake)).catch_unwind();
            // Keeping has no end, so this has none, even if there is nothing to watch.
            let work = pin!(future::join(self.keep(&*store, &first), watch));
            // Also when the sender is gone.
            let end = pin!(stopped.wait_for(|&stopped| stopped));
            future::select(end, work).await;
        }
        self.leave();
        // If the store is not there, a write or two will wait.
        let _ = self.withdraw(&*store).await;
    }

    async fn keep<S: SharedRegistry>(&self, store: &S, first: &Notify) {
        let (mut is_first, mut had_failed) = (true, false);
        loop {
            let renewed = AssertUnwindSafe(self.renew(store)).catch_unwind().await;
            let renewed = renewed.unwrap_or_else(|panic| Err(panicked(&*panic)));
            self.has_failed.store(renewed.is_err(), Ordering::Relaxed);
            log(&renewed, had_failed);
            had_failed = renewed.is_err();
            if std::mem::take(&mut is_first) {
                first.notify_one();
            }
            let pause = match renewed {
                // There may be more to say: that all of it was applied.
                Ok(true) => continue,
                Ok(false) => RENEWAL,
                Err(_) => RETRY,
            };
            let _ = tokio::time::timeout(pause, self.nudge.notified()).await;
            if pause == RETRY {
                // A nudge does not make a store answer.
                tokio::time::sleep(RETRY / 4).await;
            }
        }
    }

    /// Renews the lease; whether there is something to say at once. One that fails is continued by the
    /// next.
    async fn renew<S: SharedRegistry>(&self, store: &S) -> Result<bool, StoreError> {
        if self.heard_at.ago(self.clock.elapsed()).is_some_and(|ago| ago >= AWAY) {
            self.leave();
        }
        self.withdraw(store).await?;
        let id = self.enrol(store).await?;
        // Whatever is written from here on may be missing in the answer.
        let asked = self.clock.elapsed();
        let applied = Version::new(self.applied.load(Ordering::Relaxed));
        let Some(changes) = in_time(store.renew(id, applied)).await? else {
            self.leave();
            tracing::warn!(
                target: "tower_api_key",
                replica = %id,
                "others took this replica for dead: it begins again with an empty memory"
            );
            return Err(StoreError::unavailable("cached", "it refused a lease"));
        };
        self.flights.forget_changes(&changes);
        // First, so that nobody sees the lease come back without these.
        self.heard_at.is(asked);
        self.has_failed.store(false, Ordering::Relaxed);
        // Only now: what had changed is gone.
        self.lease.extend(asked + TRUST);
        let latest = changes.latest();
        if latest == applied {
            return Ok(false);
        }
        if matches!(changes, Changes::Forgotten { .. }) && applied != Version::default() {
            tracing::warn!(
                target: "tower_api_key",
                "the whole cache was dropped: the store has forgotten what changed meanwhile"
            );
        }
        self.applied.store(latest.get(), Ordering::Relaxed);
        self.changed_at.is(self.clock.elapsed());
        tracing::debug!(target: "tower_api_key", version = latest.get(), "applied what was written");
        Ok(true)
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers nothing from memory any more, and gives its name up: it may be that of a suspect.
    fn leave(&self) {
        self.lease.give_up(self.clock.elapsed());
        self.heard_at.is_not();
        let mut names = self.names();
        let id = names.id.take();
        names.former.extend(id);
    }

    /// Takes its former names off the roll, so that nobody waits for them.
    async fn withdraw<S: SharedRegistry>(&self, store: &S) -> Result<(), StoreError> {
        let former = self.names().former.clone();
        if !former.is_empty() {
            in_time(store.withdraw(&former)).await?;
            self.names().former.clear();
        }
        Ok(())
    }

    /// Is on the roll; as a new one, with nothing in memory.
    async fn enrol<S: SharedRegistry>(&self, store: &S) -> Result<ReplicaId, StoreError> {
        let id = self.names().id;
        if let Some(id) = id {
            return Ok(id);
        }
        // Each name is tried once. One that may or may not be on the roll may be struck off it late, by
        // whoever waited for it.
        let id = ReplicaId::from_bytes(random()?);
        self.names().former.push(id);
        in_time(store.enrol(id)).await?;
        self.applied.store(0, Ordering::Relaxed);
        self.flights.forget_all();
        let mut names = self.names();
        names.former.retain(|former| *former != id);
        names.id = Some(id);
        Ok(id)
    }
}

/// Once when it begins to fail, and once when it is over.
fn log(renewed: &Result<bool, StoreError>, had_failed: bool) {
    match renewed {
        Err(error) if !had_failed => tracing::warn!(
            target: "tower_api_key",
            error = error as &dyn std::error::Error,
            "the lease could not be renewed: when it is over, keys will be looked up in the store"
        ),
        Ok(_) if had_failed => tracing::info!(
            target: "tower_api_key",
            "the lease was renewed: keys are answered from memory again"
        ),
        _ => {}
    }
}

async fn in_time<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let ended = tokio::time::timeout(LEASE, call).await;
    ended.unwrap_or(Err(StoreError::Timeout { store: "cached", limit: LEASE }))
}

fn random() -> Result<[u8; 16], StoreError> {
    let mut bytes = [0; 16];
    SysRng.try_fill_bytes(&mut bytes).map_err(|error| StoreError::unavailable("cached", error))?;
    Ok(bytes)
}

/// On the clock, once it has come.
struct Moment(AtomicU64);

impl Moment {
    fn never() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }

    fn is(&self, now: Duration) {
        self.0.store(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX - 1), Ordering::Relaxed);
    }

    fn is_not(&self) {
        self.0.store(u64::MAX, Ordering::Relaxed);
    }

    fn ago(&self, now: Duration) -> Option<Duration> {
        let then = self.0.load(Ordering::Relaxed);
        (then != u64::MAX).then(|| now.saturating_sub(Duration::from_nanos(then)))
    }
}

impl Keeper {
    /// Starts the task; returns when it has tried to get a lease.
    pub(super) async fn start<S: SharedRegistry>(replica: Arc<Replica>, store: Arc<S>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (end, ended) = watch::channel(());
        let first = Arc::new(Notify::new());
        tokio::spawn(replica.run(store, stopped, Arc::clone(&first), end));
        let keeper = Self { stop, ended };
        let _ = tokio::time::timeout(LEASE, first.notified()).await;
        keeper
    }

    /// Stops the task, and returns when the replica is off the roll, or cannot be taken off it.
    pub(super) async fn stop(&self) {
        self.stop.send_replace(true);
        // An error is what is waited for.
        let _ = self.ended.clone().changed().await;
    }
}

//! The side of one replica: keeps its lease, drops what was written elsewhere, and says so.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future;
use rand::TryRng as _;
use rand::rngs::SysRng;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::flights::Flights;
use super::lease::Lease;
use crate::clock::Monotonic;
use crate::store::fleet::{LEASE, TRUST};
use crate::store::{Changes, ReplicaId, SharedRegistry, StoreError, Version};

/// How often the lease is renewed when nothing happens.
const RENEWAL: Duration = Duration::from_millis(250);

/// How soon a renewal that failed is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// What the cache and the task that keeps its lease share.
pub(super) struct Replica {
    /// Its name on the store's roll, once it may be there.
    id: Mutex<Option<ReplicaId>>,
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
    is_connected: AtomicBool,
}

/// Ends the task when it is dropped.
pub(super) struct Keeper {
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
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
    /// Whether the last renewal succeeded.
    pub is_connected: bool,
}

impl Replica {
    pub(super) fn new(lease: Arc<Lease>, flights: Arc<Flights>, clock: Arc<dyn Monotonic>) -> Self {
        Self {
            id: Mutex::default(),
            lease,
            flights,
            clock,
            nudge: Notify::new(),
            applied: AtomicU64::new(0),
            heard_at: Moment::never(),
            changed_at: Moment::never(),
            is_connected: AtomicBool::new(false),
        }
    }

    /// Lets the task look at once whether something was written.
    pub(super) fn nudge(&self) {
        self.nudge.notify_one();
    }

    pub(super) fn status(&self) -> ReplicaStatus {
        let now = self.clock.elapsed();
        ReplicaStatus {
            id: *self.id(),
            lease: self.lease.end().checked_sub(now).filter(|left| !left.is_zero()),
            applied: Version::new(self.applied.load(Ordering::Relaxed)),
            age: self.heard_at.ago(now),
            last_change: self.changed_at.ago(now),
            is_connected: self.is_connected.load(Ordering::Relaxed),
        }
    }

    /// Enrols with the store, keeps the lease until it is stopped, and withdraws.
    pub(super) async fn run<S: SharedRegistry>(
        self: Arc<Self>,
        store: Arc<S>,
        mut stopped: watch::Receiver<bool>,
        first: Arc<Notify>,
    ) {
        {
            let wake = || self.nudge();
            // Keeping has no end, so this has none, even if there is nothing to watch.
            let work = pin!(future::join(self.keep(&*store, &first), store.watch(&wake)));
            // Also when the sender is gone.
            let end = pin!(stopped.wait_for(|&stopped| stopped));
            future::select(end, work).await;
        }
        // If the store is not there, a write or two will wait.
        let _ = tokio::time::timeout(LEASE, self.withdraw(&*store)).await;
    }

    fn id(&self) -> MutexGuard<'_, Option<ReplicaId>> {
        self.id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn keep<S: SharedRegistry>(&self, store: &S, first: &Notify) {
        let mut is_first = true;
        loop {
            let renewed = tokio::time::timeout(LEASE, self.renew(store)).await;
            let renewed =
                renewed.unwrap_or(Err(StoreError::Timeout { store: "cached", limit: LEASE }));
            self.log(&renewed);
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

    /// Renews the lease; whether there is something to say at once.
    async fn renew<S: SharedRegistry>(&self, store: &S) -> Result<bool, StoreError> {
        // Whatever is written from here on may be missing in the answer.
        let asked = self.clock.elapsed();
        let id = *self.id();
        let mut applied = Version::new(self.applied.load(Ordering::Relaxed));
        let mut changes = None;
        // One whose lease has ended begins again: the store may have come back with less than it had.
        if let Some(id) = id.filter(|_| self.lease.covers(asked)) {
            changes = store.renew(id, applied).await?;
            if changes.is_none() {
                tracing::warn!(target: "tower_api_key", replica = %id, "others took this replica for dead: it begins again with an empty memory");
            }
        }
        if changes.is_none() {
            applied = Version::default();
            self.withdraw(store).await?;
            changes = self.begin(store).await?;
        }
        let changes =
            changes.ok_or_else(|| StoreError::unavailable("cached", "refused a lease"))?;
        self.flights.forget_changes(&changes);
        let latest = changes.latest();
        // Only now: what had changed is gone.
        self.lease.extend(asked + TRUST);
        self.heard_at.is(asked);
        if matches!(changes, Changes::Forgotten { .. }) && applied != Version::default() {
            tracing::warn!(target: "tower_api_key", "the whole cache was dropped: the store has forgotten what changed meanwhile");
        }
        let is_news = latest != applied;
        if is_news {
            self.applied.store(latest.get(), Ordering::Relaxed);
            self.changed_at.is(self.clock.elapsed());
            tracing::debug!(target: "tower_api_key", version = latest.get(), "applied what was written elsewhere");
        }
        Ok(is_news)
    }

    /// Goes off the roll, where nobody waits for it any more.
    async fn withdraw<S: SharedRegistry>(&self, store: &S) -> Result<(), StoreError> {
        // First of all: from here on nothing is answered from memory.
        self.lease.give_up(self.clock.elapsed());
        let id = *self.id();
        if let Some(id) = id {
            store.withdraw(&[id]).await?;
        }
        Ok(())
    }

    /// Goes on the roll, with nothing in memory, by a new name: the old one may be that of a suspect.
    async fn begin<S: SharedRegistry>(&self, store: &S) -> Result<Option<Changes>, StoreError> {
        let mut id = [0; 16];
        SysRng.try_fill_bytes(&mut id).map_err(|error| StoreError::unavailable("cached", error))?;
        let id = ReplicaId::from_bytes(id);
        // Before it is there: whether it came to be is not known if this fails.
        *self.id() = Some(id);
        store.enrol(id).await?;
        self.applied.store(0, Ordering::Relaxed);
        self.flights.forget_all();
        store.renew(id, Version::default()).await
    }

    /// Once when it begins to fail, and once when it is over.
    fn log(&self, renewed: &Result<bool, StoreError>) {
        let is_connected = renewed.is_ok();
        let was_connected = self.is_connected.swap(is_connected, Ordering::Relaxed);
        match renewed {
            Err(error) if was_connected => tracing::warn!(
                target: "tower_api_key",
                error = error as &dyn std::error::Error,
                "the lease could not be renewed: keys will be looked up in the store"
            ),
            Ok(_) if !was_connected => tracing::info!(
                target: "tower_api_key",
                "the lease was renewed: keys are answered from memory"
            ),
            _ => {}
        }
    }
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

    fn ago(&self, now: Duration) -> Option<Duration> {
        let then = self.0.load(Ordering::Relaxed);
        (then != u64::MAX).then(|| now.saturating_sub(Duration::from_nanos(then)))
    }
}

impl Keeper {
    /// Starts the task; returns when it has tried to get a lease.
    pub(super) async fn start<S: SharedRegistry>(replica: Arc<Replica>, store: Arc<S>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let first = Arc::new(Notify::new());
        let task = tokio::spawn(replica.run(store, stopped, Arc::clone(&first)));
        let keeper = Self { stop, task: Mutex::new(Some(task)) };
        let _ = tokio::time::timeout(LEASE, first.notified()).await;
        keeper
    }

    /// Stops the task, and returns when the replica is off the roll, or cannot be taken off it.
    pub(super) async fn stop(&self) {
        self.stop.send_replace(true);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            let _ = task.await;
        }
    }
}

//! The side of one replica: keeps its lease, drops what was written elsewhere, and says so.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

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
    id: ReplicaId,
    lease: Arc<Lease>,
    flights: Arc<Flights>,
    clock: Arc<dyn Monotonic>,
    /// Something may have been written.
    nudge: Notify,
    /// The version up to which everything has been dropped, as the store was told.
    applied: AtomicU64,
    /// When that last had something new, on the clock; `u64::MAX` before.
    changed_at: AtomicU64,
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
    /// Its name on the store's roll.
    pub id: ReplicaId,
    /// For how long it may still answer from memory, if nothing more is heard from the store;
    /// `None`: it asks the store for every key.
    pub lease: Option<Duration>,
    /// The version up to which it has dropped what changed, as of the last renewal.
    pub applied: Version,
    /// How long ago it last heard of a change.
    pub last_change: Option<Duration>,
    /// Whether the last renewal succeeded.
    pub is_connected: bool,
}

impl Replica {
    /// `None` when the system has no random numbers: then there is no lease.
    pub(super) fn new(
        lease: Arc<Lease>,
        flights: Arc<Flights>,
        clock: Arc<dyn Monotonic>,
    ) -> Option<Self> {
        let mut id = [0; 16];
        SysRng.try_fill_bytes(&mut id).ok()?;
        Some(Self {
            id: ReplicaId::from_bytes(id),
            lease,
            flights,
            clock,
            nudge: Notify::new(),
            applied: AtomicU64::new(0),
            changed_at: AtomicU64::new(u64::MAX),
            is_connected: AtomicBool::new(false),
        })
    }

    /// Lets the task look at once whether something was written.
    pub(super) fn nudge(&self) {
        self.nudge.notify_one();
    }

    pub(super) fn status(&self) -> ReplicaStatus {
        let now = self.clock.elapsed();
        let changed_at = self.changed_at.load(Ordering::Relaxed);
        ReplicaStatus {
            id: self.id,
            lease: self.lease.end().checked_sub(now).filter(|left| !left.is_zero()),
            applied: Version::new(self.applied.load(Ordering::Relaxed)),
            last_change: (changed_at != u64::MAX)
                .then(|| now.saturating_sub(Duration::from_nanos(changed_at))),
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
        let wake = || self.nudge();
        tokio::select! {
            // Also when the sender is gone.
            _ = stopped.wait_for(|&stopped| stopped) => {}
            () = self.keep(&*store, &first) => {}
            // The end of one that does not watch is no end.
            () = async { store.watch(&wake).await; std::future::pending().await } => {}
        }
        // So that no write waits for it. One that fails waits, once or twice.
        let _ = tokio::time::timeout(LEASE, store.withdraw(self.id)).await;
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
        let applied = Version::new(self.applied.load(Ordering::Relaxed));
        let Some(changes) = store.renew(self.id, applied).await? else {
            store.enrol(self.id).await?;
            return Ok(true);
        };
        self.flights.forget_changes(&changes);
        let latest = changes.latest();
        // Only now: what had changed is gone.
        self.lease.extend(asked + TRUST);
        if matches!(changes, Changes::Forgotten { .. }) && applied != Version::default() {
            tracing::warn!(target: "tower_api_key", "the whole cache was dropped: the store has forgotten what changed meanwhile");
        }
        let is_news = latest != applied;
        if is_news {
            self.applied.store(latest.get(), Ordering::Relaxed);
            let now = u64::try_from(self.clock.elapsed().as_nanos()).unwrap_or(u64::MAX - 1);
            self.changed_at.store(now, Ordering::Relaxed);
            tracing::debug!(target: "tower_api_key", version = latest.get(), "applied what was written elsewhere");
        }
        Ok(is_news)
    }

    /// Once when it begins to fail, and once when it is over.
    fn log(&self, renewed: &Result<bool, StoreError>) {
        let is_connected = renewed.is_ok();
        let was_connected = self.is_connected.swap(is_connected, Ordering::Relaxed);
        match renewed {
            Err(error) if was_connected => tracing::warn!(
                target: "tower_api_key",
                error = error as &dyn std::error::Error,
                replica = %self.id,
                "the lease could not be renewed: keys will be looked up in the store"
            ),
            Ok(_) if !was_connected => tracing::info!(
                target: "tower_api_key",
                replica = %self.id,
                "the lease was renewed: keys are answered from memory"
            ),
            _ => {}
        }
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

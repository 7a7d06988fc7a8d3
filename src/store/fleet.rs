//! What the replicas of a service tell each other by way of the store that they share, so that each
//! may answer from its own memory and a deleted key is dead on all of them. Knows no particular store
//! and no cache. [`docs::replicas`](crate::docs::replicas) says why it is right.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use super::turns::Turns;
use super::{Changes, KeyRegistry, StoreError, Version};
use crate::clock::deadline;

/// The longest time for which a write waits for a replica that says nothing.
pub const LEASE: Duration = Duration::from_secs(1);

/// For how long a replica may answer from memory, counted from before it asked the store.
#[cfg(any(feature = "cache", test))]
pub(super) const TRUST: Duration = Duration::from_millis(600);

/// What is missing to [`LEASE`] is for clocks: two that are being set right, one forward and one back, as
/// fast as chrony does it unless told otherwise (1 in 12 each); one that is read to the nearest tick and
/// hears of a suspension late (60 ms); and a virtual machine whose host keeps the processor that counts the
/// ticks waiting, while others go on (200 ms).
#[cfg(any(feature = "cache", test))]
const _: () = assert!(TRUST.as_millis() * 12 / 11 + 60 + 200 <= LEASE.as_millis() * 12 / 13);

/// After this time, a replica that says nothing is suspected to be gone. Two renewals of one that hears
/// of no write.
const SUSPECT_AFTER: Duration = Duration::from_millis(500);

/// How much longer than [`LEASE`] a write may take for housekeeping.
const SLACK: Duration = Duration::from_millis(50);

/// A registry that several replicas share, each with a memory of its own: what [`KeyRegistry`] does not
/// need, and a cache in front of each replica does.
///
/// The store keeps a *roll*: the replicas that may answer from memory, and up to which version each has
/// dropped what changed. A replica must be on it, durably, before it asks for its first lease.
#[async_trait::async_trait]
pub trait SharedRegistry: KeyRegistry {
    /// Puts a replica on the roll, with nothing applied and under no suspicion; one that is there stays
    /// as it is. Durable when it returns.
    async fn enrol(&self, replica: ReplicaId) -> Result<(), StoreError>;

    /// Notes that a replica has applied everything up to a version, and gives what was written since:
    /// both at one moment that is not before the call. `None`, and nothing is noted, if the replica is
    /// not on the roll or is under suspicion. A version that the store has not reached yet is not noted:
    /// the store is older than the replica thinks.
    async fn renew(
        &self,
        replica: ReplicaId,
        applied: Version,
    ) -> Result<Option<Changes>, StoreError>;

    /// Takes replicas off the roll. None of them may answer from memory any more.
    async fn withdraw(&self, replicas: &[ReplicaId]) -> Result<(), StoreError>;

    /// The roll and the store's version, at one moment that is not before the call.
    async fn roll(&self) -> Result<Roll, StoreError>;

    /// Puts those of the replicas that are on the roll under suspicion: for good, so that none of them
    /// ever gets another lease. Durable when it returns.
    async fn suspect(&self, replicas: &[ReplicaId]) -> Result<(), StoreError>;

    /// Calls `wake` whenever something may have been written, by whomever, until it is dropped. May be
    /// late, may call without a reason, and may miss any number of writes: it only saves time.
    async fn watch(&self, wake: &(dyn Fn() + Send + Sync));
}

/// The name under which a replica is on the roll. Random, so that no two are the same; one that was
/// suspected takes another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId([u8; 16]);

impl ReplicaId {
    /// The replica of these sixteen random bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes, for a store to keep.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// Thirty-two hexadecimal digits.
impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReplicaId({self})")
    }
}

/// The replicas that may answer from memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a store builds it from its rows")]
pub struct Roll {
    /// The store's version.
    pub version: Version,
    /// In any order.
    pub replicas: Vec<Enrolled>,
}

/// One replica on the roll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a store builds it from its row")]
pub struct Enrolled {
    /// Which.
    pub id: ReplicaId,
    /// The version up to which it answers nothing from before.
    pub applied: Version,
    /// Whether it is suspected to be gone: then it gets no lease.
    pub is_suspected: bool,
}

/// What the writes of one process that wait at once see of the roll, so that they ask once for all of them.
/// Every [`SharedRegistry`] has one for [`settle`].
#[derive(Debug, Default)]
pub struct Looks(Turns<Result<Roll, StoreError>>);

/// Waits until no replica answers from before the call: each has said that it has applied everything,
/// or has been silent for longer than it may answer from memory. This is what
/// [`KeyRegistry::settle`] of every [`SharedRegistry`] does.
///
/// Cannot fail, because it does not need the answers: after [`LEASE`] all that were not asked for since
/// the call have run out, wherever the replicas and the store are by then. A tenth more may be spent on
/// taking replicas that are gone off the roll.
pub async fn settle<S: SharedRegistry + ?Sized>(store: &S, looks: &Looks) {
    let began = now();
    // Whatever hangs, hangs no longer.
    let _ = tokio::time::timeout_at(began + LEASE + 2 * SLACK, look(store, looks, began)).await;
}

async fn look<S: SharedRegistry + ?Sized>(store: &S, looks: &Looks, began: Instant) {
    let mut settling = None;
    let mut pause = Duration::from_millis(1);
    loop {
        let roll = looks.0.ask(store.roll()).await;
        let elapsed = now() - began;
        let step = match &roll {
            Ok(roll) => {
                settling.get_or_insert_with(|| Settling::begin(roll, elapsed)).step(roll, elapsed)
            }
            Err(_) if elapsed < LEASE => Step::Wait,
            Err(_) => Step::Over(Vec::new()),
        };
        // Housekeeping may fail: the next write does it again.
        match step {
            Step::Over(gone) => {
                if !gone.is_empty() {
                    let _ = store.withdraw(&gone).await;
                }
                return;
            }
            Step::Suspect(silent) => {
                let _ = store.suspect(&silent).await;
            }
            Step::Wait => {}
        }
        // The last look is when all that are behind have run out.
        let left = LEASE.saturating_sub(elapsed).max(Duration::from_millis(1));
        tokio::time::sleep(pause.min(left)).await;
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

fn now() -> Instant {
    deadline(Duration::ZERO)
}

/// How a write waits for the replicas, without the waiting.
pub(super) struct Settling {
    /// What all must have applied.
    version: Version,
    /// Who was on the roll when it was first seen, and when that was.
    first: Vec<Enrolled>,
    seen: Duration,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Look again in a moment.
    Wait,
    /// These have been silent for long enough to be suspected.
    Suspect(Vec<ReplicaId>),
    /// Nobody answers from before. These are gone.
    Over(Vec<ReplicaId>),
}

impl Settling {
    /// Begins with the roll as it is so long after what was written was there for all to see.
    pub(super) fn begin(roll: &Roll, elapsed: Duration) -> Self {
        Self { version: roll.version, first: roll.replicas.clone(), seen: elapsed }
    }

    /// What to do when the roll is this, so long after the beginning.
    pub(super) fn step(&self, roll: &Roll, elapsed: Duration) -> Step {
        let behind = || roll.replicas.iter().filter(|replica| replica.applied < self.version);
        if behind().next().is_none() {
            return Step::Over(Vec::new());
        }
        if elapsed >= LEASE {
            return self.end(roll, elapsed);
        }
        // One that has applied something meanwhile, or has come, is not silent.
        let silent =
            behind().filter(|replica| !replica.is_suspected && self.first.contains(replica));
        let silent: Vec<_> = silent.map(|replica| replica.id).collect();
        if elapsed >= SUSPECT_AFTER && !silent.is_empty() {
            return Step::Suspect(silent);
        }
        Step::Wait
    }

    /// All that are behind have run out. Who was a suspect for a whole lease is gone; for that, a moment
    /// is waited.
    fn end(&self, roll: &Roll, elapsed: Duration) -> Step {
        let is_known = |id| self.first.iter().any(|one| one.id == id && one.is_suspected);
        let known = roll.replicas.iter().map(|one| one.id).filter(|&id| is_known(id)).collect();
        if elapsed >= self.seen + LEASE {
            return Step::Over(known);
        }
        if self.seen <= SLACK && !known.is_empty() { Step::Wait } else { Step::Over(Vec::new()) }
    }
}

#[cfg(test)]
mod tests;

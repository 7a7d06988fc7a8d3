//! Until when this replica may answer from memory. Knows no store.

use std::time::Duration;

use super::sync::{AtomicU64, Ordering};

/// The right to answer from memory.
///
/// Whoever finds it covers a moment sees everything that was dropped from memory before it was last
/// extended.
pub(super) struct Lease(AtomicU64);

impl Lease {
    /// For ever: nobody else writes.
    pub(super) fn endless() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }

    /// Not yet.
    pub(super) fn none() -> Self {
        Self(AtomicU64::new(0))
    }

    pub(super) fn covers(&self, now: Duration) -> bool {
        now < self.end()
    }

    /// When it ends, or has ended.
    pub(super) fn end(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Acquire))
    }

    /// Ends it now. Whoever extends it again must not have been about to do so.
    pub(super) fn give_up(&self, now: Duration) {
        self.0.fetch_min(nanoseconds(now), Ordering::Release);
    }

    /// Only after what had changed was dropped. Never makes it shorter.
    pub(super) fn extend(&self, end: Duration) {
        self.0.fetch_max(nanoseconds(end), Ordering::Release);
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

//! How often a record was used since somebody last asked. Knows no store and no time.

use std::sync::atomic::{AtomicU64, Ordering};

/// A count that lives beside the record in memory, and is no part of it: a copy begins at none.
///
/// Here, because the request that counts holds the record already, and has just written to this very
/// place to hold it: finding a count anywhere else costs as much as finding the record did.
#[derive(Debug, Default)]
pub(crate) struct Tally(AtomicU64);

impl Tally {
    /// Counts one use, and says whether it is the first.
    pub(crate) fn count(&self) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed) == 0
    }

    /// The uses so far, which begin at none again.
    pub(crate) fn take(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

impl Clone for Tally {
    fn clone(&self) -> Self {
        Self::default()
    }
}

//! How much the cache keeps, and for how long.

use std::time::Duration;

/// How much a [`CachedStore`](crate::CachedStore) keeps, and for how long. All of it can be changed:
///
/// ```
/// use std::time::Duration;
/// use tower_api_key::CacheSettings;
///
/// let mut settings = CacheSettings::default();
/// settings.max_age = Duration::from_secs(5);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheSettings {
    /// How many live records are kept; 100,000 unless set. The least used give way. Counted in parts,
    /// so that some records more or less than this may be what fits. Each takes about 60 bytes beside
    /// the record itself. 0 keeps none.
    pub max_live: usize,
    /// How long a live record or a tombstone is answered from memory, counted from before the store
    /// was asked for it; 30 seconds unless set. This is also how long what is written past every cache,
    /// or by another process beside [`alone`](crate::CachedStore::alone), may go unseen.
    pub max_age: Duration,
    /// How many fingerprints are kept that have no live record, unknown and ended ones together;
    /// 10,000 unless set. 0 keeps none. They have a space of their own: however many unknown keys are
    /// tried, no live record gives way to them.
    pub max_absent: usize,
    /// How long an unknown fingerprint is answered from memory, counted from before the store was
    /// asked for it; 1 second unless set. So long, too, may a key that was made past every cache be
    /// refused.
    pub unknown_max_age: Duration,
    /// How old a read may be for another request to wait for its answer; 500 milliseconds unless set.
    /// After that, the next request asks the store anew: one read that is stuck must not hold up those
    /// that come when the store is well again.
    pub join_within: Duration,
    /// For how long after its lease has ended a replica answers from memory when the store cannot be
    /// asked; 0 unless set.
    ///
    /// **Insecure**: a key that was deleted meanwhile through another replica is accepted here for so
    /// long. What this replica knows to be deleted is refused all the same.
    pub insecure_stale_for: Duration,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            max_live: 100_000,
            max_age: Duration::from_secs(30),
            max_absent: 10_000,
            unknown_max_age: Duration::from_secs(1),
            join_within: Duration::from_millis(500),
            insecure_stale_for: Duration::ZERO,
        }
    }
}

//! What the store has said, for as long as it may be repeated. Knows no store and no reads.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use quick_cache::UnitWeighter;
use quick_cache::sync::{Cache, DefaultLifecycle};

use super::CacheSettings;
use crate::digest::Fingerprint;
use crate::record::{KeyRecord, Tombstone};
use crate::store::uniform::BuildUniform;
use crate::store::{Entry, Found};

/// Two spaces, so that strangers, who can fill the one, push nothing out of the other.
pub(super) struct Entries {
    /// Only keys that this service made or its operator imported get in here: no stranger chooses what
    /// collides, and a fingerprint is its own hash. (`quick_cache` takes the shard from the middle of it, the bucket
    /// from the low end and the tag from the high end: of a SHA-256, these are independent.)
    live: Space<Arc<KeyRecord>, BuildUniform>,
    /// What strangers ask for gets in here. They cannot choose a SHA-256, but they can try keys until
    /// 10,000 of them share a bucket, once for all services; hence a hash that nobody can foresee.
    absent: Space<Option<Arc<Tombstone>>, RandomState>,
    max_age: Duration,
    unknown_max_age: Duration,
}

type Space<T, H> =
    Cache<Fingerprint, Cached<T>, UnitWeighter, H, DefaultLifecycle<Fingerprint, Cached<T>>>;

#[derive(Clone)]
struct Cached<T> {
    what: T,
    /// The first moment at which it is too old.
    stale_at: Duration,
}

impl Entries {
    pub(super) fn new(settings: &CacheSettings) -> Self {
        Self {
            live: space(settings.max_live),
            absent: space(settings.max_absent),
            max_age: settings.max_age,
            unknown_max_age: settings.unknown_max_age,
        }
    }

    /// What the store said, if that is known and not too old.
    pub(super) fn get(&self, fingerprint: Fingerprint, now: Duration) -> Option<Found> {
        if let Some(cached) = self.live.get(&fingerprint)
            && now < cached.stale_at
        {
            return Some(Ok(Some(Entry::Live(cached.what))));
        }
        let cached = self.absent.get(&fingerprint)?;
        (now < cached.stale_at).then(|| Ok(cached.what.map(Entry::Ended)))
    }

    /// Keeps what a read found that began at `began`.
    pub(super) fn put(&self, fingerprint: Fingerprint, found: Option<Entry>, began: Duration) {
        let (live, absent, max_age) = match found {
            Some(Entry::Live(record)) => (Some(record), None, self.max_age),
            Some(Entry::Ended(tombstone)) => (None, Some(Some(tombstone)), self.max_age),
            None => (None, Some(None), self.unknown_max_age),
        };
        let stale_at = began.saturating_add(max_age);
        set(&self.live, fingerprint, live, stale_at);
        set(&self.absent, fingerprint, absent, stale_at);
    }

    pub(super) fn is_live(&self, fingerprint: Fingerprint) -> bool {
        self.live.contains_key(&fingerprint)
    }

    pub(super) fn forget(&self, fingerprint: Fingerprint) {
        self.live.remove(&fingerprint);
        self.absent.remove(&fingerprint);
    }

    /// Forgets what is not filed at all. Tombstones stay.
    pub(super) fn forget_absences(&self) {
        self.absent.retain(|_, cached| cached.what.is_some());
    }

    pub(super) fn forget_all(&self) {
        self.live.clear();
        self.absent.clear();
    }
}

fn space<T: Clone, H: BuildHasher + Clone + Default>(capacity: usize) -> Space<T, H> {
    Cache::with(
        capacity,
        u64::try_from(capacity).unwrap_or(u64::MAX),
        UnitWeighter,
        H::default(),
        DefaultLifecycle::default(),
    )
}

/// A fingerprint is in one space at most.
fn set<T: Clone, H: BuildHasher + Clone>(
    space: &Space<T, H>,
    fingerprint: Fingerprint,
    what: Option<T>,
    stale_at: Duration,
) {
    match what {
        Some(what) => space.insert(fingerprint, Cached { what, stale_at }),
        None => drop(space.remove(&fingerprint)),
    }
}

//! From fingerprints to what is filed under them, for many readers.
//!
//! One map under one lock would make every request touch the lock's cache line; one map behind an
//! atomic pointer would be copied whole at every write. So: 64 maps, each under a lock of its own.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use crate::digest::Fingerprint;
use crate::store::Entry;
use crate::store::uniform::BuildUniform;

const SHARDS: usize = 64;

/// Only keys that this service made or its operator imported are in it: no stranger chooses what collides.
type Map = HashMap<Fingerprint, Entry, BuildUniform>;

pub(super) struct Index(Box<[RwLock<Map>]>);

impl Index {
    pub(super) fn get(&self, fingerprint: Fingerprint) -> Option<Entry> {
        // One insertion is the only change, and it leaves a whole map whatever panicked elsewhere.
        let shard = self.shard(fingerprint).read().unwrap_or_else(PoisonError::into_inner);
        shard.get(&fingerprint).cloned()
    }

    pub(super) fn set(&self, fingerprint: Fingerprint, entry: Entry) {
        let mut shard = self.shard(fingerprint).write().unwrap_or_else(PoisonError::into_inner);
        shard.insert(fingerprint, entry);
    }

    /// By a byte from the middle: the maps themselves use both ends.
    fn shard(&self, fingerprint: Fingerprint) -> &RwLock<Map> {
        &self.0[usize::from(fingerprint.as_bytes()[3]) % SHARDS]
    }
}

impl Default for Index {
    fn default() -> Self {
        Self((0..SHARDS).map(|_| RwLock::default()).collect())
    }
}

#[cfg(test)]
mod tests;

//! From fingerprints to what is filed under them, for many readers.
//!
//! One map under one lock would make every request touch the lock's cache line; one map behind an
//! atomic pointer would be copied whole at every write. So: 64 maps, each under a lock of its own.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{PoisonError, RwLock};

use crate::digest::Fingerprint;
use crate::store::Entry;

const SHARDS: usize = 64;

type Map = HashMap<Fingerprint, Entry, BuildHasherDefault<Uniform>>;

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

/// Passes a fingerprint through: it is part of a SHA-256 already, and only keys that this service
/// made are in the maps, so that nobody can choose what collides.
#[derive(Default)]
struct Uniform(u64);

impl Hasher for Uniform {
    fn write_u64(&mut self, fingerprint: u64) {
        self.0 = fingerprint;
    }

    fn write(&mut self, bytes: &[u8]) {
        // Not used by `Fingerprint`; right all the same.
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests;

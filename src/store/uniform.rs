//! A hasher for maps that are indexed by fingerprint and hold only what this service made.

use std::hash::{BuildHasherDefault, Hasher};

pub(super) type BuildUniform = BuildHasherDefault<Uniform>;

/// Passes a fingerprint through: it is part of a SHA-256, so each of its bits is as good as any. Not
/// for a map that strangers' keys get into: they can try texts until the fingerprints collide.
#[derive(Default)]
pub(super) struct Uniform(u64);

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

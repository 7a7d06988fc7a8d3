//! Numbers that nobody could have known beforehand, and that need not be secret.

use std::hash::{BuildHasher as _, RandomState};

/// `SplitMix64`, from a seed that the standard library drew for its maps.
pub struct Chance(u64);

impl Chance {
    pub fn new() -> Self {
        Self(RandomState::new().hash_one(0))
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn coin(&mut self) -> bool {
        self.number() >> 63 == 1
    }

    /// One of a few.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        let count = u64::try_from(of.len()).unwrap();
        &of[usize::try_from(self.number() % count).unwrap()]
    }

    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        for eight in bytes.chunks_mut(8) {
            eight.copy_from_slice(&self.number().to_le_bytes()[..eight.len()]);
        }
        bytes
    }
}

use std::hash::Hash as _;

use super::*;
use crate::digest::Fingerprint;

#[test]
fn a_fingerprint_is_its_own_hash() {
    let mut hasher = Uniform::default();
    let fingerprint = Fingerprint::from_bytes([1, 2, 3, 4, 5, 6, 7, 8]);
    fingerprint.hash(&mut hasher);
    assert_eq!(hasher.finish(), u64::from_ne_bytes(*fingerprint.as_bytes()));
}

#[test]
fn bytes_of_other_lengths_are_hashed_too() {
    let hash = |bytes: &[u8]| {
        let mut hasher = Uniform::default();
        hasher.write(bytes);
        hasher.finish()
    };
    assert_eq!(hash(b"abc"), hash(b"abc"));
    assert_ne!(hash(b"abc"), hash(b"abd"));
    assert_ne!(hash(b"abc"), hash(b"acb"));
}

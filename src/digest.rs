//! The only hashing, and the only comparing of keys. Knows no store and no HTTP.
//!
//! # Why plain SHA-256
//!
//! Slow password hashes exist because people choose guessable passwords. A key of this crate holds
//! 256 random bits: nobody enumerates those, whatever one guess costs, while a slow hash per request
//! would be an attack on the service's own CPU. One pass of SHA-256 is the right tool (OWASP ASVS
//! 5.0, 11.4.1 and 11.4.2 tell these two cases apart).
//!
//! # Why the comparison looks as it does
//!
//! Both digests are read as four 64-bit lanes. Lane by lane they are combined by XOR, and the four
//! results by OR into one word, which is zero exactly when all 256 bits agree. No step branches or indexes by
//! the data, and the single question "is it zero?" is asked through [`subtle`], whose barrier keeps
//! the optimiser from turning the answer back into an early exit. This is what `subtle` does byte by
//! byte, with 1 barrier in place of 32; `cargo bench --bench primitives` prints both.

mod foreign;
pub mod hashing;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::hint::black_box;

pub use self::foreign::ForeignDigest;
pub use self::hashing::{Hashing, Pepper, Scheme};

use sha2::digest::array::Array;
use sha2::digest::block_api::BlockSizeUser;
use sha2::digest::{FixedOutputReset, Output};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;

use crate::key::KeyText;

/// The SHA-256 of a whole key text, or what the service's [`Hashing`] makes of it: all that is ever stored
/// of a key.
///
/// It has no `PartialEq`, `Hash`, `Display` or `Serialize`, and its `Debug` shows nothing: two
/// digests are compared by this crate, in constant time, or not at all.
///
/// ```compile_fail,E0369
/// # fn compare(a: &tower_api_key::KeyDigest, b: &tower_api_key::KeyDigest) -> bool {
/// *a == *b
/// # }
/// ```
#[derive(Clone)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// Hashes a key, as [`Hashing`] does unless told otherwise. One SHA-256 compression for up to 55 bytes, two up to 119.
    #[must_use]
    pub fn of(key: KeyText<'_>) -> Self {
        Self(hashed::<Sha256>(key.as_bytes()).into())
    }

    /// A digest as a store kept it.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The digest's bytes, for a store to keep. Not for logs: print the [`Fingerprint`].
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 8 bytes: what stores index by and what logs may show.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let (eights, _) = self.0.as_chunks::<8>();
        Fingerprint(eights[0])
    }

    /// Whether two digests are equal, in time that does not depend on where they differ.
    pub(crate) fn matches(&self, other: &Self) -> bool {
        let difference =
            self.lanes().zip(other.lanes()).fold(0, |seen, (ours, theirs)| seen | (ours ^ theirs));
        difference.ct_eq(&0).into()
    }

    fn lanes(&self) -> impl Iterator<Item = u64> {
        let (lanes, _) = self.0.as_chunks::<8>();
        lanes.iter().map(|lane| u64::from_ne_bytes(*lane))
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest(…)")
    }
}

/// The public name of a key's text: the first 8 bytes of its digest. Safe to log, to print and to
/// index by; nobody finds a key from it, and it alone never admits one, because the whole digest is
/// compared after the lookup.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fingerprint([u8; 8]);

impl Fingerprint {
    /// A fingerprint as a store kept it.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// Its bytes, for a store to index by.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

/// As one `u64`: it is uniform already, so a hasher that passes it through is a good one.
impl Hash for Fingerprint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from_ne_bytes(self.0));
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(self.0, f)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// The hash of a key's text. Not `Digest::digest`: a hasher that is moved leaves its block, which is the key, in
/// its caller's frame.
fn hashed<H: Digest + FixedOutputReset + BlockSizeUser>(text: &[u8]) -> Output<H> {
    leaving_nothing::<H, _>(|| {
        let mut hasher = H::new();
        Digest::update(&mut hasher, text);
        hasher.finalize_reset()
    })
}

/// Hashes below its own frame, and overwrites what was there: of each block that is hashed, copies are left on
/// the stack, and blocks are made of the key, or of the pepper.
fn leaving_nothing<H: BlockSizeUser, T>(hash: impl FnOnce() -> T) -> T {
    let digest = below(hash);
    overwrite_what_is_below::<H>();
    digest
}

#[inline(never)]
fn below<T>(run: impl FnOnce() -> T) -> T {
    run()
}

/// The room of 24 blocks. On x86-64 SHA-512 takes that of 13, SHA-256 of 9, HMAC with it of 15. Best effort, as
/// everything is that a compiler can leave out: `tests/optimised.sh` looks whether it does.
#[inline(never)]
fn overwrite_what_is_below<H: BlockSizeUser>() {
    black_box(&mut Array::<[u64; 3], H::BlockSize>::default());
}

/// What a client calls itself, told apart from others without keeping its words: the first 8 bytes of
/// the SHA-256 of its `User-Agent`. No secret: whoever guesses the words can tell that it is they.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentHash([u8; 8]);

impl AgentHash {
    /// Hashes a header's value; of one that is longer than 1,024 bytes, so many. Costs one SHA-256
    /// compression for each 64 bytes.
    #[must_use]
    pub fn of(agent: &[u8]) -> Self {
        let digest: [u8; 32] = Sha256::digest(&agent[..agent.len().min(1024)]).into();
        let (eights, _) = digest.as_chunks::<8>();
        Self(eights[0])
    }

    /// A hash as a store kept it.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// Its bytes, for a store to keep.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Display for AgentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(self.0, f)
    }
}

impl fmt::Debug for AgentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AgentHash({self})")
    }
}

/// Sixteen hexadecimal digits.
fn print(bytes: [u8; 8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut text = [0; 16];
    hex::encode_to_slice(bytes, &mut text).map_err(|_| fmt::Error)?;
    f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
}

/// A number that two texts have together, and no two others: half of a SHA-256. Each text is told from
/// the next by its length.
pub(crate) fn name_of(texts: [&str; 2]) -> u128 {
    let mut hasher = Sha256::new();
    for text in texts {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text);
    }
    let digest: [u8; 32] = hasher.finalize().into();
    let (halves, _) = digest.as_chunks::<16>();
    u128::from_le_bytes(halves[0])
}

#[cfg(test)]
mod tests;

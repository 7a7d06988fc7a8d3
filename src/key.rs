//! The text of a key: its grammar, its checksum, its redaction. Knows no HTTP and no hashing.
//!
//! A key made by this crate reads
//!
//! ```text
//! acme_live_Zk3…(43 base62 digits)…0aXf81Q
//! └┬─┘ └┬─┘ └──────────┬──────────┘└─┬──┘
//! prefix │      256 random bits    CRC-32 of all before it, in 6 base62 digits
//!   environment (optional)
//! ```
//!
//! and is found by a secret scanner with ([`KeyPrefix::scanner_pattern`], for the prefix `acme`)
//!
//! ```text
//! \bacme_(?:[a-z0-9]{1,16}_)?[0-9A-Za-z]{49}\b
//! ```
//!
//! The checksum is no secret and no protection: it lets a scanner drop false positives and lets the
//! layer refuse a mistyped key without asking the store.

use std::fmt;

use zeroize::Zeroizing;

use crate::record::{Environment, Hint, InvalidText, KeyPrefix};

/// The longest key text that is looked at, in bytes. Longer ones are never hashed themselves, so that a
/// large header cannot be used to burn CPU.
pub const MAX_KEY_LENGTH: usize = 256;

/// Random base62 digits in a key: 62^43 > 2^256.
pub(crate) const RANDOM_DIGITS: usize = 43;

/// Base62 digits of the checksum: 62^6 > 2^32.
const CHECKSUM_DIGITS: usize = 6;

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

impl KeyPrefix {
    /// The expression that finds keys of this prefix, for secret scanners. Most of what it finds elsewhere has
    /// no [good checksum](KeyText::has_checksum).
    ///
    /// In the syntax that PCRE, RE2, Hyperscan, Go and Rust have in common.
    #[must_use]
    pub fn scanner_pattern(&self) -> String {
        const DIGITS: usize = RANDOM_DIGITS + CHECKSUM_DIGITS;
        // A prefix is letters and digits: nothing in it means anything to an expression.
        format!(r"\b{self}_(?:[a-z0-9]{{1,16}}_)?[0-9A-Za-z]{{{DIGITS}}}\b")
    }
}

/// A whole secret key. It cannot be printed, compared, hashed, cloned or serialised, and its memory
/// is wiped when it is dropped; [`reveal`](Self::reveal) gives the text away, once.
///
/// ```compile_fail,E0382
/// # fn once(key: tower_api_key::ApiKey) {
/// let shown = key.reveal();
/// let again = key.reveal(); // moved: a key is shown once
/// # }
/// ```
pub struct ApiKey(Zeroizing<String>);

impl ApiKey {
    /// Puts a key together from its random part, which has [`RANDOM_DIGITS`] base62 digits.
    pub(crate) fn assemble(
        prefix: &KeyPrefix,
        environment: Option<&Environment>,
        random: &str,
    ) -> Self {
        // The whole length at once: a string that grows leaves copies of the secret behind.
        let mut text = Zeroizing::new(String::with_capacity(MAX_KEY_LENGTH));
        text.push_str(prefix.as_str());
        text.push('_');
        if let Some(environment) = environment {
            text.push_str(environment.as_str());
            text.push('_');
        }
        text.push_str(random);
        let checksum = checksum(text.as_bytes());
        text.extend(checksum.iter().map(|&digit| char::from(digit)));
        Self(text)
    }

    /// Gives the text away, for the one moment at which it is shown to its owner.
    #[must_use = "the key can be revealed only once: show it to its owner"]
    pub fn reveal(self) -> RevealedKey {
        RevealedKey(self.0)
    }

    /// Enough to recognise the key in a list, and no more: what comes before the random part, and
    /// the last four characters, which belong to the checksum.
    pub(crate) fn hint(&self) -> Hint {
        let head = self.0.rfind('_').map_or(0, |at| at + 1);
        let tail = self.0.len().saturating_sub(4).max(head);
        Hint::of(&self.0[..head], &self.0[tail..])
    }

    /// The text, for hashing.
    pub(crate) fn text(&self) -> KeyText<'_> {
        KeyText(self.0.as_bytes())
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// The text of a key that has just been made, to be shown to its owner and forgotten. Wiped when
/// dropped. It has no `Display` and its `Debug` is empty of content: [`as_str`](Self::as_str) is
/// the one way to the text.
pub struct RevealedKey(Zeroizing<String>);

impl RevealedKey {
    /// The text of the key. Show it; do not log it or store it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RevealedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RevealedKey(…)")
    }
}

/// A key as a client sent it: 1 to [`MAX_KEY_LENGTH`] visible ASCII characters, borrowed, never
/// copied. What may be hashed, and nothing else may.
#[derive(Clone, Copy)]
pub struct KeyText<'a>(&'a [u8]);

impl KeyText<'_> {
    /// Something to hash where there is no key, as long as a key that names its environment.
    pub(crate) const STAND_IN: &'static [u8] = &[b'x'; 59];
}

impl<'a> KeyText<'a> {
    /// Takes the bytes as they are: nothing is trimmed, folded or decoded.
    ///
    /// # Errors
    ///
    /// When they are empty, longer than [`MAX_KEY_LENGTH`], or hold anything but `0x21..=0x7e`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, InvalidText> {
        if bytes.is_empty() {
            return Err(InvalidText::empty("API key"));
        }
        if bytes.len() > MAX_KEY_LENGTH {
            return Err(InvalidText::too_long("API key", MAX_KEY_LENGTH));
        }
        if !is_visible_ascii(bytes) {
            return Err(InvalidText::characters("API key", "visible ASCII only"));
        }
        Ok(Self(bytes))
    }

    pub(crate) fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// Whether the last characters are the checksum of the others, as in every key that this crate makes.
    /// What a secret scanner has found and has none is no key.
    #[must_use]
    pub fn has_checksum(self) -> bool {
        let Some(split) = self.0.len().checked_sub(CHECKSUM_DIGITS) else {
            return false;
        };
        let (body, presented) = self.0.split_at(split);
        read_base62(presented) == Some(crc32fast::hash(body).into())
    }
}

impl fmt::Debug for KeyText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyText(…)")
    }
}

/// Which key texts the layer looks up at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyFormat {
    /// Keys that end in the checksum that this crate puts there, of any prefix. A typo is refused
    /// without a lookup, and so are 4,294,967,295 in 4,294,967,296 keys of other systems.
    #[default]
    Checked,
    /// Any text of visible ASCII, for a service that [imported](crate::KeyManager::import) keys of another
    /// system. Those must be random, of 128 bits at the least: SHA-256 does not protect what people thought
    /// up.
    Any,
}

impl KeyFormat {
    pub(crate) fn admits(self, key: KeyText<'_>) -> bool {
        match self {
            Self::Checked => key.has_checksum(),
            Self::Any => true,
        }
    }
}

/// In blocks of 16, the last one filled up: each is a few vector instructions, where a loop that
/// stops at the first wrong byte takes 35 ns for a good key.
fn is_visible_ascii(bytes: &[u8]) -> bool {
    let (blocks, rest) = bytes.as_chunks::<16>();
    let mut last = [b'x'; 16];
    last[..rest.len()].copy_from_slice(rest);
    let is_wrong = |byte: &u8| u8::from(!byte.is_ascii_graphic());
    let wrong = |block: &[u8; 16]| block.iter().fold(0, |seen, byte| seen | is_wrong(byte));
    blocks.iter().fold(wrong(&last), |seen, block| seen | wrong(block)) == 0
}

/// CRC-32 (ISO-HDLC) in base62, most significant digit first.
fn checksum(body: &[u8]) -> [u8; CHECKSUM_DIGITS] {
    let mut rest = crc32fast::hash(body);
    let mut digits = [b'0'; CHECKSUM_DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[(rest % 62) as usize];
        rest /= 62;
    }
    digits
}

/// The number that base62 digits write, `None` for any other text. Reading six digits takes a third
/// of the time of writing them, and this is on the path of every request.
///
/// Without a table and without a way out in the middle: the text is a key.
fn read_base62(digits: &[u8]) -> Option<u64> {
    let read = |(number, are_digits), &digit| {
        let (value, is_digit) = base62_value(digit);
        (number * 62 + u64::from(value), are_digits & is_digit)
    };
    let (number, are_digits) = digits.iter().fold((0, true), read);
    are_digits.then_some(number)
}

/// What a byte is worth as a base62 digit, and whether it is one.
fn base62_value(byte: u8) -> (u8, bool) {
    // All ones where it is, and nothing where not.
    let is_from = |first: u8, count: u8| u8::from(byte.wrapping_sub(first) < count).wrapping_neg();
    let (digit, upper, lower) = (is_from(b'0', 10), is_from(b'A', 26), is_from(b'a', 26));
    let value = digit & byte.wrapping_sub(b'0')
        | upper & byte.wrapping_sub(b'A').wrapping_add(10)
        | lower & byte.wrapping_sub(b'a').wrapping_add(36);
    (value, (digit | upper | lower) != 0)
}

#[cfg(test)]
mod tests;

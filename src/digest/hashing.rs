//! How the digests of keys are made, and which other digests of a key still count. Knows no store.
//!
//! # When plain SHA-256 is enough
//!
//! Always, for keys of this crate: they hold 256 random bits, so who has read the store finds none of them,
//! with or without a pepper. A [`Pepper`] helps where this is not so: for imported keys of fewer bits, which
//! can be guessed from what the store holds; and against somebody who can *write* to the store, who without
//! the pepper cannot file a key of their own.
//!
//! The price: **whoever loses the pepper has lost all keys.** Nothing in the store brings them back. Keep it
//! where the service's other secrets are, and not in the store's backups.
//!
//! # Tell everybody the same
//!
//! The layer and the manager must be told the same [`Hashing`], in every process. What one files, the other
//! looks for: a manager with a pepper makes keys that a layer without it refuses as unknown. The other way round
//! is quiet: a layer that accepts [`Scheme::sha256`] beside its pepper takes the keys of a manager (or of a
//! `tower-api-key create`) that was not told of the pepper, whose digests then lack it until they are upgraded.
//!
//! ```
//! use tower_api_key::{ApiKeyLayer, Hashing, KeyManager, MemoryStore, Pepper, Scheme, Upgrades};
//!
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let from_the_vault = || b"32 bytes from the vault, at least".to_vec();
//! let pepper = Pepper::new(from_the_vault())?;
//! // New digests are made with the pepper; keys from before it go on working.
//! let hashing = Hashing::peppered(pepper).accepting(Scheme::sha256());
//!
//! let store = MemoryStore::new();
//! let manager = KeyManager::new(store.clone(), "acme".parse()?).with_hashing(hashing.clone());
//! let layer = ApiKeyLayer::new(store.clone())
//!     .with_hashing(hashing)
//!     // Each of those keys gets a digest with the pepper when it is used.
//!     .with_upgrades(&Upgrades::to(store));
//! # let _ = (manager, layer);
//! # Ok(()) }
//! ```
//!
//! # To change a pepper
//!
//! 1. Tell every process to [accept](Hashing::accepting) the new one beside what it has.
//! 2. When all do, make the new one the current one, and accept the old one.
//! 3. Let keys be [upgraded](crate::Upgrades) as they are used. A key that nobody uses stays as it is.
//! 4. Accept the old one no more. Keys that were not used since are then unknown: regenerate them.
//!
//! A process that leaves out the first step answers 503 for keys that another one has upgraded already.
//! Accept what is old for as long as it is needed and no longer: each older scheme is one more lookup for
//! every key that is not found, and what needs no pepper can be filed without one.

use std::fmt;
use std::sync::Arc;

use hmac::{HmacReset, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::foreign::{self, ForeignDigest};
use super::{KeyDigest, leaving_nothing};
use crate::key::KeyText;
use crate::record::InvalidText;

/// How digests are made, and which others still count; by default SHA-256, and none. Clones share it.
///
/// See the [module](self) for what it is for, and for how to change it.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Hashing {
    pepper: Option<Pepper>,
    older: Arc<[Scheme]>,
}

impl Hashing {
    /// HMAC-SHA-256 of the whole text with a pepper: four SHA-256 compressions for a key of this crate, in
    /// place of one.
    pub fn peppered(pepper: Pepper) -> Self {
        Self { pepper: Some(pepper), older: Arc::default() }
    }

    /// Accepts keys with digests of another scheme, too. They are looked for where nothing is found under
    /// today's digest, in the order in which they are named here.
    pub fn accepting(mut self, scheme: Scheme) -> Self {
        self.older = self.older.iter().cloned().chain([scheme]).collect();
        self
    }

    /// The digest under which a key is filed today.
    #[must_use]
    pub fn digest(&self, key: KeyText<'_>) -> KeyDigest {
        #[cfg(test)]
        tests::MADE.set(tests::MADE.get() + 1);
        match &self.pepper {
            None => KeyDigest::of(key),
            Some(pepper) => pepper.digest(key),
        }
    }

    /// The digests under which the key may have been filed before, in order.
    #[inline]
    pub(crate) fn older(&self, key: KeyText<'_>) -> Vec<KeyDigest> {
        if self.older.is_empty() {
            return Vec::new();
        }
        self.older.iter().filter_map(|scheme| scheme.digest(key)).collect()
    }

    /// Whether a key with this digest would be found.
    pub(crate) fn finds(&self, foreign: &ForeignDigest) -> bool {
        let is_plain = self.pepper.is_none() && foreign.form == foreign::Form::Sha256;
        is_plain || self.older.iter().any(|scheme| scheme.form() == Some(foreign.form))
    }
}

/// A way in which digests of keys were made, here or in another system.
#[derive(Clone)]
pub struct Scheme(Kind);

#[derive(Clone)]
enum Kind {
    Sha256,
    Peppered(Pepper),
    Sha512,
    Sanctum,
    PrefixedApiKey(Arc<str>),
}

impl Scheme {
    /// SHA-256 of the whole text: keys from before there was a pepper.
    #[must_use]
    pub fn sha256() -> Self {
        Self(Kind::Sha256)
    }

    /// HMAC-SHA-256 of the whole text with this pepper: one that is retired, or about to be used.
    #[must_use]
    pub fn peppered(pepper: Pepper) -> Self {
        Self(Kind::Peppered(pepper))
    }

    /// SHA-512 of the whole text, as `djangorestframework-api-key` 3 keeps it.
    #[must_use]
    pub fn sha512() -> Self {
        Self(Kind::Sha512)
    }

    /// Laravel Sanctum's: of the text `{id}|{secret}`, the SHA-256 of the secret in the row of that id. A
    /// secret that is sent without its id is not found.
    #[must_use]
    pub fn sanctum() -> Self {
        Self(Kind::Sanctum)
    }

    /// Seam's `prefixed-api-key`: of the text `{prefix}_{short token}_{long token}`, the short token and the
    /// SHA-256 of the long one. Texts with another prefix are none of it.
    ///
    /// # Errors
    ///
    /// When the prefix is empty, is longer than 64 characters or has other than visible ASCII.
    pub fn prefixed_api_key(prefix: &str) -> Result<Self, InvalidText> {
        foreign::check("prefix", prefix)?;
        Ok(Self(Kind::PrefixedApiKey(prefix.into())))
    }

    /// The digest of a text by this scheme, if it has the scheme's form.
    fn digest(&self, key: KeyText<'_>) -> Option<KeyDigest> {
        match &self.0 {
            Kind::Sha256 => Some(KeyDigest::of(key)),
            Kind::Peppered(pepper) => Some(pepper.digest(key)),
            Kind::Sha512 => Some(foreign::of_sha512(key)),
            Kind::Sanctum => foreign::of_sanctum(key),
            Kind::PrefixedApiKey(prefix) => foreign::of_prefixed_api_key(prefix, key),
        }
    }

    /// What is imported for this scheme.
    fn form(&self) -> Option<foreign::Form> {
        match &self.0 {
            Kind::Sha256 => Some(foreign::Form::Sha256),
            Kind::Peppered(_) => None,
            Kind::Sha512 => Some(foreign::Form::Sha512),
            Kind::Sanctum => Some(foreign::Form::Sanctum),
            Kind::PrefixedApiKey(_) => Some(foreign::Form::PrefixedApiKey),
        }
    }
}

impl fmt::Debug for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Kind::Sha256 => "Scheme(SHA-256)",
            Kind::Peppered(_) => "Scheme(HMAC-SHA-256 with a pepper)",
            Kind::Sha512 => "Scheme(SHA-512)",
            Kind::Sanctum => "Scheme(Sanctum)",
            Kind::PrefixedApiKey(_) => "Scheme(prefixed-api-key)",
        })
    }
}

/// A secret of the service's, that goes into every digest and is kept outside of the store. Clones share
/// it; it is wiped with the last one, and never printed.
#[derive(Clone)]
pub struct Pepper(Arc<Zeroizing<Vec<u8>>>);

impl Pepper {
    /// The fewest bytes that a pepper may have.
    pub const LEAST: usize = 32;

    /// Takes random bytes, as of `openssl rand 32`, and wipes them when it is dropped.
    ///
    /// # Errors
    ///
    /// When there are fewer than [`LEAST`](Self::LEAST).
    pub fn new(bytes: Vec<u8>) -> Result<Self, InvalidText> {
        let bytes = Zeroizing::new(bytes);
        if bytes.len() < Self::LEAST {
            return Err(InvalidText::characters("pepper", "at least 32 bytes"));
        }
        Ok(Self(Arc::new(bytes)))
    }

    fn digest(&self, key: KeyText<'_>) -> KeyDigest {
        leaving_nothing::<Sha256, _>(|| {
            #[allow(clippy::expect_used, reason = "HMAC takes a key of any length (RFC 2104 § 3)")]
            let mut keyed =
                HmacReset::<Sha256>::new_from_slice(&self.0).expect("HMAC takes any key");
            // By reference, as in `hashed`.
            keyed.update(key.as_bytes());
            KeyDigest(keyed.finalize_reset().into_bytes().into())
        })
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper(…)")
    }
}

#[cfg(test)]
pub(crate) mod tests;

//! Digests of other systems. Each is wrapped into one of ours, which can be made of what such a system
//! keeps, when its keys are imported, and of a key's text, when it is presented.
//!
//! A wrapped digest is the SHA-256 of the scheme's name and of all that the system keeps, each part after
//! its length. What selects a row there (an id, a short token) is a part, so that it counts as much as the
//! secret. No text of a key has the same SHA-256: the lengths hold bytes that no text may have.

use sha2::{Digest as _, Sha256, Sha512};

use super::{KeyDigest, hashed};
use crate::key::KeyText;
use crate::record::InvalidText;

/// What another system keeps of a key, to be [imported](crate::KeyManager::import).
///
/// ```
/// use tower_api_key::ForeignDigest;
///
/// // Of a row of Laravel's `personal_access_tokens`: its id, and what its column `token` has in hex.
/// let token = [0x5a; 32];
/// let digest = ForeignDigest::sanctum("17", token)?;
/// # let _ = digest;
/// # Ok::<_, tower_api_key::InvalidText>(())
/// ```
#[derive(Clone, Debug)]
pub struct ForeignDigest {
    pub(super) form: Form,
    digest: KeyDigest,
    selector: Option<Box<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Sha256,
    Sha512,
    Sanctum,
    PrefixedApiKey,
}

impl ForeignDigest {
    /// The SHA-256 of the whole text.
    #[must_use]
    pub fn sha256(digest: [u8; 32]) -> Self {
        Self { form: Form::Sha256, digest: KeyDigest(digest), selector: None }
    }

    /// The SHA-512 of the whole text: what stands in hex after `sha512$$` in the column `hashed_key` of
    /// `djangorestframework-api-key` 3. What earlier versions have there, `pbkdf2_sha256$…`, cannot be
    /// imported: nothing fast can be made of both that and a text.
    #[must_use]
    pub fn sha512(digest: [u8; 64]) -> Self {
        Self { form: Form::Sha512, digest: wrapped("sha512", &[&digest]), selector: None }
    }

    /// Laravel Sanctum: the row's id, which stands before the `|` of the text, and its column `token`, the
    /// SHA-256 of what stands after it.
    ///
    /// # Errors
    ///
    /// When the id is empty, is longer than 64 characters, or has other than visible ASCII or a `|`.
    pub fn sanctum(id: &str, token: [u8; 32]) -> Result<Self, InvalidText> {
        check("id", id)?;
        if id.contains('|') {
            return Err(InvalidText::characters("id", "no '|'"));
        }
        let digest = wrapped("sanctum", &[id.as_bytes(), &token]);
        Ok(Self { form: Form::Sanctum, digest, selector: Some(format!("{id}|").into()) })
    }

    /// Seam's `prefixed-api-key`: the short token, and the SHA-256 of the long one.
    ///
    /// # Errors
    ///
    /// When the short token is empty, is longer than 64 characters, or has other than visible ASCII or a
    /// `_`.
    pub fn prefixed_api_key(short_token: &str, long_token: [u8; 32]) -> Result<Self, InvalidText> {
        check("short token", short_token)?;
        if short_token.contains('_') {
            return Err(InvalidText::characters("short token", "no '_'"));
        }
        let digest = wrapped("prefixed-api-key", &[short_token.as_bytes(), &long_token]);
        let selector = Some(format!("{short_token}_").into());
        Ok(Self { form: Form::PrefixedApiKey, digest, selector })
    }

    /// The digest under which the key is filed until it is [upgraded](crate::Upgrades).
    #[must_use]
    pub fn digest(&self) -> &KeyDigest {
        &self.digest
    }

    /// What is public of the text, if anything is.
    pub(crate) fn selector(&self) -> Option<&str> {
        self.selector.as_deref()
    }
}

/// What a selector or a prefix may be.
pub(super) fn check(what: &'static str, text: &str) -> Result<(), InvalidText> {
    match text.len() {
        0 => Err(InvalidText::empty(what)),
        65.. => Err(InvalidText::too_long(what, 64)),
        _ if !text.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Err(InvalidText::characters(what, "visible ASCII only"))
        }
        _ => Ok(()),
    }
}

pub(super) fn of_sha512(key: KeyText<'_>) -> KeyDigest {
    ForeignDigest::sha512(hashed::<Sha512>(key.as_bytes()).into()).digest
}

pub(super) fn of_sanctum(key: KeyText<'_>) -> Option<KeyDigest> {
    let (id, secret) = text(key)?.split_once('|')?;
    let token = hashed::<Sha256>(nothing_empty(secret)?.as_bytes()).into();
    Some(ForeignDigest::sanctum(id, token).ok()?.digest)
}

pub(super) fn of_prefixed_api_key(prefix: &str, key: KeyText<'_>) -> Option<KeyDigest> {
    let tokens = text(key)?.strip_prefix(prefix)?.strip_prefix('_')?;
    let (short, long) = tokens.split_once('_')?;
    let long = nothing_empty(long).filter(|long| !long.contains('_'))?;
    let long = hashed::<Sha256>(long.as_bytes()).into();
    Some(ForeignDigest::prefixed_api_key(short, long).ok()?.digest)
}

fn text(key: KeyText<'_>) -> Option<&str> {
    str::from_utf8(key.as_bytes()).ok()
}

fn nothing_empty(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

fn wrapped(scheme: &str, parts: &[&[u8]]) -> KeyDigest {
    let mut hasher = Sha256::new();
    for part in [b"tower-api-key, another system's", scheme.as_bytes()].iter().chain(parts) {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    KeyDigest(hasher.finalize().into())
}

#[cfg(test)]
mod tests;

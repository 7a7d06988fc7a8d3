//! A key to import, and why one is refused. Knows no store.

use std::fmt;
use std::time::SystemTime;

use zeroize::Zeroizing;

use crate::digest::{ForeignDigest, Hashing, KeyDigest};
use crate::key::KeyText;
use crate::record::{AccountId, Environment, Hint, InvalidText, KeyId, KeyName, Scopes, Sources};

/// How much must be left to guess of a text.
const BITS: f64 = 128.0;

/// A key of another system. Its text, where it has one, is wiped when it is dropped.
#[derive(Clone)]
#[must_use]
pub struct ImportedKey {
    /// Where it stands, from one.
    pub(super) line: usize,
    pub(super) id: Option<KeyId>,
    pub(super) account: AccountId,
    pub(super) name: KeyName,
    pub(super) environment: Option<Environment>,
    pub(super) scopes: Scopes,
    pub(super) sources: Sources,
    pub(super) created_at: Option<SystemTime>,
    pub(super) expires_at: Option<SystemTime>,
    secret: Secret,
}

#[derive(Clone)]
enum Secret {
    Text(Zeroizing<String>),
    Digest(ForeignDigest),
}

impl ImportedKey {
    /// A key of which the other system keeps a digest.
    pub fn of_digest(account: AccountId, name: KeyName, digest: ForeignDigest) -> Self {
        Self::new(account, name, Secret::Digest(digest))
    }

    /// A key of which the other system keeps the text.
    ///
    /// # Errors
    ///
    /// When it is no [`KeyText`].
    pub fn of_text(account: AccountId, name: KeyName, text: &str) -> Result<Self, InvalidText> {
        KeyText::parse(text.as_bytes())?;
        Ok(Self::new(account, name, Secret::Text(Zeroizing::new(text.to_owned()))))
    }

    fn new(account: AccountId, name: KeyName, secret: Secret) -> Self {
        Self {
            line: 1,
            id: None,
            account,
            name,
            environment: None,
            scopes: Scopes::default(),
            sources: Sources::default(),
            created_at: None,
            expires_at: None,
            secret,
        }
    }

    /// The record's id; one is drawn unless this says which.
    pub fn with_id(mut self, id: KeyId) -> Self {
        self.id = Some(id);
        self
    }

    /// Binds the key to an environment: it works where a layer takes that one, and nobody asks whether one does.
    pub fn with_environment(mut self, environment: Environment) -> Self {
        self.environment = Some(environment);
        self
    }

    /// What the key may be used for.
    pub fn with_scopes(mut self, scopes: Scopes) -> Self {
        self.scopes = scopes;
        self
    }

    /// Where the key may be used from.
    pub fn with_sources(mut self, sources: Sources) -> Self {
        self.sources = sources;
        self
    }

    /// When the key was made; now, unless this says when. Kept in whole milliseconds.
    pub fn with_created_at(mut self, time: SystemTime) -> Self {
        self.created_at = Some(time);
        self
    }

    /// The first instant at which the key no longer works. Kept in whole milliseconds.
    pub fn with_expires_at(mut self, end: SystemTime) -> Self {
        self.expires_at = Some(end);
        self
    }

    /// The digest under which the key is to be filed, and those under which it may be filed already.
    pub(super) fn digests(
        &self,
        hashing: &Hashing,
        allows_weak: bool,
    ) -> Result<(KeyDigest, Vec<KeyDigest>), RowRefusal> {
        match &self.secret {
            Secret::Digest(digest) if hashing.finds(digest) => {
                Ok((digest.digest().clone(), Vec::new()))
            }
            Secret::Digest(_) => Err(RowRefusal::NotAccepted),
            Secret::Text(text) if !allows_weak && is_weak(text) => Err(RowRefusal::Weak),
            Secret::Text(text) => {
                let text = KeyText::parse(text.as_bytes()).map_err(RowRefusal::Invalid)?;
                Ok((hashing.digest(text), hashing.older(text)))
            }
        }
    }

    /// What the key can be recognised by, which is no part of its secret: what stands before its first `_`, if
    /// that looks like a prefix, and of a long text the last four characters.
    pub(super) fn hint(&self) -> Hint {
        match &self.secret {
            Secret::Digest(digest) => {
                let selector = digest.selector().filter(|selector| selector.len() < 64);
                selector.map_or_else(Hint::default, |selector| Hint::of(selector, ""))
            }
            Secret::Text(text) => {
                let prefix = text.find('_').filter(|&end| is_prefix(&text[..end]));
                let head = prefix.map_or("", |end| &text[..=end]);
                let tail = if text.len() - head.len() < 32 { "" } else { &text[text.len() - 4..] };
                Hint::of(head, tail)
            }
        }
    }
}

/// Of random letters and digits, hardly any are that.
fn is_prefix(text: &str) -> bool {
    (2..=10).contains(&text.len())
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// Whether a text has fewer bits than a key should, were each of its characters drawn from all that are like
/// those that it has. A test of length and variety: it cannot tell what somebody thought up.
#[allow(clippy::cast_precision_loss, reason = "at most 256")]
fn is_weak(text: &str) -> bool {
    let any = |is: fn(&u8) -> bool| text.bytes().any(|byte| is(&byte));
    let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut drawn_from = match (is_hex, any(u8::is_ascii_lowercase), any(u8::is_ascii_uppercase)) {
        (true, ..) => 16,
        (false, true, true) => 62,
        (false, ..) => 26 + 10 * usize::from(any(u8::is_ascii_digit)),
    };
    if !any(u8::is_ascii_alphabetic) {
        drawn_from = 10;
    }
    let mut different: Vec<u8> = text.bytes().collect();
    different.sort_unstable();
    different.dedup();
    // A random text of this length has more different characters than that.
    if different.len() < 8 {
        drawn_from = drawn_from.min(different.len());
    }
    (drawn_from.max(1) as f64).log2() * (text.len() as f64) < BITS
}

impl fmt::Debug for ImportedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImportedKey")
            .field("line", &self.line)
            .field("account", &self.account)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A row that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefusedRow {
    /// Its line in the file, or its place among the rows, from one.
    pub line: usize,
    /// Why.
    pub reason: RowRefusal,
}

impl fmt::Display for RefusedRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

/// Why a row was refused. Never repeats what is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RowRefusal {
    /// It is no row: what is wrong with it.
    #[error("{0}")]
    Malformed(String),
    /// One of its texts is none of its kind.
    #[error("{0}")]
    Invalid(InvalidText),
    /// Its text is easy to guess.
    #[error("the text is too short or too uniform for a key, of less than 128 bits")]
    Weak,
    /// The manager's [`Hashing`] does not look for such digests, so the key would not work.
    #[error("the manager's Hashing does not accept digests of this kind")]
    NotAccepted,
    /// It was made in the future, or before 1970.
    #[error("the key must have been made between 1970 and now")]
    InvalidCreation,
    /// It has expired, or ends past the year 9999.
    #[error("the key must end in the future, and before the year 10000")]
    InvalidExpiry,
    /// The same secret stands in an earlier row.
    #[error("the same key is in line {0}")]
    Repeated(usize),
    /// The same id stands in an earlier row.
    #[error("the same id is in line {0}")]
    RepeatedId(usize),
    /// Another key has this secret: of another account, or of the same one under another id.
    #[error("the key is in use by another record")]
    InUse,
    /// The key was imported before, and was deleted, regenerated or rotated since.
    #[error("the key was imported before, and has ended here")]
    Ended,
    /// Another key has this id.
    #[error("the id is in use")]
    IdInUse,
    /// The account would have too many active keys.
    #[error("the account may have at most {limit} active keys")]
    LimitReached {
        /// The cap.
        limit: usize,
    },
}

#[cfg(test)]
mod tests;

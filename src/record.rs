//! What is kept of a key: everything but the secret. Knows no store and no HTTP.

mod sources;
mod tally;
mod text;

use std::net::IpAddr;
use std::time::SystemTime;

pub use sources::Sources;
pub use text::{
    AccountId, Actor, Environment, Hint, IdempotencyKey, InvalidText, KeyId, KeyName, KeyPrefix,
    Scope, Scopes,
};

use self::tally::Tally;
use crate::digest::{AgentHash, Fingerprint, KeyDigest};

/// One key of an account, as a store keeps it.
///
/// Not `Serialize`: what a client may see of a record is decided at the surface that shows it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KeyRecord {
    /// The record's stable, public id. Regenerating keeps it.
    pub id: KeyId,
    /// Who owns the key.
    pub account: AccountId,
    /// What its owner calls it, such as "Production CRM".
    pub name: KeyName,
    /// The environment it is for, when it is bound to one.
    pub environment: Option<Environment>,
    /// What it may be used for; empty where the service does not use scopes.
    pub scopes: Scopes,
    /// Where it may be used from.
    pub sources: Sources,
    /// Enough to recognise the key by (its beginning and its last characters), never more.
    pub hint: Hint,
    /// The SHA-256 of the key's text, or what the service's [`Hashing`](crate::Hashing) makes of it.
    pub digest: KeyDigest,
    /// When it was made; whole milliseconds.
    pub created_at: SystemTime,
    /// The first instant at which it no longer works; whole milliseconds. `None`: never.
    pub expires_at: Option<SystemTime>,
    /// The key that replaces it, while a rotation's grace lasts and after.
    pub replaced_by: Option<KeyId>,
    /// When its successor was made; whole milliseconds.
    pub replaced_at: Option<SystemTime>,
    /// When it was last used, as far as that was [noted](crate::KeyRegistry::mark_used); whole
    /// milliseconds. This and the two below are of the same request.
    pub last_used_at: Option<SystemTime>,
    /// Where it was last used from, if that was known.
    pub last_used_from: Option<IpAddr>,
    /// What the client called itself when it was last used, if it did.
    pub last_used_agent: Option<AgentHash>,
    /// How often it was used since that was last noted. In memory only, and empty in a clone.
    pub(crate) tally: Tally,
}

impl KeyRecord {
    /// A record with nothing optional set. The fields are public: set the rest afterwards.
    #[must_use]
    pub fn new(
        id: KeyId,
        account: AccountId,
        name: KeyName,
        digest: KeyDigest,
        created_at: SystemTime,
    ) -> Self {
        Self {
            id,
            account,
            name,
            environment: None,
            scopes: Scopes::default(),
            sources: Sources::default(),
            hint: Hint::default(),
            digest,
            created_at,
            expires_at: None,
            replaced_by: None,
            replaced_at: None,
            last_used_at: None,
            last_used_from: None,
            last_used_agent: None,
            tally: Tally::default(),
        }
    }

    /// Whether the key has expired: at `expires_at` and ever after.
    #[must_use]
    pub fn is_expired(&self, now: SystemTime) -> bool {
        self.expires_at.is_some_and(|end| now >= end)
    }

    /// What stores file the record under.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.digest.fingerprint()
    }

    /// The record once a successor stands beside it, made at `at`: it expires when the grace ends, or
    /// sooner if it was to.
    #[must_use]
    pub fn superseded(&self, successor: KeyId, at: SystemTime, grace_ends: SystemTime) -> Self {
        Self {
            expires_at: Some(self.expires_at.map_or(grace_ends, |end| end.min(grace_ends))),
            replaced_by: Some(successor),
            replaced_at: Some(at),
            ..self.clone()
        }
    }

    /// What stays when this record's secret is ended.
    #[must_use]
    pub fn tombstone(&self, cause: EndCause, ended_at: SystemTime) -> Tombstone {
        Tombstone {
            fingerprint: self.fingerprint(),
            key: self.id.clone(),
            account: self.account.clone(),
            name: self.name.clone(),
            cause,
            ended_at,
        }
    }
}

/// What is kept of a secret that was ended, so that a later attempt with it can be put down to the
/// right key. It cannot admit anything: the digest is gone.
#[derive(Clone, Debug)]
#[allow(
    clippy::exhaustive_structs,
    reason = "a store builds it from its row; a new field must be stored"
)]
pub struct Tombstone {
    /// The ended secret's fingerprint.
    pub fingerprint: Fingerprint,
    /// The record it belonged to.
    pub key: KeyId,
    /// Whose it was.
    pub account: AccountId,
    /// What it was called when it ended.
    pub name: KeyName,
    /// Why it ended.
    pub cause: EndCause,
    /// When it ended.
    pub ended_at: SystemTime,
}

/// Why a secret ended. Final: an ended secret never works again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndCause {
    /// Its key was deleted.
    Deleted,
    /// Its key was given a new secret.
    Regenerated,
    /// Its key was replaced by a new one, without a grace.
    Rotated,
    /// Only its digest has: the same text is filed under another.
    Rehashed,
}

impl EndCause {
    /// A stable word for stores and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Regenerated => "regenerated",
            Self::Rotated => "rotated",
            Self::Rehashed => "rehashed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_ends_are_those_that_stores_have_kept() {
        let causes =
            [EndCause::Deleted, EndCause::Regenerated, EndCause::Rotated, EndCause::Rehashed];
        let words = ["deleted", "regenerated", "rotated", "rehashed"];
        assert_eq!(causes.map(EndCause::as_str), words);
    }
}

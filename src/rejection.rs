//! Why a request was refused: the whole truth for the operator, the part of it that a client may
//! know, and the line between them. Knows no HTTP.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use crate::digest::Fingerprint;
use crate::record::{AccountId, KeyId, KeyName, KeyRecord, Tombstone};

/// Why a request was refused, for the operator: in the response's extensions, and in one `tracing`
/// event. **Never send it to the client**; what a client may know is its [`Refusal`].
#[derive(Clone)]
pub struct Rejection {
    kind: RejectionKind,
    fingerprint: Option<Fingerprint>,
    subject: Option<Subject>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// The reason of a [`Rejection`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum RejectionKind {
    /// The request did not verifiably come over HTTPS.
    #[error("the request did not verifiably come over HTTPS")]
    NotHttps,
    /// No key was sent.
    #[error("no key was sent")]
    MissingKey,
    /// More than one key was sent, or one key in more than one place.
    #[error("more than one key was sent")]
    AmbiguousKey,
    /// What was sent cannot be a key: it is too long, or has other than visible ASCII characters.
    #[error("what was sent is too long for a key or has characters that none has")]
    MalformedKey,
    /// The key's checksum is wrong: a typo, or a key of another system, which
    /// [`KeyFormat::Any`](crate::KeyFormat::Any) admits.
    #[error("the key's checksum is wrong (KeyFormat::Any admits keys of other systems)")]
    WrongChecksum,
    /// No record has this key.
    #[error("unknown key")]
    UnknownKey,
    /// The key was deleted.
    #[error("deleted key")]
    DeletedKey,
    /// The key was replaced when its record was regenerated.
    #[error("regenerated key")]
    RegeneratedKey,
    /// The key was replaced by a new one when it was rotated.
    #[error("rotated key")]
    RotatedKey,
    /// The key has expired.
    #[error("expired key")]
    ExpiredKey,
    /// The key is for another environment than the one that
    /// [`with_environment`](crate::ApiKeyLayer::with_environment) named, or none was named.
    #[error("key of another environment (with_environment names the layer's)")]
    WrongEnvironment,
    /// The key may not be used from where the request came from, or that is not known.
    #[error("key used from an address that it is not for")]
    WrongSource,
    /// The key is valid, but may not be used for this.
    #[error("the key lacks the scope")]
    MissingScope,
    /// The key was used too often.
    #[error("the key was used too often")]
    RateLimited,
    /// Too many requests with invalid keys came from the address; this one's key was not looked at.
    #[error("too many invalid keys from this address")]
    TooManyFailures,
    /// The store failed.
    #[error("the store failed")]
    StoreFailed,
    /// The store did not answer in time.
    #[error("the store did not answer in time")]
    StoreTimedOut,
    /// The store panicked.
    #[error("the store panicked")]
    StorePanicked,
}

/// What a refused client may be told. Every refusal that depends on the key is the one
/// [`InvalidKey`](Self::InvalidKey), so that a renderer, which is given nothing else, cannot become
/// an oracle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// The call was not made over HTTPS.
    NotHttps,
    /// No key was sent.
    MissingKey,
    /// The key is not valid, whatever the reason.
    InvalidKey,
    /// The key is valid, but may not be used for this.
    MissingScope,
    /// Too many requests: try again later.
    TooManyRequests,
    /// It could not be found out: try again.
    Unavailable,
}

/// Whose key was tried.
#[derive(Clone, Debug)]
pub(crate) enum Subject {
    Record(Arc<KeyRecord>),
    Tombstone(Arc<Tombstone>),
}

impl RejectionKind {
    /// A stable word for metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotHttps => "not_https",
            Self::MissingKey => "missing_key",
            Self::AmbiguousKey => "ambiguous_key",
            Self::MalformedKey => "malformed_key",
            Self::WrongChecksum => "wrong_checksum",
            Self::UnknownKey => "unknown_key",
            Self::DeletedKey => "deleted_key",
            Self::RegeneratedKey => "regenerated_key",
            Self::RotatedKey => "rotated_key",
            Self::ExpiredKey => "expired_key",
            Self::WrongEnvironment => "wrong_environment",
            Self::WrongSource => "wrong_source",
            Self::MissingScope => "missing_scope",
            Self::RateLimited => "rate_limited",
            Self::TooManyFailures => "too_many_failures",
            Self::StoreFailed => "store_failed",
            Self::StoreTimedOut => "store_timed_out",
            Self::StorePanicked => "store_panicked",
        }
    }

    /// What the client may be told.
    #[must_use]
    pub fn refusal(self) -> Refusal {
        match self {
            Self::NotHttps => Refusal::NotHttps,
            Self::MissingKey => Refusal::MissingKey,
            Self::AmbiguousKey
            | Self::MalformedKey
            | Self::WrongChecksum
            | Self::UnknownKey
            | Self::DeletedKey
            | Self::RegeneratedKey
            | Self::RotatedKey
            | Self::ExpiredKey
            | Self::WrongEnvironment
            | Self::WrongSource => Refusal::InvalidKey,
            Self::MissingScope => Refusal::MissingScope,
            Self::RateLimited | Self::TooManyFailures => Refusal::TooManyRequests,
            Self::StoreFailed | Self::StoreTimedOut | Self::StorePanicked => Refusal::Unavailable,
        }
    }
}

impl Rejection {
    pub(crate) fn with_fingerprint(mut self, fingerprint: Fingerprint) -> Self {
        self.fingerprint = Some(fingerprint);
        self
    }

    pub(crate) fn with_subject(mut self, subject: Subject) -> Self {
        self.subject = Some(subject);
        self
    }

    pub(crate) fn with_source(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// The reason.
    #[must_use]
    pub fn kind(&self) -> RejectionKind {
        self.kind
    }

    /// The fingerprint of the key that was tried, if one was.
    #[must_use]
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        self.fingerprint
    }

    /// The record whose key was tried, if it is known; deleted ones too.
    #[must_use]
    pub fn key_id(&self) -> Option<&KeyId> {
        self.subject.as_ref().map(|subject| match subject {
            Subject::Record(record) => &record.id,
            Subject::Tombstone(tombstone) => &tombstone.key,
        })
    }

    /// What the key is or was called, if it is known.
    #[must_use]
    pub fn key_name(&self) -> Option<&KeyName> {
        self.subject.as_ref().map(|subject| match subject {
            Subject::Record(record) => &record.name,
            Subject::Tombstone(tombstone) => &tombstone.name,
        })
    }

    /// The record whose key was tried, unless that was ended.
    #[cfg(feature = "leaks")]
    pub(crate) fn record(&self) -> Option<&Arc<KeyRecord>> {
        match self.subject.as_ref()? {
            Subject::Record(record) => Some(record),
            Subject::Tombstone(_) => None,
        }
    }

    /// Whose key was tried, if it is known.
    #[must_use]
    pub fn account(&self) -> Option<&AccountId> {
        self.subject.as_ref().map(|subject| match subject {
            Subject::Record(record) => &record.account,
            Subject::Tombstone(tombstone) => &tombstone.account,
        })
    }
}

impl From<RejectionKind> for Rejection {
    fn from(kind: RejectionKind) -> Self {
        Self { kind, fingerprint: None, subject: None, source: None }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl fmt::Debug for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejection")
            .field("kind", &self.kind)
            .field("fingerprint", &self.fingerprint)
            .field("key", &self.key_id())
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl Error for Rejection {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}

//! What happened to the secrets of a store, in the order in which it happened.

use crate::digest::Fingerprint;

/// How many versions back a store remembers its changes, at least.
pub const CHANGES_KEPT: u64 = 10_000;

/// How many writes a store has seen; 0 before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u64);

impl Version {
    /// A version as a store kept it.
    #[must_use]
    pub fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number, for a store to keep.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }

    /// The version after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// One secret was filed, changed or ended. A write that touched several has as many changes, all of
/// one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a store builds it from its row")]
pub struct Change {
    /// The write that did it.
    pub version: Version,
    /// The secret.
    pub fingerprint: Fingerprint,
}

/// What was written after some version.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a third case must not be passed over")]
pub enum Changes {
    /// All of it.
    Known {
        /// The version that the changes lead to.
        latest: Version,
        /// In order of their versions.
        changes: Vec<Change>,
    },
    /// More than the store remembers, or the store is older than that version (it was restored from
    /// a backup): whatever was read before may be out of date.
    Forgotten {
        /// The store's version.
        latest: Version,
    },
}

impl Changes {
    /// The store's version.
    #[must_use]
    pub fn latest(&self) -> Version {
        match self {
            Self::Known { latest, .. } | Self::Forgotten { latest } => *latest,
        }
    }

    /// Whether a store at version `latest` remembers everything after `since`, if it keeps
    /// [`CHANGES_KEPT`] versions.
    #[must_use]
    pub fn are_known(since: Version, latest: Version) -> bool {
        since <= latest && latest.0 - since.0 <= CHANGES_KEPT
    }
}

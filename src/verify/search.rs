//! Where a key is looked for: under its digest as it is made today, then under those of older schemes.
//!
//! A key that is [upgraded](crate::Upgrades) moves from one of them to the other, perhaps between two
//! lookups of one request. The store then says of the old digest that the key was rehashed, and everything
//! is looked for once more: a lookup that begins after that was said sees where the key went.

use std::sync::Arc;

use crate::digest::{Fingerprint, KeyDigest};
use crate::record::{EndCause, KeyRecord, Tombstone};
use crate::rejection::{Rejection, RejectionKind, Subject};
use crate::store::{Entry, Found};

pub(crate) struct Search {
    today: KeyDigest,
    /// Whether the text is a key of this crate's make. Anything else may be a password that was pasted into the
    /// wrong place, and 64 bits of its hash would be enough to guess it by.
    may_be_named: bool,
    /// Made when they are needed: with nothing but today's scheme, or a key that is found, never.
    older: Option<Vec<KeyDigest>>,
    /// The digest that is asked for: 0 is today's.
    place: usize,
    rehashed: Option<Arc<Tombstone>>,
    is_second: bool,
}

impl Search {
    pub(super) fn new(today: KeyDigest, may_be_named: bool) -> Self {
        Self { today, may_be_named, older: None, place: 0, rehashed: None, is_second: false }
    }

    /// Makes the other digests while the key's text is at hand.
    pub(super) fn prepared(mut self, older: impl FnOnce() -> Vec<KeyDigest>) -> Self {
        self.older.get_or_insert_with(older);
        self
    }

    /// What the store is to be asked for.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        self.digest().fingerprint()
    }

    fn digest(&self) -> &KeyDigest {
        let older = self.older.as_ref().and_then(|older| older.get(self.place.checked_sub(1)?));
        older.unwrap_or(&self.today)
    }

    /// Today's digest of a key that was found under another.
    pub(super) fn outdated(&self) -> Option<&KeyDigest> {
        (self.place > 0).then_some(&self.today)
    }

    /// Hears what the store found, and says what that means; `None` means that it is to be asked again.
    /// The digests are compared whole, whatever the store has compared already.
    pub(super) fn hear(
        &mut self,
        found: Found,
        older: impl FnOnce() -> Vec<KeyDigest>,
    ) -> Option<Result<Arc<KeyRecord>, Rejection>> {
        match found {
            Ok(Some(Entry::Live(record))) if self.digest().matches(&record.digest) => {
                return Some(Ok(record));
            }
            Ok(Some(Entry::Ended(tombstone))) => match kind(tombstone.cause) {
                Some(kind) => {
                    return Some(Err(self.refuse_found(kind, Subject::Tombstone(tombstone))));
                }
                None => self.rehashed = Some(tombstone),
            },
            Ok(Some(Entry::Live(_)) | None) => {}
            Err(error) => {
                return Some(Err(self.refuse(RejectionKind::StoreFailed).with_source(error)));
            }
        }
        self.go_on(older)
    }

    fn go_on(
        &mut self,
        older: impl FnOnce() -> Vec<KeyDigest>,
    ) -> Option<Result<Arc<KeyRecord>, Rejection>> {
        if self.place < self.older.get_or_insert_with(older).len() {
            self.place += 1;
            return None;
        }
        self.place = 0;
        match self.rehashed.take() {
            None => Some(Err(self.refuse(RejectionKind::UnknownKey))),
            Some(_) if !self.is_second => {
                self.is_second = true;
                None
            }
            // It may well be a live key: this is no "no".
            Some(tombstone) => {
                let subject = Subject::Tombstone(tombstone);
                let failed = self.refuse_found(RejectionKind::StoreFailed, subject);
                Some(Err(failed.with_source(Unlike)))
            }
        }
    }

    /// A refusal of what may be no key at all, under the digest that was asked for.
    pub(super) fn refuse(&self, kind: RejectionKind) -> Rejection {
        let rejection = Rejection::from(kind);
        if self.may_be_named { rejection.with_fingerprint(self.fingerprint()) } else { rejection }
    }

    /// A refusal of a key that is filed, or was.
    pub(super) fn refuse_found(&self, kind: RejectionKind, subject: Subject) -> Rejection {
        Rejection::from(kind).with_fingerprint(self.fingerprint()).with_subject(subject)
    }
}

/// Why a key is refused whose secret has ended; one that was rehashed is filed elsewhere.
fn kind(cause: EndCause) -> Option<RejectionKind> {
    match cause {
        EndCause::Deleted => Some(RejectionKind::DeletedKey),
        EndCause::Regenerated => Some(RejectionKind::RegeneratedKey),
        EndCause::Rotated => Some(RejectionKind::RotatedKey),
        EndCause::Rehashed => None,
    }
}

#[derive(Debug, thiserror::Error)]
#[error(
    "the key was given a digest that this process does not look for: it was told another Hashing"
)]
struct Unlike;

#[cfg(test)]
mod tests;

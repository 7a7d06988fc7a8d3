//! What making a key gives.

use std::sync::Arc;

use crate::key::{ApiKey, RevealedKey};
use crate::record::KeyRecord;

/// A new key with its record: the only moment at which its text can be had.
#[must_use = "the key cannot be had again"]
pub struct IssuedKey {
    pub(super) record: Arc<KeyRecord>,
    pub(super) key: ApiKey,
}

impl IssuedKey {
    /// Everything but the secret.
    #[must_use]
    pub fn record(&self) -> &KeyRecord {
        &self.record
    }

    /// The record and the secret, apart.
    #[must_use]
    pub fn into_parts(self) -> (Arc<KeyRecord>, ApiKey) {
        (self.record, self.key)
    }

    /// Gives the key's text away, to be shown to its owner, once.
    #[must_use]
    pub fn reveal(self) -> RevealedKey {
        self.key.reveal()
    }
}

impl std::fmt::Debug for IssuedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuedKey").field("record", &self.record).finish_non_exhaustive()
    }
}

//! What has become of a secret since its record was read.

use std::sync::Arc;

use super::{Entry, KeyRegistry, StoreError};
use crate::record::{EndCause, KeyRecord};

/// The record that the secret of `was` opens now, as the registry has it: `None` when the secret was ended.
/// It may have expired.
///
/// Asks for the record first, because [`get`](KeyRegistry::get) is never answered from a memory that is
/// behind.
pub(crate) async fn current(
    registry: &dyn KeyRegistry,
    was: &KeyRecord,
) -> Result<Option<Arc<KeyRecord>>, StoreError> {
    let Some(record) = registry.get(&was.account, &was.id).await? else { return Ok(None) };
    if record.fingerprint() == was.fingerprint() {
        return Ok(Some(record));
    }
    // Another secret. Why it is another one is written where the old one was.
    Ok(match registry.find(was.fingerprint()).await? {
        Some(Entry::Ended(tombstone)) => match tombstone.cause {
            EndCause::Deleted | EndCause::Regenerated | EndCause::Rotated => None,
            // The same text under another digest, unless there is a new text by now: a hint is of its text.
            EndCause::Rehashed => Some(record).filter(|record| record.hint == was.hint),
        },
        // A memory that has not heard of it yet: the hint says which of them it was.
        Some(Entry::Live(_)) => Some(record).filter(|record| record.hint == was.hint),
        None => None,
    })
}

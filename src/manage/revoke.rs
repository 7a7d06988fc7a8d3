//! Deleting a key because of its secret, which others may have.

use super::{KeyManager, ManageError};
use crate::record::KeyRecord;
use crate::store::current;

impl KeyManager {
    /// Deletes the key that the secret of `key` opens, and says whether there was one: the secret is dead
    /// when this returns, either way. A key that was given another secret meanwhile stays, unless that
    /// happens between the look at it and the deletion.
    pub(crate) async fn revoke(&self, key: &KeyRecord) -> Result<bool, ManageError> {
        if current(&*self.registry, key).await?.is_some() {
            match self.delete(&key.account, &key.id).await {
                Ok(()) => return Ok(true),
                Err(ManageError::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        // Somebody else has ended it, perhaps a moment ago.
        self.settled(async { Ok(()) }).await?;
        Ok(false)
    }
}

//! What wants looking after: rotations to finish, keys that end, keys that nobody uses.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{KeyManager, ManageError};
use crate::record::{AccountId, KeyId, KeyRecord};

impl KeyManager {
    /// Ends the grace of a key that was rotated: it is dead when this returns, and its successor works on.
    /// Look at the record's `last_used_at` first: it says when somebody last used the old key, where
    /// [uses are collected](crate::Usage). Without that it says nothing.
    ///
    /// ```
    /// # use std::time::{Duration, SystemTime};
    /// # use tower_api_key::{AccountId, KeyId, KeyManager, ManageError};
    /// /// Ends the old key when nobody has used it for an hour.
    /// async fn finish(manager: &KeyManager, account: &AccountId, old: &KeyId) -> Result<bool, ManageError> {
    ///     let last = manager.get(account, old).await?.last_used_at;
    ///     // Not known is not unused.
    ///     let unused = last.is_some_and(|last| last + Duration::from_secs(3600) < SystemTime::now());
    ///     if unused {
    ///         manager.finish_rotation(account, old).await?;
    ///     }
    ///     Ok(unused)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`NotFound`](ManageError::NotFound), also the second time: every replica knows then that it is dead;
    /// [`NotRotated`](ManageError::NotRotated), so that a mistaken id does not end a key that has no successor;
    /// [`Store`](ManageError::Store).
    pub async fn finish_rotation(
        &self,
        account: &AccountId,
        id: &KeyId,
    ) -> Result<(), ManageError> {
        let Some(key) = self.registry.get(account, id).await? else {
            // Somebody else may have ended it a moment ago.
            self.settled(async { Ok(()) }).await?;
            return Err(ManageError::NotFound);
        };
        // It names its successor for good, unless it is deleted and made again (by its `Idempotency-Key`) meanwhile.
        key.replaced_by.as_ref().ok_or(ManageError::NotRotated)?;
        self.delete(account, id).await
    }

    /// The account's keys that work now and expire within this time, soonest first: for a message to their
    /// owner. Keys in the grace of a rotation are among them, with their successor's id.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tower_api_key::{AccountId, KeyManager, ManageError};
    /// /// What to write to an owner, once a week.
    /// async fn warnings(manager: &KeyManager, owner: &AccountId) -> Result<Vec<String>, ManageError> {
    ///     let soon = manager.expiring(owner, Duration::from_secs(14 * 86_400)).await?;
    ///     let without_successor = soon.iter().filter(|key| key.replaced_by.is_none());
    ///     Ok(without_successor.map(|key| format!("{} ends soon: rotate it", key.name)).collect())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Store`](ManageError::Store).
    pub async fn expiring(
        &self,
        account: &AccountId,
        within: Duration,
    ) -> Result<Vec<Arc<KeyRecord>>, ManageError> {
        let now = self.now();
        let soon = |end: SystemTime| now.checked_add(within).is_none_or(|soon| end <= soon);
        let mut keys = self.list(account).await?;
        keys.retain(|key| !key.is_expired(now) && key.expires_at.is_some_and(soon));
        keys.sort_by_key(|key| key.expires_at);
        Ok(keys)
    }

    /// The account's keys that work now and that nobody has used for this time: neither since they were
    /// made nor since the last use that was [noted](crate::Usage). For an idle timeout, give them to
    /// [`delete`](Self::delete) once a day:
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tower_api_key::{AccountId, KeyManager, ManageError};
    /// async fn delete_idle(manager: &KeyManager, account: &AccountId) -> Result<(), ManageError> {
    ///     for key in manager.idle(account, Duration::from_secs(90 * 86_400)).await? {
    ///         manager.delete(account, &key.id).await?;
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// Without a [`Usage`](crate::Usage) that collects, every key looks unused.
    ///
    /// # Errors
    ///
    /// [`Store`](ManageError::Store).
    pub async fn idle(
        &self,
        account: &AccountId,
        unused_for: Duration,
    ) -> Result<Vec<Arc<KeyRecord>>, ManageError> {
        let now = self.now();
        let unused = |key: &KeyRecord| {
            let last = key.last_used_at.unwrap_or(key.created_at).max(key.created_at);
            now.duration_since(last).is_ok_and(|time| time >= unused_for)
        };
        let mut keys = self.list(account).await?;
        keys.retain(|key| !key.is_expired(now) && unused(key));
        Ok(keys)
    }

    /// Deletes the account's keys that had expired before this moment, and says how many there were: they are
    /// [listed](Self::list) until they are deleted, and [so many](super::EXPIRED_KEY_LIMIT) at the most. Each is a
    /// deletion as any other, with its event.
    ///
    /// ```
    /// # use std::time::{Duration, SystemTime};
    /// # use tower_api_key::{AccountId, KeyManager, ManageError};
    /// /// What nobody wants to see in the list any more, once a day.
    /// async fn tidy(manager: &KeyManager, account: &AccountId) -> Result<usize, ManageError> {
    ///     manager.delete_expired(account, SystemTime::now() - Duration::from_secs(30 * 86_400)).await
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Store`](ManageError::Store), when some of them may have been deleted.
    pub async fn delete_expired(
        &self,
        account: &AccountId,
        before: SystemTime,
    ) -> Result<usize, ManageError> {
        let moment = before.min(self.now());
        let mut deleted = 0;
        for key in self.list(account).await?.iter().filter(|key| key.is_expired(moment)) {
            match self.delete(account, &key.id).await {
                Ok(()) => deleted += 1,
                // Somebody else has.
                Err(ManageError::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(deleted)
    }
}

//! What managing a key can fail of.

use std::sync::Arc;

use crate::record::{Environment, KeyRecord};
use crate::store::StoreError;

/// Why a key could not be managed. Nothing was stored, except where [`Store`](Self::Store) says so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManageError {
    /// The account has no such key. Another account's key is no such key.
    #[error("no such key")]
    NotFound,
    /// The account has as many active keys as it may have.
    #[error("an account may have at most {limit} active keys: delete one first")]
    LimitReached {
        /// The cap.
        limit: usize,
    },
    /// The account lists as many [expired keys](super::EXPIRED_KEY_LIMIT) as it may, and this would be another
    /// one some day.
    #[error(
        "an account may list at most {} expired keys: delete some of them first",
        super::EXPIRED_KEY_LIMIT
    )]
    TooManyExpired,
    /// The key was to be bound to an environment that no layer [takes](super::KeyManager::with_environments).
    #[error("a key may be bound to {}", environments(.known))]
    NoSuchEnvironment {
        /// Those that one does.
        known: Arc<[Environment]>,
    },
    /// The key is to end in the past, or too far ahead.
    #[error("a key must end in the future, and before the year 10000")]
    InvalidExpiry,
    /// The key has expired; make a new one.
    #[error("the key has expired: make a new one")]
    Expired,
    /// The key was rotated already: its successor stands beside it until its grace is over.
    #[error("the key was rotated already: use its successor, and delete this one when you can")]
    AlreadyRotated,
    /// The key was not rotated: nothing replaces it.
    #[error("the key has no successor: rotate it first, or delete it")]
    NotRotated,
    /// A call with this idempotency key has made this key before. Its secret was shown then.
    #[error("this was done before: {} was made", .0.id)]
    AlreadyMade(Arc<KeyRecord>),
    /// A call with this idempotency key has made a key before, for another environment, with other
    /// scopes or sources or for another time than is wanted now.
    #[error("the idempotency key was used before, for another key")]
    Reused,
    /// The system's random number generator failed.
    #[error("the system's random number generator failed")]
    Randomness(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Several new keys in a row were in use, which cannot be chance.
    #[error("new keys collide with existing ones: the generator or the store is broken")]
    NoFreeKey,
    /// The store failed. Whether the write happened is not known: repeat a
    /// deletion, list the keys after a creation.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a key may be bound to, in words.
pub(super) fn environments(known: &[Environment]) -> String {
    match known.iter().map(Environment::as_str).collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => "no environment".to_owned(),
        these => format!("one of these environments: {these}"),
    }
}

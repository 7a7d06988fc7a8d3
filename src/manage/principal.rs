//! Who manages keys, as the service has authenticated them. Knows no HTTP.

#[cfg(feature = "manage-api")]
use super::KeyManager;
use crate::record::{AccountId, Actor};

/// An authenticated person or program, and the account whose keys it may manage.
///
/// A service makes one of its own session or token, and of nothing that the client wrote. Never make
/// one of an [`Identity`](crate::Identity): an API key must not make other API keys, or whoever found
/// one could not be locked out by deleting it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    account: AccountId,
    actor: Option<Actor>,
}

impl Principal {
    /// Somebody who may manage the keys of `account`.
    #[must_use]
    pub fn new(account: AccountId) -> Self {
        Self { account, actor: None }
    }

    /// Says who it is, for the log and the [`KeyEvents`](crate::KeyEvents).
    #[must_use]
    pub fn with_actor(mut self, actor: Actor) -> Self {
        self.actor = Some(actor);
        self
    }

    /// Whose keys.
    #[must_use]
    pub fn account(&self) -> &AccountId {
        &self.account
    }

    /// Who it is.
    #[must_use]
    pub fn actor(&self) -> Option<&Actor> {
        self.actor.as_ref()
    }

    /// The manager, noting who acts.
    #[cfg(feature = "manage-api")]
    pub(super) fn acting(&self, manager: &KeyManager) -> KeyManager {
        match &self.actor {
            Some(actor) => manager.clone().acting_for(actor.clone()),
            None => manager.clone(),
        }
    }
}

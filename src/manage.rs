//! The operations on keys. Knows no verification, and no HTTP outside of its surfaces, `api` and `page`; the only
//! place where keys are drawn.
//!
//! ```
//! use std::time::Duration;
//! use tower_api_key::{AccountId, KeyManager, MemoryStore, NewKey};
//!
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let manager = KeyManager::new(MemoryStore::new(), "acme".parse()?);
//! let account: AccountId = "admin@example.com".parse()?;
//!
//! // The key's text is in the answer, and nowhere else, ever.
//! let issued = manager.create(&account, NewKey::new("Production CRM".parse()?)).await?;
//! let id = issued.record().id.clone();
//! let shown_once = issued.reveal();
//! assert!(shown_once.as_str().starts_with("acme_"));
//!
//! // A new key beside the old one, which works for another day.
//! let successor = manager.rotate(&account, &id, Duration::from_secs(86_400)).await?;
//! assert_eq!(manager.list(&account).await?.len(), 2);
//!
//! manager.delete(&account, &id).await?;
//! # Ok(()) }
//! ```
//!
//! The account always comes from whoever is authenticated, never from what a client sent: a key of
//! another account is [`ManageError::NotFound`].
//!
//! Every change is one atomic step in the store. One that has begun goes on to its end when its future is
//! dropped, in a task of its own: what was done is logged and told, whoever has gone. `regenerate` and
//! `rotate` look at the key first and change it then; if it was deleted in between, they find no key,
//! or the one that was made again with its `Idempotency-Key`.

#[cfg(feature = "manage-api")]
#[cfg_attr(docsrs, doc(cfg(feature = "manage-api")))]
pub mod api;
mod change;
mod error;
mod generate;
pub mod import;
mod issued;
mod new_key;
#[cfg(feature = "page")]
#[cfg_attr(docsrs, doc(cfg(feature = "page")))]
pub mod page;
mod principal;
mod revoke;
mod upkeep;

use std::sync::Arc;
use std::time::SystemTime;

pub use self::error::ManageError;
pub use self::issued::IssuedKey;
pub use self::new_key::NewKey;
pub use self::principal::Principal;
use crate::clock::{Clock, SystemClock, to_milliseconds};
use crate::digest::Hashing;
use crate::events::{KeyEvents, Listeners};
use crate::record::{AccountId, Actor, Environment, KeyId, KeyPrefix, KeyRecord};
use crate::store::{Day, KeyRegistry, KeyUsage};

/// Active keys an account may have, unless the manager is told otherwise.
pub const DEFAULT_KEY_LIMIT: usize = 25;

/// Expired keys an account may list before none is made that would be one more of them: no
/// [creation](KeyManager::create) of a key that expires, no [rotation](KeyManager::rotate) with a grace.
///
/// They stay listed until they are deleted and do not count towards the cap, so that without this a program
/// whose keys live for a second would make every look at the list slower than the last. It is no exact number:
/// the list is looked at before the key is written, and what is under way then is done.
pub const EXPIRED_KEY_LIMIT: usize = 1_000;

/// What an account can do with its keys.
#[derive(Clone)]
pub struct KeyManager {
    registry: Arc<dyn KeyRegistry>,
    prefix: KeyPrefix,
    limit: usize,
    environments: Option<Arc<[Environment]>>,
    hashing: Hashing,
    clock: Arc<dyn Clock>,
    settles: bool,
    listeners: Listeners,
    actor: Option<Actor>,
}

impl KeyManager {
    /// Manages the keys in `registry`; new ones begin with `prefix`.
    pub fn new(registry: impl KeyRegistry, prefix: KeyPrefix) -> Self {
        Self {
            registry: Arc::new(registry),
            prefix,
            limit: DEFAULT_KEY_LIMIT,
            environments: None,
            hashing: Hashing::default(),
            clock: Arc::new(SystemClock),
            settles: true,
            listeners: Listeners::default(),
            actor: None,
        }
    }

    /// Tells `listener` of everything that is done, beside those that were told to listen before.
    #[must_use]
    pub fn with_events(mut self, listener: impl KeyEvents) -> Self {
        self.listeners = self.listeners.and(listener);
        self
    }

    /// Says who does what this manager is told to do, for the log and the [events](KeyEvents): a clone
    /// for each request.
    #[must_use]
    pub fn acting_for(mut self, actor: Actor) -> Self {
        self.actor = Some(actor);
        self
    }

    /// Returns from writes as soon as they are durable, when other replicas may go on answering from
    /// their memory for up to a second ([`LEASE`](crate::store::LEASE)); [`settle`](Self::settle) says
    /// when they no longer do.
    #[must_use]
    pub fn without_settling(mut self) -> Self {
        self.settles = false;
        self
    }

    /// Returns when everything that was written before the call is known to every replica: what was
    /// deleted is dead on all of them, what was made can be used on all of them. Every write waits for
    /// this by itself, unless told [not to](Self::without_settling).
    pub async fn settle(&self) {
        self.registry.settle().await;
    }

    /// How many active keys an account may have; [`DEFAULT_KEY_LIMIT`] unless set. Expired keys do
    /// not count. Keys that are there already stay when the limit is lowered.
    #[must_use]
    pub fn with_limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// The environments that keys may be bound to: those that the service's layers take, which refuse a key of
    /// any other. Of all unless set; of none where this is none. A key that is bound to none is made as before.
    #[must_use]
    pub fn with_environments(
        mut self,
        environments: impl IntoIterator<Item = Environment>,
    ) -> Self {
        self.environments = Some(environments.into_iter().collect());
        self
    }

    /// The clock; the system's unless set.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// How digests of keys are made; SHA-256 unless set. **The layer must be told the same**, in every
    /// process, or it knows none of the keys that are made here. Where it accepts SHA-256 beside its pepper, it
    /// knows those of a manager without the pepper, and nobody notices what their digests lack:
    /// [`digest::hashing`](crate::digest::hashing) says more.
    #[must_use]
    pub fn with_hashing(mut self, hashing: Hashing) -> Self {
        self.hashing = hashing;
        self
    }

    /// How many active keys an account may have.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// The environments that keys may be bound to, or `None` for all.
    #[must_use]
    pub fn environments(&self) -> Option<&[Environment]> {
        self.environments.as_deref()
    }

    /// The account's keys, expired ones included, oldest first.
    ///
    /// # Errors
    ///
    /// [`Store`](ManageError::Store).
    pub async fn list(&self, account: &AccountId) -> Result<Vec<Arc<KeyRecord>>, ManageError> {
        Ok(self.registry.list(account).await?)
    }

    /// How much the account's keys were used in the last days, today (UTC) included, deleted keys too:
    /// those that were used or refused at all, in order of their ids. What is not
    /// [collected](crate::Usage) is not known. 90 days are [kept](crate::store::USAGE_KEPT).
    ///
    /// # Errors
    ///
    /// [`Store`](ManageError::Store).
    pub async fn usage(
        &self,
        account: &AccountId,
        days: u32,
    ) -> Result<Vec<KeyUsage>, ManageError> {
        let first = Day::of(self.now()).back(days.saturating_sub(1));
        Ok(self.registry.usage(account, first).await?)
    }

    /// One key of the account.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ManageError::NotFound), [`Store`](ManageError::Store).
    pub async fn get(
        &self,
        account: &AccountId,
        id: &KeyId,
    ) -> Result<Arc<KeyRecord>, ManageError> {
        self.registry.get(account, id).await?.ok_or(ManageError::NotFound)
    }

    /// By the manager's clock; in whole milliseconds, as records have it.
    pub(crate) fn now(&self) -> SystemTime {
        to_milliseconds(self.clock.now())
    }
}

impl std::fmt::Debug for KeyManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyManager")
            .field("prefix", &self.prefix)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

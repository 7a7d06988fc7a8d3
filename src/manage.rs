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
//! Every change is one atomic step in the store: dropping a call's future leaves it done or not done,
//! never half done. `regenerate` and `rotate` look at the key first and change it then; if it was
//! deleted in between, they find no key.

#[cfg(feature = "manage-api")]
#[cfg_attr(docsrs, doc(cfg(feature = "manage-api")))]
pub mod api;
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
use std::time::{Duration, SystemTime};

pub use self::error::ManageError;
pub use self::issued::IssuedKey;
pub use self::new_key::NewKey;
use self::new_key::expiry;
pub use self::principal::Principal;
use crate::clock::{Clock, SystemClock, to_milliseconds};
use crate::digest::Hashing;
use crate::events::{KeyEvent, KeyEvents, Listeners};
use crate::record::{AccountId, Actor, KeyId, KeyName, KeyPrefix, KeyRecord};
use crate::store::{Day, KeyRegistry, KeyUsage, NewSecret, StoreError, Written};

/// Active keys an account may have, unless the manager is told otherwise.
pub const DEFAULT_KEY_LIMIT: usize = 25;

/// New keys are tried this often when a fingerprint is taken. With 10⁹ keys in a store one try fails
/// with probability 10⁹ / 2⁶⁴ ≈ 5·10⁻¹¹; a second failure in a row is a broken generator or store.
const ATTEMPTS: usize = 4;

/// What an account can do with its keys.
#[derive(Clone)]
pub struct KeyManager {
    registry: Arc<dyn KeyRegistry>,
    prefix: KeyPrefix,
    limit: usize,
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

    /// A write that every replica knows when it returns; also when there was nothing to do, because
    /// somebody else may have done it a moment ago.
    async fn settled<T>(
        &self,
        write: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let written = write.await?;
        if self.settles {
            self.settle().await;
        }
        Ok(written)
    }

    /// How many active keys an account may have; [`DEFAULT_KEY_LIMIT`] unless set. Expired keys do
    /// not count. Keys that are there already stay when the limit is lowered.
    #[must_use]
    pub fn with_limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// The clock; the system's unless set.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// How digests of keys are made; SHA-256 unless set. **The layer must be told the same**, in every
    /// process, or it knows none of the keys that are made here: [`digest::hashing`](crate::digest::hashing)
    /// says more.
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

    /// Makes a key.
    ///
    /// # Errors
    ///
    /// [`LimitReached`](ManageError::LimitReached) at the cap, [`InvalidExpiry`](ManageError::InvalidExpiry)
    /// unless the expiry is ahead and before the year 10000, with an idempotency key
    /// [`AlreadyMade`](ManageError::AlreadyMade) and [`Reused`](ManageError::Reused), and what every call
    /// may return: [`Store`](ManageError::Store) and, where a key is made,
    /// [`Randomness`](ManageError::Randomness).
    pub async fn create(&self, account: &AccountId, new: NewKey) -> Result<IssuedKey, ManageError> {
        let now = self.now();
        // First, because what was wanted then may be wrong now: an expiry that has come, a full account.
        self.refuse_repeat(account, &new).await?;
        let new = new.settled(now)?;
        for _ in 0..ATTEMPTS {
            let issued = self.draft(account, &new, now)?;
            let written =
                self.settled(self.registry.insert(Arc::clone(&issued.record), self.limit)).await?;
            if !matches!(written, Written::Done(())) {
                // Full, or taken: by the same call, at the same time?
                self.refuse_repeat(account, &new).await?;
            }
            if self.outcome(written)?.is_some() {
                return Ok(self.created(issued));
            }
        }
        Err(ManageError::NoFreeKey)
    }

    /// An error where an earlier call with the same idempotency key has made its key.
    async fn refuse_repeat(&self, account: &AccountId, new: &NewKey) -> Result<(), ManageError> {
        let Some(id) = new.idempotent_id(account)? else { return Ok(()) };
        match self.registry.get(account, &id).await? {
            None => Ok(()),
            Some(earlier) => Err(new.made_before(earlier)),
        }
    }

    /// Makes the account's first key, if it never had one; of any number of calls at once, one makes
    /// it. An account that deleted all its keys gets none: deleting is not undone by a visit.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create), but for the cap.
    pub async fn create_first(
        &self,
        account: &AccountId,
        new: NewKey,
    ) -> Result<Option<IssuedKey>, ManageError> {
        let now = self.now();
        let new = new.settled(now)?;
        for _ in 0..ATTEMPTS {
            let issued = self.draft(account, &new, now)?;
            match self.settled(self.registry.insert_first(Arc::clone(&issued.record))).await? {
                Written::Refused => return Ok(None),
                written if self.outcome(written)?.is_some() => {
                    return Ok(Some(self.created(issued)));
                }
                _ => {}
            }
        }
        Err(ManageError::NoFreeKey)
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

    /// Gives a key another name.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ManageError::NotFound), [`Store`](ManageError::Store).
    pub async fn rename(
        &self,
        account: &AccountId,
        id: &KeyId,
        name: KeyName,
    ) -> Result<Arc<KeyRecord>, ManageError> {
        let renamed = self.settled(self.registry.rename(account, id, name)).await?;
        let record = self.outcome(renamed)?.ok_or(ManageError::NotFound)?;
        self.log("key renamed", &record);
        self.listeners.tell(&KeyEvent::Renamed { key: &record, by: self.actor.as_ref() });
        Ok(record)
    }

    /// Gives a key a new secret: same id, name and expiry. The old secret is dead when this returns.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ManageError::NotFound); [`Expired`](ManageError::Expired) and
    /// [`AlreadyRotated`](ManageError::AlreadyRotated), because the new secret would be dead at once or
    /// soon; and as [`create`](Self::create), but for the cap.
    pub async fn regenerate(
        &self,
        account: &AccountId,
        id: &KeyId,
    ) -> Result<IssuedKey, ManageError> {
        let now = self.now();
        let old = self.replaceable(account, id, now).await?;
        for _ in 0..ATTEMPTS {
            let key = generate::key(&self.prefix, old.environment.as_ref())?;
            let secret = NewSecret::new(self.hashing.digest(key.text()), key.hint());
            let replaced = self.settled(self.registry.replace(account, id, secret, now)).await?;
            if let Some(record) = self.outcome(replaced)? {
                self.log("key regenerated", &record);
                self.listeners
                    .tell(&KeyEvent::Regenerated { key: &record, by: self.actor.as_ref() });
                return Ok(IssuedKey { record, key });
            }
        }
        Err(ManageError::NoFreeKey)
    }

    /// Makes a new key beside an old one, which goes on working for `grace` and then expires;
    /// sooner, if it was to expire sooner. With a grace of zero it is deleted in the same step.
    ///
    /// The new key has the old one's name, environment, scopes and sources, and, if that one was to expire,
    /// its whole lifetime again. While both work, both count towards the cap.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ManageError::NotFound); [`Expired`](ManageError::Expired);
    /// [`AlreadyRotated`](ManageError::AlreadyRotated), so that a call that is repeated because its
    /// answer was lost does not make a second successor;
    /// [`LimitReached`](ManageError::LimitReached) when there is no room for both (a grace of zero
    /// needs none); [`InvalidExpiry`](ManageError::InvalidExpiry) when the grace ends past the year
    /// 9999; and as [`create`](Self::create).
    pub async fn rotate(
        &self,
        account: &AccountId,
        id: &KeyId,
        grace: Duration,
    ) -> Result<IssuedKey, ManageError> {
        let now = self.now();
        let old = self.replaceable(account, id, now).await?;
        let new = NewKey::successor_of(&old, now)?;
        let grace_ends = match grace {
            Duration::ZERO => None,
            grace => Some(expiry(now.checked_add(grace))?),
        };
        for _ in 0..ATTEMPTS {
            let issued = self.draft(account, &new, now)?;
            let successor = Arc::clone(&issued.record);
            let rotated = self
                .settled(self.registry.rotate(account, id, successor, grace_ends, self.limit))
                .await?;
            if self.outcome(rotated)?.is_some() {
                self.log("key rotated", &old);
                self.log("key created", &issued.record);
                let (successor, by) = (&*issued.record, self.actor.as_ref());
                self.listeners.tell(&KeyEvent::Rotated { key: &old, successor, by });
                return Ok(issued);
            }
        }
        Err(ManageError::NoFreeKey)
    }

    /// Deletes a key, for good: it is dead when this returns. Its name, account, id and fingerprint
    /// stay as a tombstone, so that a later attempt is put down to it.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ManageError::NotFound), also the second time; [`Store`](ManageError::Store).
    pub async fn delete(&self, account: &AccountId, id: &KeyId) -> Result<(), ManageError> {
        let name = self.name_to_tell(account, id).await;
        let deleted = self.settled(self.registry.delete(account, id, self.now())).await?;
        self.outcome(deleted)?.ok_or(ManageError::NotFound)?;
        let by = self.actor.as_ref();
        let actor = by.map(Actor::as_str);
        tracing::info!(target: "tower_api_key", key_id = %id, account = account.as_str(), actor, "key deleted");
        self.listeners.tell(&KeyEvent::Deleted { account, key: id, name: name.as_ref(), by });
        Ok(())
    }

    /// What a key is called that is about to be deleted, if somebody is told of it and it can be had.
    async fn name_to_tell(&self, account: &AccountId, id: &KeyId) -> Option<KeyName> {
        if self.listeners.is_empty() {
            return None;
        }
        let record = self.registry.get(account, id).await.ok().flatten();
        record.map(|record| record.name.clone())
    }

    /// Deletes every key of an account, when the account is closed, and says how many there were.
    ///
    /// # Errors
    ///
    /// [`Store`](ManageError::Store).
    pub async fn delete_all(&self, account: &AccountId) -> Result<usize, ManageError> {
        let deleted = self.settled(self.registry.delete_all(account, self.now())).await?;
        let by = self.actor.as_ref();
        let actor = by.map(Actor::as_str);
        tracing::info!(target: "tower_api_key", deleted, account = account.as_str(), actor, "all keys of the account deleted");
        self.listeners.tell(&KeyEvent::DeletedAll { account, count: deleted, by });
        Ok(deleted)
    }

    /// A key that a new secret can take the place of.
    async fn replaceable(
        &self,
        account: &AccountId,
        id: &KeyId,
        now: SystemTime,
    ) -> Result<Arc<KeyRecord>, ManageError> {
        let key = self.get(account, id).await?;
        match (key.is_expired(now), &key.replaced_by) {
            (true, _) => Err(ManageError::Expired),
            (false, Some(_)) => Err(ManageError::AlreadyRotated),
            (false, None) => Ok(key),
        }
    }

    /// A new key and its record; not stored yet.
    fn draft(
        &self,
        account: &AccountId,
        new: &NewKey,
        now: SystemTime,
    ) -> Result<IssuedKey, ManageError> {
        let key = generate::key(&self.prefix, new.environment.as_ref())?;
        let digest = self.hashing.digest(key.text());
        let record = KeyRecord {
            environment: new.environment.clone(),
            scopes: new.scopes.clone(),
            sources: new.sources.clone(),
            hint: key.hint(),
            expires_at: new.expires_at,
            ..KeyRecord::new(new.id(account)?, account.clone(), new.name.clone(), digest, now)
        };
        Ok(IssuedKey { record: Arc::new(record), key })
    }

    /// What a write gave, or `None` when another key must be tried.
    fn outcome<T>(&self, written: Written<T>) -> Result<Option<T>, ManageError> {
        match written {
            Written::Done(value) => Ok(Some(value)),
            Written::Taken => Ok(None),
            Written::NotFound => Err(ManageError::NotFound),
            Written::Superseded => Err(ManageError::AlreadyRotated),
            Written::Refused => Err(ManageError::LimitReached { limit: self.limit }),
        }
    }

    fn created(&self, issued: IssuedKey) -> IssuedKey {
        self.log("key created", &issued.record);
        self.listeners.tell(&KeyEvent::Created { key: &issued.record, by: self.actor.as_ref() });
        issued
    }

    fn log(&self, what: &'static str, record: &KeyRecord) {
        tracing::info!(
            target: "tower_api_key",
            key_id = %record.id,
            key_name = record.name.as_str(),
            account = record.account.as_str(),
            fingerprint = %record.fingerprint(),
            actor = self.actor.as_ref().map(Actor::as_str),
            "{what}"
        );
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

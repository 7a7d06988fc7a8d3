//! What changes keys. A change that has begun goes on to its end when its caller goes away, so that what is
//! written is also logged, told, and known to every replica.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tracing::Instrument as _;
use tracing::instrument::WithSubscriber as _;

use super::new_key::expiry;
use super::{EXPIRED_KEY_LIMIT, IssuedKey, KeyManager, ManageError, NewKey, generate};
use crate::events::KeyEvent;
use crate::record::{AccountId, Actor, Environment, KeyId, KeyName, KeyRecord};
use crate::store::{NewSecret, StoreError, Written};

/// New keys are tried this often when a fingerprint is taken. With 10⁹ keys in a store one try fails
/// with probability 10⁹ / 2⁶⁴ ≈ 5·10⁻¹¹; a second failure in a row is a broken generator or store.
const ATTEMPTS: usize = 4;

impl KeyManager {
    /// Makes a key.
    ///
    /// # Errors
    ///
    /// [`LimitReached`](ManageError::LimitReached) at the cap, [`InvalidExpiry`](ManageError::InvalidExpiry)
    /// unless the expiry is ahead and before the year 10000, for a key that expires
    /// [`TooManyExpired`](ManageError::TooManyExpired), for one of an environment that is not
    /// [named](Self::with_environments) [`NoSuchEnvironment`](ManageError::NoSuchEnvironment), with an idempotency key
    /// [`AlreadyMade`](ManageError::AlreadyMade) and [`Reused`](ManageError::Reused), and what every call
    /// may return: [`Store`](ManageError::Store) and, where a key is made,
    /// [`Randomness`](ManageError::Randomness).
    pub async fn create(&self, account: &AccountId, new: NewKey) -> Result<IssuedKey, ManageError> {
        let account = account.clone();
        self.to_the_end(async move |manager| {
            let now = manager.now();
            // First, because what was wanted then may be wrong now: an expiry that has come, a full account.
            manager.refuse_repeat(&account, &new).await?;
            let new = new.settled(now)?;
            manager.refuse_other_environments(new.environment.as_ref())?;
            if new.expires_at.is_some() {
                manager.refuse_more_expired(&account, now).await?;
            }
            for _ in 0..ATTEMPTS {
                let issued = manager.draft(&account, &new, now)?;
                let inserted = manager.registry.insert(Arc::clone(&issued.record), manager.limit);
                let written = manager.settled(inserted).await?;
                if !matches!(written, Written::Done(())) {
                    // Full, or taken: by the same call, at the same time?
                    manager.refuse_repeat(&account, &new).await?;
                }
                if manager.outcome(written)?.is_some() {
                    return Ok(manager.created(issued));
                }
            }
            Err(ManageError::NoFreeKey)
        })
        .await
    }

    /// An error where an earlier call with the same idempotency key has made its key.
    async fn refuse_repeat(&self, account: &AccountId, new: &NewKey) -> Result<(), ManageError> {
        let Some(id) = new.idempotent_id(account)? else { return Ok(()) };
        match self.registry.get(account, &id).await? {
            None => Ok(()),
            Some(earlier) => Err(new.made_before(earlier)),
        }
    }

    /// An error for a key that no layer would take. Of what is imported and rotated nobody asks this: it is there.
    fn refuse_other_environments(&self, wanted: Option<&Environment>) -> Result<(), ManageError> {
        match (wanted, &self.environments) {
            (Some(wanted), Some(known)) if !known.contains(wanted) => {
                Err(ManageError::NoSuchEnvironment { known: Arc::clone(known) })
            }
            _ => Ok(()),
        }
    }

    /// An error while the account lists too many expired keys for one more. Beside the write and not in it:
    /// the cost of a list wants a bound, and no exact one.
    async fn refuse_more_expired(
        &self,
        account: &AccountId,
        now: SystemTime,
    ) -> Result<(), ManageError> {
        let listed = self.list(account).await?;
        let expired = listed.iter().filter(|key| key.is_expired(now)).count();
        if expired >= EXPIRED_KEY_LIMIT / 10 * 9 {
            // Before it stops a program that nobody watches.
            tracing::warn!(
                target: "tower_api_key", account = account.as_str(), expired, most = EXPIRED_KEY_LIMIT,
                "an account lists very many expired keys: delete them, or soon none can be made that expires",
            );
        }
        if expired < EXPIRED_KEY_LIMIT { Ok(()) } else { Err(ManageError::TooManyExpired) }
    }

    /// Makes the account's first key, if it never had one; of any number of calls at once, one makes
    /// it. An account that deleted all its keys gets none: deleting is not undone by a visit. Nor does one
    /// whose limit is 0, for as long as it is. Whether somebody may be shown a key of these scopes is the
    /// caller's to ask, as of [`create`](Self::create).
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create), but for the cap.
    pub async fn create_first(
        &self,
        account: &AccountId,
        new: NewKey,
    ) -> Result<Option<IssuedKey>, ManageError> {
        let account = account.clone();
        self.to_the_end(async move |manager| {
            let now = manager.now();
            let new = new.settled(now)?;
            manager.refuse_other_environments(new.environment.as_ref())?;
            // The store asks only whether it is the first, which any other limit has room for.
            if manager.limit == 0 {
                return Ok(None);
            }
            for _ in 0..ATTEMPTS {
                let issued = manager.draft(&account, &new, now)?;
                let inserted = manager.registry.insert_first(Arc::clone(&issued.record));
                match manager.settled(inserted).await? {
                    Written::Refused => return Ok(None),
                    written if manager.outcome(written)?.is_some() => {
                        return Ok(Some(manager.created(issued)));
                    }
                    _ => {}
                }
            }
            Err(ManageError::NoFreeKey)
        })
        .await
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
        let (account, id) = (account.clone(), id.clone());
        self.to_the_end(async move |manager| {
            let renamed = manager.settled(manager.registry.rename(&account, &id, name)).await?;
            let record = manager.outcome(renamed)?.ok_or(ManageError::NotFound)?;
            manager.log("key renamed", &record);
            manager.tell(&KeyEvent::Renamed { key: &record, by: manager.actor.as_ref() });
            Ok(record)
        })
        .await
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
        let (account, id) = (account.clone(), id.clone());
        self.to_the_end(async move |manager| {
            let now = manager.now();
            let old = manager.replaceable(&account, &id, now).await?;
            for _ in 0..ATTEMPTS {
                let key = generate::key(&manager.prefix, old.environment.as_ref())?;
                let secret = NewSecret::new(manager.hashing.digest(key.text()), key.hint());
                let replaced = manager.registry.replace(&account, &id, secret, now);
                let replaced = manager.settled(replaced).await?;
                if let Some(record) = manager.outcome(replaced)? {
                    manager.log("key regenerated", &record);
                    let by = manager.actor.as_ref();
                    manager.tell(&KeyEvent::Regenerated { key: &record, by });
                    return Ok(IssuedKey { record, key });
                }
            }
            Err(ManageError::NoFreeKey)
        })
        .await
    }

    /// Makes a new key beside an old one, which goes on working for `grace` and then expires;
    /// sooner, if it was to expire sooner. With a grace of zero it is deleted in the same step.
    ///
    /// The new key has the old one's name, environment, scopes and sources, and, if that one was to expire,
    /// its whole lifetime again, up to the end of the year 9999. While both work, both count towards the cap.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ManageError::NotFound); [`Expired`](ManageError::Expired);
    /// [`AlreadyRotated`](ManageError::AlreadyRotated), so that a call that is repeated because its
    /// answer was lost does not make a second successor;
    /// [`LimitReached`](ManageError::LimitReached) when the account would then have more active keys than
    /// its limit: with a grace, when there is no room for both; with a grace of zero, which takes no room,
    /// only where the limit was lowered below the number of keys that are active;
    /// [`TooManyExpired`](ManageError::TooManyExpired) with a grace, which leaves an expired key behind;
    /// [`InvalidExpiry`](ManageError::InvalidExpiry) when the grace ends past the year
    /// 9999; and as [`create`](Self::create).
    pub async fn rotate(
        &self,
        account: &AccountId,
        id: &KeyId,
        grace: Duration,
    ) -> Result<IssuedKey, ManageError> {
        let (account, id) = (account.clone(), id.clone());
        self.to_the_end(async move |manager| {
            let now = manager.now();
            let old = manager.replaceable(&account, &id, now).await?;
            let new = NewKey::successor_of(&old, now)?;
            let ends = match grace {
                Duration::ZERO => None,
                grace => Some(expiry(now.checked_add(grace))?),
            };
            if ends.is_some() {
                manager.refuse_more_expired(&account, now).await?;
            }
            for _ in 0..ATTEMPTS {
                let issued = manager.draft(&account, &new, now)?;
                let successor = Arc::clone(&issued.record);
                let rotated =
                    manager.registry.rotate(&account, &id, successor, ends, manager.limit);
                let rotated = manager.settled(rotated).await?;
                if manager.outcome(rotated)?.is_some() {
                    manager.log("key rotated", &old);
                    manager.log("key created", &issued.record);
                    let (successor, by) = (&*issued.record, manager.actor.as_ref());
                    manager.tell(&KeyEvent::Rotated { key: &old, successor, by });
                    return Ok(issued);
                }
            }
            Err(ManageError::NoFreeKey)
        })
        .await
    }

    /// Deletes a key, for good: it is dead when this returns. Its name, account, id and fingerprint
    /// stay as a tombstone, so that a later attempt is put down to it.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ManageError::NotFound), also the second time; [`Store`](ManageError::Store).
    pub async fn delete(&self, account: &AccountId, id: &KeyId) -> Result<(), ManageError> {
        let (account, id) = (account.clone(), id.clone());
        self.to_the_end(async move |manager| {
            let name = manager.name_to_tell(&account, &id).await;
            let deleted = manager.registry.delete(&account, &id, manager.now());
            let deleted = manager.settled(deleted).await?;
            manager.outcome(deleted)?.ok_or(ManageError::NotFound)?;
            let by = manager.actor.as_ref();
            let actor = by.map(Actor::as_str);
            tracing::info!(target: "tower_api_key", key_id = %id, account = account.as_str(), actor, "key deleted");
            let (account, key, name) = (&account, &id, name.as_ref());
            manager.tell(&KeyEvent::Deleted { account, key, name, by });
            Ok(())
        })
        .await
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
        let account = account.clone();
        self.to_the_end(async move |manager| {
            let deleted = manager.registry.delete_all(&account, manager.now());
            let deleted = manager.settled(deleted).await?;
            let by = manager.actor.as_ref();
            let actor = by.map(Actor::as_str);
            tracing::info!(target: "tower_api_key", deleted, account = account.as_str(), actor, "all keys of the account deleted");
            manager.tell(&KeyEvent::DeletedAll { account: &account, count: deleted, by });
            Ok(deleted)
        })
        .await
    }

    /// Runs a change to its end, whether or not anybody waits for it: a store may have written what it was
    /// told by somebody who has gone. Where there is no runtime of tokio's, only whoever waits carries it on.
    pub(super) async fn to_the_end<T, C>(
        &self,
        change: impl FnOnce(Self) -> C,
    ) -> Result<T, ManageError>
    where
        T: Send + 'static,
        C: Future<Output = Result<T, ManageError>> + Send + 'static,
    {
        let change = change(self.clone()).in_current_span().with_current_subscriber();
        let Ok(runtime) = Handle::try_current() else { return change.await };
        match runtime.spawn(change).await.map_err(tokio::task::JoinError::try_into_panic) {
            Ok(done) => done,
            Err(Ok(panic)) => resume_unwind(panic),
            Err(Err(stopped)) => Err(StoreError::unavailable("runtime", stopped).into()),
        }
    }

    /// A write that every replica knows when it returns; also when there was nothing to do, because
    /// somebody else may have done it a moment ago.
    pub(super) async fn settled<T>(
        &self,
        write: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let written = write.await?;
        if self.settles {
            self.settle().await;
        }
        Ok(written)
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
        self.tell(&KeyEvent::Created { key: &issued.record, by: self.actor.as_ref() });
        issued
    }

    pub(super) fn tell(&self, event: &KeyEvent<'_>) {
        self.listeners.tell(event);
    }

    pub(super) fn log(&self, what: &'static str, record: &KeyRecord) {
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
}

//! Another store's answers, kept in memory for a while. Knows no particular store, no verification and
//! no HTTP.
//!
//! **Within this process a write is final when it returns**: no lookup that starts afterwards is
//! answered from before it. For this, everything that writes must do it through the same
//! [`CachedStore`] (or clones of it) that the layer reads from.
//!
//! **Another process's writes are seen late**: a key that was deleted elsewhere works here until what
//! is cached of it is [`max_age`](CacheSettings::max_age) old, 30 seconds unless set, and a key that
//! was made elsewhere may be unknown for [`unknown_max_age`](CacheSettings::unknown_max_age). The same
//! goes for writes to the inner store itself.
//!
//! That there is no such key is cached, too. That the store failed or did not answer never is.

mod entries;
mod flights;
mod settings;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use self::flights::Flights;
pub use self::settings::CacheSettings;
use super::{Changes, KeyRegistry, KeyStore, Lookup, NewSecret, StoreError, Use, Version, Written};
use crate::clock::{Monotonic, SystemClock};
use crate::digest::Fingerprint;
use crate::record::{AccountId, KeyId, KeyName, KeyRecord};

/// A store whose answers are kept in memory for a while; clones share what they keep.
///
/// ```no_run
/// use tower_api_key::{ApiKeyLayer, CacheSettings, CachedStore, KeyManager, SqliteStore};
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = CachedStore::new(SqliteStore::open("keys.db").await?, CacheSettings::default());
/// // Both over the same one: only what is deleted through it is gone from it at once.
/// let manager = KeyManager::new(store.clone(), "acme".parse()?);
/// let layer = ApiKeyLayer::new(store);
/// # Ok(()) }
/// ```
///
/// Of any number of requests for a key that is not in memory, one asks the store and the others wait
/// for its answer. Lists and single records ([`list`](KeyRegistry::list), [`get`](KeyRegistry::get))
/// are never cached, and a cached record's `last_used_at` is as old as the record.
///
/// A write that has begun is finished in the background when its future is dropped; writing
/// therefore needs a Tokio runtime.
pub struct CachedStore<S> {
    store: Arc<S>,
    clock: Arc<dyn Monotonic>,
    flights: Arc<Flights>,
    /// The store's version up to which all changes are gone from what is kept.
    applied: Arc<AtomicU64>,
}

impl<S> CachedStore<S> {
    /// A cache with nothing in it.
    pub fn new(store: S, settings: CacheSettings) -> Self {
        Self::with_clock(store, settings, SystemClock)
    }

    /// As [`new`](Self::new), with a clock for the ages: a [`ManualClock`](crate::ManualClock) in
    /// tests.
    pub fn with_clock(store: S, settings: CacheSettings, clock: impl Monotonic) -> Self {
        Self {
            store: Arc::new(store),
            clock: Arc::new(clock),
            flights: Arc::new(Flights::new(&settings)),
            // Beyond any version: the first write finds that everything since was forgotten. That
            // drops what is kept, which is at most `max_age` old anyway, and names the version.
            applied: Arc::new(AtomicU64::new(u64::MAX)),
        }
    }
}

impl<S: KeyStore> KeyStore for CachedStore<S> {
    fn find(&self, fingerprint: Fingerprint) -> Lookup {
        // Before the store is asked, so that ages count from there.
        let now = self.clock.elapsed();
        if let Some(found) = self.flights.known(fingerprint, now) {
            return Lookup::ready(found);
        }
        let store = Arc::clone(&self.store);
        self.flights.join_or_begin(fingerprint, now, move || store.find(fingerprint))
    }
}

impl<S: KeyRegistry> CachedStore<S> {
    /// Runs a write, and drops from the cache what it touched, before it returns. Both run to their
    /// end even when the caller goes away: a key that was deleted must not stay because nobody waited
    /// for the answer.
    async fn write<T: Send + 'static>(
        &self,
        write: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let cached = self.clone();
        let task = tokio::spawn(async move {
            let doubt = Doubt { flights: &cached.flights, settled: false };
            let written = write.await;
            // Also after an error: the store may have done it all the same.
            cached.catch_up(doubt).await;
            written
        });
        task.await.unwrap_or_else(|stopped| Err(StoreError::unavailable("cached", stopped)))
    }

    /// Drops what was written since the last time, by whomever. Several of these may overlap: each
    /// drops everything from a version that was applied up to the one that it then notes as applied,
    /// so the noted version is true whoever notes last.
    async fn catch_up(&self, mut doubt: Doubt<'_>) {
        let since = Version::new(self.applied.load(Ordering::Acquire));
        let latest = match self.store.changes(since).await {
            Ok(Changes::Known { latest, changes }) => {
                for change in changes {
                    self.flights.forget(change.fingerprint);
                }
                doubt.settled = true;
                latest
            }
            Ok(Changes::Forgotten { latest }) => latest,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the whole cache was dropped: what a write has changed could not be read"
                );
                return;
            }
        };
        drop(doubt);
        self.applied.store(latest.get(), Ordering::Release);
    }
}

/// While it lasts, something may have been written that is cached as it was before. Unless that is
/// settled, everything goes: also when the write panics, or its runtime is shut down under it.
struct Doubt<'a> {
    flights: &'a Flights,
    settled: bool,
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        if !self.settled {
            self.flights.forget_all();
        }
    }
}

#[async_trait::async_trait]
impl<S: KeyRegistry> KeyRegistry for CachedStore<S> {
    async fn insert(
        &self,
        record: Arc<KeyRecord>,
        limit: usize,
    ) -> Result<Written<()>, StoreError> {
        let store = Arc::clone(&self.store);
        self.write(async move { store.insert(record, limit).await }).await
    }

    async fn insert_first(&self, record: Arc<KeyRecord>) -> Result<Written<()>, StoreError> {
        let store = Arc::clone(&self.store);
        self.write(async move { store.insert_first(record).await }).await
    }

    /// Not cached: a list that shows a key after it was deleted invites deleting it again.
    async fn list(&self, account: &AccountId) -> Result<Vec<Arc<KeyRecord>>, StoreError> {
        self.store.list(account).await
    }

    async fn get(
        &self,
        account: &AccountId,
        id: &KeyId,
    ) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.store.get(account, id).await
    }

    async fn rename(
        &self,
        account: &AccountId,
        id: &KeyId,
        name: KeyName,
    ) -> Result<Written<Arc<KeyRecord>>, StoreError> {
        let (store, account, id) = (Arc::clone(&self.store), account.clone(), id.clone());
        self.write(async move { store.rename(&account, &id, name).await }).await
    }

    async fn replace(
        &self,
        account: &AccountId,
        id: &KeyId,
        secret: NewSecret,
        at: SystemTime,
    ) -> Result<Written<Arc<KeyRecord>>, StoreError> {
        let (store, account, id) = (Arc::clone(&self.store), account.clone(), id.clone());
        self.write(async move { store.replace(&account, &id, secret, at).await }).await
    }

    async fn rotate(
        &self,
        account: &AccountId,
        id: &KeyId,
        successor: Arc<KeyRecord>,
        grace_ends: Option<SystemTime>,
        limit: usize,
    ) -> Result<Written<()>, StoreError> {
        let (store, account, id) = (Arc::clone(&self.store), account.clone(), id.clone());
        self.write(async move { store.rotate(&account, &id, successor, grace_ends, limit).await })
            .await
    }

    async fn delete(
        &self,
        account: &AccountId,
        id: &KeyId,
        at: SystemTime,
    ) -> Result<Written<()>, StoreError> {
        let (store, account, id) = (Arc::clone(&self.store), account.clone(), id.clone());
        self.write(async move { store.delete(&account, &id, at).await }).await
    }

    async fn delete_all(&self, account: &AccountId, at: SystemTime) -> Result<usize, StoreError> {
        let (store, account) = (Arc::clone(&self.store), account.clone());
        self.write(async move { store.delete_all(&account, at).await }).await
    }

    /// Drops nothing: a note of use changes nothing that admits or refuses.
    async fn mark_used(&self, uses: &[Use]) -> Result<(), StoreError> {
        self.store.mark_used(uses).await
    }

    async fn changes(&self, since: Version) -> Result<Changes, StoreError> {
        self.store.changes(since).await
    }
}

impl<S> Clone for CachedStore<S> {
    fn clone(&self) -> Self {
        Self {
            store: Arc::clone(&self.store),
            clock: Arc::clone(&self.clock),
            flights: Arc::clone(&self.flights),
            applied: Arc::clone(&self.applied),
        }
    }
}

impl<S> std::fmt::Debug for CachedStore<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CachedStore").finish_non_exhaustive()
    }
}

//! Another store's answers, kept in memory for a while. Knows no particular store, no verification and
//! no HTTP.

mod entries;
mod flights;
mod lease;
mod replica;
mod settings;
/// What takes another form where loom tries every order of what threads do.
mod sync {
    pub(super) use std::sync::atomic::{AtomicU64, Ordering};
    pub(super) use std::sync::{Mutex, MutexGuard};

    /// Among how many boards the reads under way are spread.
    pub(super) const BOARDS: usize = 64;
}
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use self::flights::Flights;
use self::lease::Lease;
pub use self::replica::ReplicaStatus;
use self::replica::{Keeper, Replica};
pub use self::settings::CacheSettings;
use super::turns::Turns;
use super::{
    Changes, Day, KeyRegistry, KeyStore, KeyUsage, Lookup, NewSecret, SharedRegistry, StoreError,
    Use, Version, Written,
};
use crate::clock::{Monotonic, SystemClock};
use crate::digest::{Fingerprint, KeyDigest};
use crate::record::{AccountId, KeyId, KeyName, KeyRecord};

/// A store whose answers are kept in memory for a while; clones share what they keep.
///
/// ```no_run
/// use tower_api_key::{ApiKeyLayer, CacheSettings, CachedStore, KeyManager, SqliteStore};
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = SqliteStore::open("keys.db").await?;
/// let store = CachedStore::shared(store, CacheSettings::default()).await;
/// let manager = KeyManager::new(store.clone(), "acme".parse()?);
/// let layer = ApiKeyLayer::new(store);
/// # Ok(()) }
/// ```
///
/// Of any number of requests for a key that is not in memory, one asks the store and the others wait
/// for its answer. Lists and single records ([`list`](KeyRegistry::list), [`get`](KeyRegistry::get))
/// are never cached, nor is their [`usage`](KeyRegistry::usage), and what a cached record says of its last
/// use is as old as the record.
///
/// A write that has begun is finished in the background when its future is dropped; writing
/// therefore needs a Tokio runtime.
///
/// **Within this process a write is final when it returns**: no lookup that starts afterwards is
/// answered from before it. For this, everything that writes must do it through the same
/// [`CachedStore`] (or clones of it) that the layer reads from.
///
/// **Another process's writes** are final here when they are [settled](KeyRegistry::settle) there, if this
/// is one of several [`shared`](CachedStore::shared) caches. With [`alone`](CachedStore::alone), and for what
/// is written past every cache, they are seen late: a key that was deleted works here until what is cached
/// of it is [`max_age`](CacheSettings::max_age) old, 30 seconds unless set, and a new one may be unknown for
/// [`unknown_max_age`](CacheSettings::unknown_max_age).
///
/// That there is no such key is cached, too. That the store failed or did not answer never is.
pub struct CachedStore<S> {
    store: Arc<S>,
    clock: Arc<dyn Monotonic>,
    flights: Arc<Flights>,
    /// The store's version up to which this process's own writes are gone from what is kept.
    applied: Arc<AtomicU64>,
    /// Writes that end at once read once what they have changed.
    reading: Arc<Turns<Result<Changes, StoreError>>>,
    lease: Arc<Lease>,
    stale_for: Duration,
    shared: Option<Arc<Shared>>,
}

/// What there is where other processes share the store.
struct Shared {
    replica: Arc<Replica>,
    keeper: Keeper,
}

impl<S> CachedStore<S> {
    /// The cache of the only process that writes to the store; with nothing in it. What another one
    /// writes is seen when what is cached has aged.
    pub fn alone(store: S, settings: CacheSettings) -> Self {
        Self::alone_with_clock(store, settings, SystemClock)
    }

    /// As [`alone`](Self::alone), with a clock for the ages: a [`ManualClock`](crate::ManualClock) in
    /// tests.
    pub fn alone_with_clock(store: S, settings: CacheSettings, clock: impl Monotonic) -> Self {
        Self::with_lease(store, &settings, Arc::new(clock), Lease::endless())
    }

    fn with_lease(
        store: S,
        settings: &CacheSettings,
        clock: Arc<dyn Monotonic>,
        lease: Lease,
    ) -> Self {
        Self {
            store: Arc::new(store),
            clock,
            flights: Arc::new(Flights::new(settings)),
            // Beyond any version: the first write finds that everything since was forgotten. That
            // drops what is kept, which is at most `max_age` old anyway, and names the version.
            applied: Arc::new(AtomicU64::new(u64::MAX)),
            reading: Arc::default(),
            lease: Arc::new(lease),
            stale_for: settings.insecure_stale_for,
            shared: None,
        }
    }

    /// How this replica stands with the others; `None` for a cache that is [`alone`](Self::alone).
    #[must_use]
    pub fn status(&self) -> Option<ReplicaStatus> {
        self.shared.as_ref().map(|shared| shared.replica.status())
    }

    /// Stops keeping the lease, and takes this replica off the store's roll, so that no write waits
    /// for it. From then on every key is looked up in the store. Happens in the background when the
    /// last clone is dropped; at the end of a process, wait for this.
    pub async fn close(&self) {
        if let Some(shared) = &self.shared {
            shared.keeper.stop().await;
        }
    }
}

impl<S: SharedRegistry> CachedStore<S> {
    /// The cache of one replica of several that share a store: what any of them has written is seen
    /// by all when [`settle`](KeyRegistry::settle) returns, for which
    /// [`KeyManager`](crate::KeyManager) waits. [`docs::replicas`](crate::docs::replicas) says how.
    ///
    /// Starts a task that keeps this replica's lease until the last clone is dropped or
    /// [`close`](Self::close) is called, and returns when that has tried to get one, after a second at
    /// most. Without a lease, as while the store is down, every key is looked up in the store.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub async fn shared(store: S, settings: CacheSettings) -> Self {
        Self::shared_with_clock(store, settings, SystemClock).await
    }

    /// As [`shared`](Self::shared), with a clock for the lease and the ages: a
    /// [`ManualClock`](crate::ManualClock) in tests.
    pub async fn shared_with_clock(
        store: S,
        settings: CacheSettings,
        clock: impl Monotonic,
    ) -> Self {
        let clock: Arc<dyn Monotonic> = Arc::new(clock);
        let mut cached = Self::with_lease(store, &settings, Arc::clone(&clock), Lease::none());
        let (lease, flights) = (Arc::clone(&cached.lease), Arc::clone(&cached.flights));
        let replica = Arc::new(Replica::new(lease, flights, clock));
        let keeper = Keeper::start(Arc::clone(&replica), Arc::clone(&cached.store)).await;
        cached.shared = Some(Arc::new(Shared { replica, keeper }));
        cached
    }
}

impl<S: KeyStore> KeyStore for CachedStore<S> {
    fn find(&self, fingerprint: Fingerprint) -> Lookup {
        // Before the store is asked, so that ages count from there.
        let now = self.clock.elapsed();
        let store = Arc::clone(&self.store);
        if !self.lease.covers(now) {
            return self.without_lease(fingerprint, now);
        }
        if let Some(found) = self.flights.known(fingerprint, now) {
            return Lookup::ready(found);
        }
        self.flights.join_or_begin(fingerprint, now, move || store.find(fingerprint))
    }
}

impl<S: KeyStore> CachedStore<S> {
    /// Asks the store, whatever is in memory and whoever else is asking: that may be from before
    /// somebody else's write.
    fn without_lease(&self, fingerprint: Fingerprint, now: Duration) -> Lookup {
        let store = Arc::clone(&self.store);
        let asked = self.flights.begin(fingerprint, now, move || store.find(fingerprint));
        if now.saturating_sub(self.lease.end()) >= self.stale_for {
            return asked;
        }
        let (flights, stale_for) = (Arc::clone(&self.flights), self.stale_for);
        Lookup::waiting(async move {
            match asked.await {
                Err(error) => flights.stale(fingerprint, now, stale_for).unwrap_or(Err(error)),
                found => found,
            }
        })
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
        self.write_of(Touched::Anything, write).await
    }

    /// As [`write`](Self::write), where it is known what it can touch at the most.
    async fn write_of<T: Send + 'static>(
        &self,
        touched: Touched,
        write: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let cached = self.clone();
        let task = tokio::spawn(async move {
            let doubt = Doubt { flights: &cached.flights, touched };
            let written = write.await;
            // Also after an error: the store may have done it all the same.
            cached.catch_up(doubt).await;
            if let Some(shared) = &cached.shared {
                shared.replica.nudge();
            }
            written
        });
        task.await.unwrap_or_else(|stopped| Err(StoreError::unavailable("cached", stopped)))
    }

    /// Drops what was written since the last time, by whomever. Several of these may overlap: each
    /// drops everything from a version that was applied up to the one that it then notes as applied,
    /// so the noted version is true whoever notes last.
    async fn catch_up(&self, mut doubt: Doubt<'_>) {
        let changes = self.reading.ask(async {
            let since = Version::new(self.applied.load(Ordering::Acquire));
            self.store.changes(since).await
        });
        let latest = match changes.await {
            Ok(changes) => {
                self.flights.forget_changes(&changes);
                doubt.touched = Touched::Nothing;
                changes.latest()
            }
            Err(error) => {
                tracing::warn!(
                    target: "tower_api_key",
                    error = &error as &dyn std::error::Error,
                    "what a write has changed could not be read: all that it may be has left the cache"
                );
                return;
            }
        };
        drop(doubt);
        self.applied.store(latest.get(), Ordering::Release);
    }
}

/// While it lasts, something may have been written that is cached as it was before. Unless that is
/// settled, it goes: also when the write panics, or its runtime is shut down under it.
struct Doubt<'a> {
    flights: &'a Flights,
    touched: Touched,
}

/// What may be cached as it was before a write.
enum Touched {
    Nothing,
    These([Fingerprint; 2]),
    Anything,
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        match self.touched {
            Touched::Nothing => {}
            Touched::These(fingerprints) => {
                for fingerprint in fingerprints {
                    self.flights.forget(fingerprint);
                }
            }
            Touched::Anything => self.flights.forget_all(),
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

    /// Not cached: a list that shows a key after it was deleted invites deleting it again. And what
    /// is listed is found, also while the call that makes it has not returned.
    async fn list(&self, account: &AccountId) -> Result<Vec<Arc<KeyRecord>>, StoreError> {
        let records = self.store.list(account).await?;
        for record in &records {
            self.flights.forget_unless_live(record.fingerprint());
        }
        Ok(records)
    }

    async fn get(
        &self,
        account: &AccountId,
        id: &KeyId,
    ) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        let record = self.store.get(account, id).await?;
        if let Some(record) = &record {
            self.flights.forget_unless_live(record.fingerprint());
        }
        Ok(record)
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

    async fn rehash(
        &self,
        account: &AccountId,
        id: &KeyId,
        old: Fingerprint,
        digest: KeyDigest,
        at: SystemTime,
    ) -> Result<Written<Arc<KeyRecord>>, StoreError> {
        let (store, account, id) = (Arc::clone(&self.store), account.clone(), id.clone());
        // A request may bring this about, and an outage must not cost all other keys their memory. What
        // others wrote meanwhile is still to be heard of by the next write, as it was before this one.
        let touched = Touched::These([old, digest.fingerprint()]);
        self.write_of(touched, async move { store.rehash(&account, &id, old, digest, at).await })
            .await
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

    /// Not cached, and drops nothing either: it says nothing of what admits or refuses.
    async fn usage(&self, account: &AccountId, since: Day) -> Result<Vec<KeyUsage>, StoreError> {
        self.store.usage(account, since).await
    }

    /// Whoever has seen a version finds what it wrote: what changed is dropped before it is told.
    async fn changes(&self, since: Version) -> Result<Changes, StoreError> {
        let changes = self.store.changes(since).await?;
        self.flights.forget_changes(&changes);
        Ok(changes)
    }

    async fn settle(&self) {
        self.store.settle().await;
    }
}

impl<S> Clone for CachedStore<S> {
    fn clone(&self) -> Self {
        Self {
            store: Arc::clone(&self.store),
            clock: Arc::clone(&self.clock),
            flights: Arc::clone(&self.flights),
            applied: Arc::clone(&self.applied),
            reading: Arc::clone(&self.reading),
            lease: Arc::clone(&self.lease),
            stale_for: self.stale_for,
            shared: self.shared.clone(),
        }
    }
}

impl<S> std::fmt::Debug for CachedStore<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CachedStore").finish_non_exhaustive()
    }
}

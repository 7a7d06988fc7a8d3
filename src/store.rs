//! Where keys are kept: what verification needs ([`KeyStore`]) and what management needs
//! ([`KeyRegistry`]). Knows no HTTP and compares no digest.
//!
//! The traits have no default methods: a decorator that forgets to forward one does not compile.
//! `Ok(None)` means *no such key*, `Err` means *the store is broken*, and the layer answers the two
//! differently (401 and 503).
//!
//! # Writing a store
//!
//! Verification alone needs one method, which returns a [`Lookup`]: [`Lookup::ready`] when the answer
//! is in memory, which costs no allocation, or [`Lookup::waiting`] with a future when it is not. The
//! future must not borrow from the store: clone into it what it needs, a pool or an `Arc`.
//!
//! ```
//! use std::{collections::HashMap, sync::Arc};
//! use tokio::sync::RwLock;
//! use tower_api_key::{ApiKeyLayer, Entry, Fingerprint, KeyFormat, KeyStore, Lookup};
//!
//! /// Keys that something else reloads now and then.
//! struct Reloaded(Arc<RwLock<HashMap<Fingerprint, Entry>>>);
//!
//! impl KeyStore for Reloaded {
//!     fn find(&self, fingerprint: Fingerprint) -> Lookup {
//!         let keys = Arc::clone(&self.0);
//!         Lookup::waiting(async move { Ok(keys.read().await.get(&fingerprint).cloned()) })
//!     }
//! }
//!
//! // Keys that were not made by `KeyManager` have no checksum: say so, or they are refused.
//! let layer = ApiKeyLayer::new(Reloaded(Arc::default())).with_key_format(KeyFormat::Any);
//! ```
//!
//! `examples/custom_store.rs` is a whole program. To let a [`KeyManager`](crate::KeyManager) make and
//! delete keys in a store of your own, implement [`KeyRegistry`] as well; [`MemoryStore`] is the one
//! to read first.
//!
//! What these docs promise of a registry is checked by code: with the feature `testing`, one line in
//! your tests examines your store as this crate's own are examined.
//!
#![cfg_attr(feature = "testing", doc = "```")]
#![cfg_attr(not(feature = "testing"), doc = "```ignore")]
//! # use tower_api_key::MemoryStore as MyStore;
//! use tower_api_key::store::contract::Subject;
//!
//! tower_api_key::store_contract!(my_store, async || Subject::new(MyStore::new()));
//! # fn main() {}
//! ```
//!
//! It becomes a module of tests, one a promise, such as `my_store::the_cap_holds_under_races`; the
//! module `store::contract` says more.

mod arc;
#[cfg(feature = "cache")]
mod cached;
mod changes;
#[cfg(feature = "testing")]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub mod contract;
mod current;
mod fleet;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod remote;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod stored;
mod turns;
mod uniform;
mod uses;

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub use self::redis::{RedisOptions, RedisStore};
#[cfg(feature = "cache")]
#[cfg_attr(docsrs, doc(cfg(feature = "cache")))]
pub use cached::{CacheSettings, CachedStore, ReplicaStatus};
pub use changes::{CHANGES_KEPT, Change, Changes, Version};
pub(crate) use current::current;
pub use fleet::{Enrolled, LEASE, Looks, ReplicaId, Roll, SharedRegistry, settle};
pub use memory::MemoryStore;
#[cfg(feature = "postgres")]
#[cfg_attr(docsrs, doc(cfg(feature = "postgres")))]
pub use postgres::{PostgresOptions, PostgresStore};
#[cfg(feature = "sqlite")]
#[cfg_attr(docsrs, doc(cfg(feature = "sqlite")))]
pub use sqlite::SqliteStore;
pub(crate) use uses::MOST_COUNTED;
pub use uses::{Day, DayOfUse, KeyUsage, USAGE_KEPT, Use};

use crate::digest::{Fingerprint, KeyDigest};
use crate::record::{AccountId, Hint, KeyId, KeyName, KeyRecord, Tombstone};

/// Finds keys. All that verification asks of a store.
pub trait KeyStore: Send + Sync + 'static {
    /// What is filed under a fingerprint: a live record (expired ones included), the tombstone of an
    /// ended secret, or nothing.
    ///
    /// Must not write, must not block the thread, and must see every write that had returned when it
    /// was called. The future that it may return is `'static`, so it owns what it uses (clone the
    /// pool into it), and may be dropped at any point.
    fn find(&self, fingerprint: Fingerprint) -> Lookup;
}

/// Manages keys. Every method is one atomic step: it happens whole or not at all, also when its
/// future is dropped, and what it did is durable when it returns.
///
/// Every method that names a key names its account too: another account's key is *not found*.
#[async_trait::async_trait]
pub trait KeyRegistry: KeyStore {
    /// Files a new record if its account then has at most `limit` active ones. Active are those that
    /// have not expired at `record.created_at`.
    async fn insert(&self, record: Arc<KeyRecord>, limit: usize)
    -> Result<Written<()>, StoreError>;

    /// Files a new record if its account never had one; [`Written::Refused`] if it did. Of any
    /// number of concurrent calls for one account, one is done.
    async fn insert_first(&self, record: Arc<KeyRecord>) -> Result<Written<()>, StoreError>;

    /// The account's records, expired ones included, oldest first (by `created_at`, then `id`).
    async fn list(&self, account: &AccountId) -> Result<Vec<Arc<KeyRecord>>, StoreError>;

    /// One record of the account.
    async fn get(
        &self,
        account: &AccountId,
        id: &KeyId,
    ) -> Result<Option<Arc<KeyRecord>>, StoreError>;

    /// Gives a record another name and returns it as it then is.
    async fn rename(
        &self,
        account: &AccountId,
        id: &KeyId,
        name: KeyName,
    ) -> Result<Written<Arc<KeyRecord>>, StoreError>;

    /// Gives a record another secret and returns it as it then is. The old secret becomes a
    /// tombstone in the same step. [`Written::Superseded`] if the record has a replacement: the new
    /// secret would end with the grace of the old one.
    async fn replace(
        &self,
        account: &AccountId,
        id: &KeyId,
        secret: NewSecret,
        at: SystemTime,
    ) -> Result<Written<Arc<KeyRecord>>, StoreError>;

    /// Files a record under another digest of the same text, where it is filed under `old` still, and returns
    /// it as it then is: nothing else changes. The old digest becomes a tombstone in the same step.
    /// [`Written::NotFound`] if the record has another secret by then, which must not be undone.
    async fn rehash(
        &self,
        account: &AccountId,
        id: &KeyId,
        old: Fingerprint,
        digest: KeyDigest,
        at: SystemTime,
    ) -> Result<Written<Arc<KeyRecord>>, StoreError>;

    /// Files `successor` beside the record `id`, which then expires at `grace_ends` at the latest and
    /// names the successor as its replacement; without a grace its secret ends for good instead, and
    /// leaves a tombstone. In one step, and only if the account then has at most `limit` active
    /// records at `successor.created_at`. [`Written::Superseded`] if the record has a replacement.
    async fn rotate(
        &self,
        account: &AccountId,
        id: &KeyId,
        successor: Arc<KeyRecord>,
        grace_ends: Option<SystemTime>,
        limit: usize,
    ) -> Result<Written<()>, StoreError>;

    /// Ends a record for good and leaves a tombstone. No [`find`](KeyStore::find) that starts after
    /// this has returned gives the record.
    async fn delete(
        &self,
        account: &AccountId,
        id: &KeyId,
        at: SystemTime,
    ) -> Result<Written<()>, StoreError>;

    /// Ends every record of the account, expired ones included, as [`delete`](Self::delete) does,
    /// and returns how many there were.
    async fn delete_all(&self, account: &AccountId, at: SystemTime) -> Result<usize, StoreError>;

    /// Notes how secrets were used; several uses of one are all noted.
    ///
    /// Where a secret is live, or ended by [`rehash`](Self::rehash) alone and its key is live, the key's record
    /// shows the last request that was accepted: when, from where
    /// and by what, all three of one [`Use`], and only forward in time. Where it is filed at all, live
    /// or ended, the counts are added to those of its key, for the day of [`Use::at`], and of that key
    /// the days more than [`USAGE_KEPT`] before that day are forgotten; others of its account may be.
    /// What is filed nowhere is passed over. Never files a secret, so a note that comes late cannot
    /// bring a key back.
    ///
    /// [`list`](Self::list), [`get`](Self::get) and [`usage`](Self::usage) show it when this has
    /// returned; what [`find`](KeyStore::find) gives may be older in this. May be lost in a crash, and
    /// is no change of the store's [`Version`]. *Not idempotent*: a call whose outcome is unknown has
    /// counted, or has not, or has in part, and who repeats it may count twice.
    async fn mark_used(&self, uses: &[Use]) -> Result<(), StoreError>;

    /// How much each key of the account was used on `since` and the days after it: every key that has
    /// counts there, live or ended, in order of ids. Accepted requests and refused ones are put down to
    /// the key whose secret it was, also when that was ended before.
    async fn usage(&self, account: &AccountId, since: Day) -> Result<Vec<KeyUsage>, StoreError>;

    /// What was written after `since`, so that a copy can be brought up to date. Every other write
    /// that changes what [`find`](KeyStore::find) gives takes the next version, in the order in which
    /// the writes become visible: whoever has seen a version has seen all before it.
    async fn changes(&self, since: Version) -> Result<Changes, StoreError>;

    /// Returns when nobody answers any more from before the call: not the memory of any replica. That
    /// takes milliseconds, or [`LEASE`] at most. Nothing to do where every [`find`](KeyStore::find)
    /// asks the store; the stores of this crate do what [`SharedRegistry`] is for. May be dropped.
    async fn settle(&self);
}

/// What became of a write that the store was able to decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub enum Written<T> {
    /// It is done, and durable.
    Done(T),
    /// The account has no such key; nothing was written.
    NotFound,
    /// The rule of the call (the cap, or being the first) forbids it; nothing was written.
    Refused,
    /// The key was rotated already, and its successor stands beside it; nothing was written.
    Superseded,
    /// The fingerprint is in use or was ever used, or the account has a key of this id; nothing was
    /// written. Try another key. (Where the cap forbids the write too, either may be said.)
    Taken,
}

/// The stored part of a new secret.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NewSecret {
    /// Its digest.
    pub digest: KeyDigest,
    /// What to recognise it by.
    pub hint: Hint,
}

impl NewSecret {
    /// The stored part of a secret.
    #[must_use]
    pub fn new(digest: KeyDigest, hint: Hint) -> Self {
        Self { digest, hint }
    }
}

/// What a store files under a fingerprint.
#[derive(Clone, Debug)]
#[allow(
    clippy::exhaustive_enums,
    reason = "a third kind must not be passed over by a store's match"
)]
pub enum Entry {
    /// A key that was not ended. It may have expired.
    Live(Arc<KeyRecord>),
    /// A secret that was ended: it never works again.
    Ended(Arc<Tombstone>),
}

/// A lookup's answer.
pub type Found = Result<Option<Entry>, StoreError>;

/// An answer at once or a future of one: what [`KeyStore::find`] returns.
///
/// A trait method made `async` by boxing would cost every request an allocation and a virtual call
/// even when the answer is a map entry away; this costs them only where something must be waited for.
#[must_use = "futures do nothing unless polled"]
pub struct Lookup(State);

enum State {
    Ready(Option<Found>),
    Waiting(Pin<Box<dyn Future<Output = Found> + Send>>),
}

impl Lookup {
    /// An answer from memory.
    pub fn ready(found: Found) -> Self {
        Self(State::Ready(Some(found)))
    }

    /// An answer to wait for.
    pub fn waiting(future: impl Future<Output = Found> + Send + 'static) -> Self {
        Self(State::Waiting(Box::pin(future)))
    }

    /// The answer, if it needs no waiting; otherwise the lookup again.
    pub(crate) fn now_or_later(self) -> Result<Found, Self> {
        match self.0 {
            State::Ready(Some(found)) => Ok(found),
            state => Err(Self(state)),
        }
    }
}

impl Future for Lookup {
    type Output = Found;

    /// # Panics
    ///
    /// When polled again after it was ready.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Found> {
        match &mut self.0 {
            #[allow(
                clippy::expect_used,
                reason = "the contract of Future: not polled after it was ready"
            )]
            State::Ready(found) => {
                Poll::Ready(found.take().expect("Lookup polled after completion"))
            }
            State::Waiting(future) => future.as_mut().poll(cx),
        }
    }
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            State::Ready(_) => "Lookup::Ready(…)",
            State::Waiting(_) => "Lookup::Waiting(…)",
        })
    }
}

/// Why a store could not answer. Never means that there is no such key.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It could not be reached or could not do its work.
    #[error("the {store} store is unavailable")]
    #[non_exhaustive]
    Unavailable {
        /// Which store.
        store: &'static str,
        /// What it said.
        #[source]
        source: Arc<dyn Error + Send + Sync>,
    },
    /// It did not answer in time.
    #[error("the {store} store did not answer within {limit:?}")]
    #[non_exhaustive]
    Timeout {
        /// Which store.
        store: &'static str,
        /// How long was waited.
        limit: Duration,
    },
    /// What it holds was written by a newer version of this crate.
    #[error(
        "the {store} store is of layout {found}, and this version knows layouts up to {known}: use the version that wrote it, or a newer one"
    )]
    Newer {
        /// Which store.
        store: &'static str,
        /// The layout that was found.
        found: i64,
        /// The newest layout that this version knows.
        known: i64,
    },
    /// What is there belongs to another application.
    #[error("the {store} store is not this crate's: {what}")]
    Foreign {
        /// Which store.
        store: &'static str,
        /// What was found.
        what: &'static str,
    },
    /// It is set up in a way that loses keys, or revives deleted ones.
    #[error("the {store} store cannot be relied on: {what}")]
    Unsafe {
        /// Which store.
        store: &'static str,
        /// What is wrong, and what to set.
        what: String,
    },
}

impl StoreError {
    /// The store could not do its work, because of `source`.
    pub fn unavailable(
        store: &'static str,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self::Unavailable { store, source: source.into().into() }
    }

    /// The store did not answer within `limit`.
    #[must_use]
    pub fn timeout(store: &'static str, limit: Duration) -> Self {
        Self::Timeout { store, limit }
    }
}

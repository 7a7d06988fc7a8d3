//! New digests for keys that were accepted under old ones. Knows no HTTP; writes only off the request
//! path.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::clock::{Clock, SystemClock, to_milliseconds};
use crate::digest::{Fingerprint, KeyDigest};
use crate::record::KeyRecord;
use crate::store::{KeyRegistry, StoreError, Written};
use crate::verify::Outdated;

/// How many keys are upgraded at once, at the most.
const AT_ONCE: usize = 4;

/// How long one upgrade may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a key that could not be upgraded is left alone, and takes up its place.
const PAUSE: Duration = Duration::from_secs(1);

/// Files keys under today's digest when they were accepted under an older one; clones share the work.
///
/// Each takes a task of its own, four at once at the most and one for each key. No request waits for it. What
/// fails is logged, and tried again when the key is used again. A key that has a new secret by then, or was
/// deleted, is left as it is.
///
/// For [`ApiKeyLayer::with_upgrades`](crate::ApiKeyLayer::with_upgrades); there is an example in
/// [`digest::hashing`](crate::digest::hashing).
#[derive(Clone)]
pub struct Upgrades(Arc<Upgrader>);

struct Upgrader {
    registry: Arc<dyn KeyRegistry>,
    clock: Arc<dyn Clock>,
    places: Arc<Semaphore>,
    under_way: Arc<Mutex<HashSet<Fingerprint>>>,
}

impl Upgrades {
    /// Upgrades the keys of `registry`: of the same store that the layer reads from, its cache included.
    #[must_use]
    pub fn to(registry: impl KeyRegistry) -> Self {
        Self::with_clock(registry, SystemClock)
    }

    /// As [`to`](Self::to), with a clock for the times at which old digests end.
    #[must_use]
    pub fn with_clock(registry: impl KeyRegistry, clock: impl Clock) -> Self {
        Self(Arc::new(Upgrader {
            registry: Arc::new(registry),
            clock: Arc::new(clock),
            places: Arc::new(Semaphore::new(AT_ONCE)),
            under_way: Arc::default(),
        }))
    }

    pub(crate) fn listener(&self) -> Arc<dyn Outdated> {
        Arc::clone(&self.0) as _
    }
}

impl Outdated for Upgrader {
    fn hear(&self, record: &Arc<KeyRecord>, today: &KeyDigest) {
        let (Ok(runtime), Ok(place)) =
            (Handle::try_current(), Arc::clone(&self.places).try_acquire_owned())
        else {
            return;
        };
        let Some(turn) = Turn::take(&self.under_way, record.fingerprint()) else { return };
        let (registry, record, today) =
            (Arc::clone(&self.registry), Arc::clone(record), today.clone());
        let at = to_milliseconds(self.clock.now());
        runtime.spawn(async move {
            let rehash =
                registry.rehash(&record.account, &record.id, record.fingerprint(), today, at);
            let written = timeout(PATIENCE, rehash).await;
            let written =
                written.unwrap_or(Err(StoreError::Timeout { store: "key", limit: PATIENCE }));
            if !told(&record, written) {
                sleep(PAUSE).await;
            }
            drop((turn, place));
        });
    }
}

/// Says in the log what became of an upgrade, and whether it is done.
fn told(record: &KeyRecord, written: Result<Written<Arc<KeyRecord>>, StoreError>) -> bool {
    let (key_id, account) = (&record.id, record.account.as_str());
    match written {
        Ok(Written::Done(now)) => {
            let fingerprint = now.fingerprint();
            tracing::info!(target: "tower_api_key", %key_id, account, %fingerprint, "a key was given a digest of today");
            return true;
        }
        Ok(Written::NotFound) => {
            tracing::debug!(target: "tower_api_key", %key_id, account, "a key has another digest already");
        }
        Ok(refused) => {
            tracing::warn!(target: "tower_api_key", %key_id, account, ?refused, "a key keeps its old digest: today's is or was in use");
        }
        Err(error) => {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(target: "tower_api_key", %key_id, account, error, "a key keeps its old digest until it is used again");
        }
    }
    false
}

/// One key's turn, until it is dropped.
struct Turn {
    under_way: Arc<Mutex<HashSet<Fingerprint>>>,
    key: Fingerprint,
}

impl Turn {
    fn take(under_way: &Arc<Mutex<HashSet<Fingerprint>>>, key: Fingerprint) -> Option<Self> {
        let is_first = lock(under_way).insert(key);
        is_first.then(|| Self { under_way: Arc::clone(under_way), key })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        lock(&self.under_way).remove(&self.key);
    }
}

fn lock(under_way: &Mutex<HashSet<Fingerprint>>) -> MutexGuard<'_, HashSet<Fingerprint>> {
    // A set is whole between any two of its calls.
    under_way.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Upgrades {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upgrades").finish_non_exhaustive()
    }
}

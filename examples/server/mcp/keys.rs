//! When the keys that something is open with stop working. Knows no HTTP and no MCP.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tower_api_key::{Entry, Fingerprint, Identity, KeyRegistry};

/// How often each key in use is looked up, however much is open with it.
const EVERY: Duration = Duration::from_secs(1);
/// How long the store may take for it; together they stay below the promised 2 s.
const LOOKUP: Duration = Duration::from_millis(500);
/// How long what is open outlives the store's last answer; the end comes at the next look.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Why what is open must end.
#[derive(Clone, Copy)]
pub(super) enum End {
    /// The key was deleted, or replaced, or has expired.
    Invalid,
    /// The store has not said for too long.
    Unknown,
}

/// The keys in use.
#[derive(Clone)]
pub(super) struct Keys {
    store: Arc<dyn KeyRegistry>,
    watched: Arc<Mutex<HashMap<Fingerprint, watch::Receiver<Option<End>>>>>,
    closed: watch::Sender<bool>,
}

/// One use of a key, until it is dropped.
pub(super) struct Use {
    ended: watch::Receiver<Option<End>>,
    closed: watch::Receiver<bool>,
}

impl Keys {
    pub(super) fn new(store: Arc<dyn KeyRegistry>) -> Self {
        Self { store, watched: Arc::default(), closed: watch::Sender::new(false) }
    }

    pub(super) fn close(&self) {
        self.closed.send_replace(true);
    }

    pub(super) fn using(&self, caller: &Identity) -> Use {
        let fingerprint = caller.fingerprint();
        let closed = self.closed.subscribe();
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        // A watch that has come to an end by a panic of the store's is no watch.
        let alive = |ended: &&watch::Receiver<_>| ended.has_changed().is_ok();
        if let Some(ended) = watched.get(&fingerprint).filter(alive) {
            return Use { ended: ended.clone(), closed };
        }
        let (end, ended) = watch::channel(None);
        watched.insert(fingerprint, ended.clone());
        tokio::spawn(self.clone().watch(fingerprint, end));
        Use { ended, closed }
    }

    /// Looks the key up until it no longer works, or nothing is open with it any more.
    async fn watch(self, fingerprint: Fingerprint, end: watch::Sender<Option<End>>) {
        // The layer has just looked.
        let mut answered = Instant::now();
        let mut ticks = interval_at(answered + EVERY, EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let why = loop {
            ticks.tick().await;
            if self.forget_unused(fingerprint, &end) {
                return;
            }
            match self.works(fingerprint).await {
                Some(true) => answered = Instant::now(),
                Some(false) => break End::Invalid,
                None if answered.elapsed() < PATIENCE => {}
                None => break End::Unknown,
            }
        };
        // First out of the map: whoever comes with this key from here on is watched anew.
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).remove(&fingerprint);
        match why {
            End::Invalid => {
                tracing::info!(%fingerprint, "the key ended, and with it what was open");
            }
            End::Unknown => {
                tracing::warn!(%fingerprint, "the store does not answer: what was open is ended");
            }
        }
        end.send_replace(Some(why));
    }

    fn forget_unused(&self, fingerprint: Fingerprint, end: &watch::Sender<Option<End>>) -> bool {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        // The last one is the map's own.
        let unused = end.receiver_count() <= 1;
        if unused {
            watched.remove(&fingerprint);
        }
        unused
    }

    /// `None` while the store does not say.
    async fn works(&self, fingerprint: Fingerprint) -> Option<bool> {
        match timeout(LOOKUP, self.store.find(fingerprint)).await {
            Ok(Ok(Some(Entry::Live(record)))) => Some(!record.is_expired(SystemTime::now())),
            Ok(Ok(Some(Entry::Ended(_)) | None)) => Some(false),
            Ok(Err(_)) | Err(_) => None,
        }
    }
}

impl Use {
    /// Returns when what is open must end.
    pub(super) async fn ended(&self) -> End {
        let mut ended = self.ended.clone();
        let why = ended.wait_for(Option::is_some).await;
        why.ok().and_then(|why| *why).unwrap_or(End::Unknown)
    }

    /// Returns when what is open must end, or the server is closing.
    pub(super) async fn ended_or_closed(&self) {
        let mut closed = self.closed.clone();
        tokio::select! {
            _ = self.ended() => {}
            _ = closed.wait_for(|closed| *closed) => {}
        }
    }
}

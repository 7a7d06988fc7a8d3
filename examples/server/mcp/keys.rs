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
/// How long what is open outlives the store's last answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The keys in use.
#[derive(Clone)]
pub(super) struct Keys {
    store: Arc<dyn KeyRegistry>,
    watched: Arc<Mutex<HashMap<Fingerprint, watch::Receiver<bool>>>>,
    closed: watch::Sender<bool>,
}

/// One use of a key, until it is dropped.
pub(super) struct Use {
    ended: watch::Receiver<bool>,
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
        if let Some(ended) = watched.get(&fingerprint) {
            return Use { ended: ended.clone(), closed };
        }
        let (end, ended) = watch::channel(false);
        watched.insert(fingerprint, ended.clone());
        tokio::spawn(self.clone().watch(fingerprint, end));
        Use { ended, closed }
    }

    /// Looks the key up until it no longer works, or nothing is open with it any more.
    async fn watch(self, fingerprint: Fingerprint, end: watch::Sender<bool>) {
        // The layer has just looked.
        let mut answered = Instant::now();
        let mut ticks = interval_at(answered + EVERY, EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if self.forget_unused(fingerprint, &end) {
                return;
            }
            match self.works(fingerprint).await {
                Some(true) => answered = Instant::now(),
                None if answered.elapsed() < PATIENCE => {}
                Some(false) | None => break,
            }
        }
        // First out of the map: whoever comes with this key from here on is watched anew.
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).remove(&fingerprint);
        tracing::info!(%fingerprint, "the key ended, and with it what was open");
        end.send_replace(true);
    }

    fn forget_unused(&self, fingerprint: Fingerprint, end: &watch::Sender<bool>) -> bool {
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
    /// Returns when the key no longer works.
    pub(super) async fn ended(&self) {
        reached(self.ended.clone()).await;
    }

    /// Returns when the key no longer works or the server is closing.
    pub(super) async fn ended_or_closed(&self) {
        tokio::select! {
            () = self.ended() => {}
            () = reached(self.closed.clone()) => {}
        }
    }
}

/// Returns when it is true, or when nobody could say any more.
async fn reached(mut state: watch::Receiver<bool>) {
    let _ = state.wait_for(|reached| *reached).await;
}

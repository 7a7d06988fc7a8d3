//! The task that follows the registry: which keys have something open, and which of them have ended.

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::{Either, FutureExt as _, select};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::mpsc::{self, error::TryRecvError};
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::{EndsSettings, KeyEnd};
use crate::digest::Fingerprint;
use crate::record::KeyRecord;
use crate::store::{Changes, KeyRegistry, StoreError, Version, current};

/// How long the registry may take to say what has changed, and then, for all keys that are looked up
/// together. What it has not said by then is asked again.
const LIMIT: Duration = Duration::from_secs(1);

/// How many keys are looked up at a time.
const AT_ONCE: usize = 16;

/// Something that was opened with a key.
pub(super) struct Opened {
    pub(super) key: Arc<KeyRecord>,
    pub(super) end: oneshot::Sender<KeyEnd>,
}

/// A key with something open.
struct Watched {
    /// As it was when it was last looked up.
    key: Arc<KeyRecord>,
    open: Vec<oneshot::Sender<KeyEnd>>,
    /// When it was last known to be valid. `None`: it came since the last round.
    known_at: Option<Instant>,
}

pub(super) struct Watcher {
    registry: Arc<dyn KeyRegistry>,
    settings: EndsSettings,
    watched: HashMap<Fingerprint, Watched>,
    /// Those that are to be looked up: they are new here, or were changed since.
    due: HashSet<Fingerprint>,
    /// How far the registry was followed.
    seen: Version,
}

impl Watcher {
    pub(super) fn new(registry: Arc<dyn KeyRegistry>, settings: EndsSettings) -> Self {
        let (watched, due) = (HashMap::new(), HashSet::new());
        Self { registry, settings, watched, due, seen: Version::default() }
    }

    /// Until nobody is left who could open something, or wait for an end.
    pub(super) async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Opened>) {
        let mut ticks = interval(self.settings.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let (round, opened) = match select(pin!(ticks.tick()), pin!(inbox.recv())).await {
                Either::Left((now, _)) => (Some(now), None),
                Either::Right((Some(opened), _)) => (None, Some(opened)),
                Either::Right((None, _)) => return,
            };
            let mut new = Vec::from_iter(opened.and_then(|opened| self.add(opened)));
            // Those that came with it; or before a round: while rounds take long, each is followed by the next.
            loop {
                match inbox.try_recv() {
                    Ok(opened) => new.extend(self.add(opened)),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
            match round {
                Some(now) => self.round(now).await,
                None => self.look_up(new).await,
            }
        }
    }

    /// The key, when it is new here.
    fn add(&mut self, Opened { key, end }: Opened) -> Option<Arc<KeyRecord>> {
        let secret = key.fingerprint();
        if let Some(watched) = self.watched.get_mut(&secret) {
            watched.open.push(end);
            return None;
        }
        let watched = Watched { key: Arc::clone(&key), open: vec![end], known_at: None };
        self.watched.insert(secret, watched);
        self.due.insert(secret);
        Some(key)
    }

    /// Asks what has changed, looks that up, and ends what is to end.
    async fn round(&mut self, now: Instant) {
        self.forget_closed();
        let followed = self.follow().await;
        if followed {
            let due = self.due.iter().filter_map(|secret| self.watched.get(secret));
            self.look_up(due.map(|watched| Arc::clone(&watched.key)).collect()).await;
        }
        self.end_expired();
        self.end_unknown(followed, now);
    }

    fn forget_closed(&mut self) {
        self.watched.retain(|_, watched| {
            watched.open.retain(|end| !end.is_closed());
            !watched.open.is_empty()
        });
        self.due.retain(|secret| self.watched.contains_key(secret));
    }

    /// Whether the registry has said what has changed.
    ///
    /// Every lookup comes after the version that this has seen: what happens to a key after it was looked up
    /// is among the changes of a later round.
    async fn follow(&mut self) -> bool {
        let asked = timeout(LIMIT, unless_it_panics(self.registry.changes(self.seen)));
        let changes = match asked.await {
            Ok(Some(Ok(changes))) => changes,
            failed => {
                let error = failed.ok().flatten().and_then(Result::err);
                tracing::debug!(target: "tower_api_key", ?error, "the ends of keys cannot be followed now");
                return false;
            }
        };
        self.seen = changes.latest();
        match changes {
            Changes::Forgotten { .. } => self.due.extend(self.watched.keys()),
            Changes::Known { changes, .. } => {
                let secrets = changes.iter().map(|change| change.fingerprint);
                self.due.extend(secrets.filter(|secret| self.watched.contains_key(secret)));
            }
        }
        true
    }

    /// Looks keys up, a few at a time, as far as that goes within the limit. The others stay due.
    async fn look_up(&mut self, mut keys: Vec<Arc<KeyRecord>>) {
        let registry = Arc::clone(&self.registry);
        let all = async {
            let mut asked = FuturesUnordered::new();
            loop {
                while asked.len() < AT_ONCE
                    && let Some(key) = keys.pop()
                {
                    asked.push(look_up(&*registry, key));
                }
                match asked.next().await {
                    None => return,
                    Some((secret, Some(found))) => self.note(secret, found),
                    Some((_, None)) => {}
                }
            }
        };
        // What was left out is asked again in the next round.
        let _ = timeout(LIMIT, all).await;
    }

    /// What a lookup has found: the key as it is now, or that it is no more.
    fn note(&mut self, secret: Fingerprint, found: Option<Arc<KeyRecord>>) {
        self.due.remove(&secret);
        let Some(mut watched) = self.watched.remove(&secret) else { return };
        let Some(key) = found else {
            end(secret, watched, KeyEnd::Invalid);
            return;
        };
        // Filed under the secret that it has: another one, where the same text was hashed anew.
        let same = key.fingerprint();
        watched.key = key;
        match self.watched.get_mut(&same) {
            Some(other) => other.open.append(&mut watched.open),
            None => drop(self.watched.insert(same, watched)),
        }
    }

    fn end_expired(&mut self) {
        let now: SystemTime = self.settings.clock.now();
        for (secret, watched) in self.watched.extract_if(|_, watched| watched.key.is_expired(now)) {
            end(secret, watched, KeyEnd::Invalid);
        }
    }

    /// Ends what was not known to be valid for too long.
    fn end_unknown(&mut self, followed: bool, now: Instant) {
        let (patience, due) = (self.settings.patience, &self.due);
        let is_over = |secret: &Fingerprint, watched: &mut Watched| {
            if followed && !due.contains(secret) {
                watched.known_at = Some(now);
            }
            // It was verified when it came here.
            let known_at = *watched.known_at.get_or_insert(now);
            now.duration_since(known_at) >= patience
        };
        for (secret, watched) in self.watched.extract_if(is_over) {
            end(secret, watched, KeyEnd::Unknown);
        }
    }
}

/// `None` when the registry does not say.
async fn look_up(
    registry: &dyn KeyRegistry,
    key: Arc<KeyRecord>,
) -> (Fingerprint, Option<Option<Arc<KeyRecord>>>) {
    let found = unless_it_panics(current(registry, &key)).await;
    (key.fingerprint(), found.and_then(Result::ok))
}

/// `None` when it panics: the registry may be anybody's.
async fn unless_it_panics<T>(
    asked: impl Future<Output = Result<T, StoreError>>,
) -> Option<Result<T, StoreError>> {
    AssertUnwindSafe(asked).catch_unwind().await.ok()
}

fn end(secret: Fingerprint, watched: Watched, why: KeyEnd) {
    let (fingerprint, open, key_id) = (secret, watched.open.len(), &watched.key.id);
    match why {
        KeyEnd::Invalid => {
            tracing::info!(target: "tower_api_key", %fingerprint, %key_id, open, "the key ended, and with it what was open");
        }
        KeyEnd::Unknown => {
            tracing::warn!(target: "tower_api_key", %fingerprint, %key_id, open, "the store does not answer: what was open is ended");
        }
    }
    for end in watched.open {
        let _ = end.send(why);
    }
}

//! When keys stop being valid, for what stays open: streams, sockets, subscriptions. Knows no HTTP.
//!
//! The layer checks a key when a request begins. What is open for hours outlives its key, unless it asks:
//!
//! ```
//! use futures_util::{StreamExt as _, stream};
//! use tower_api_key::{EndsSettings, Identity, KeyEnds, KeyVerifier, MemoryStore};
//! # use tower_api_key::{KeyManager, NewKey};
//!
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let store = MemoryStore::new();
//! # let manager = KeyManager::new(store.clone(), "acme".parse()?);
//! # let account = "admin@example.com".parse()?;
//! # let issued = manager.create(&account, NewKey::new("Production CRM".parse()?)).await?;
//! # let id = issued.record().id.clone();
//! # let caller = KeyVerifier::new(store.clone()).verify(issued.reveal().as_str()).await?;
//! // Once for the service, over the registry that its manager writes to:
//! let ends = KeyEnds::watch(store, EndsSettings::default());
//!
//! // For a request that opens a stream, with its `caller: Identity`:
//! let mut events = ends.guard(&caller, stream::pending::<String>());
//!
//! manager.delete(&account, &id).await?;
//! assert_eq!(events.next().await, None, "it ends with the key");
//!
//! // For whatever else stays open: a future to `select!` on.
//! let end = ends.of(&caller).await;
//! println!("closed: {end:?}");
//! # Ok(()) }
//! ```
//!
//! # What is promised
//!
//! A key that was deleted, regenerated, rotated without a grace, has expired or whose grace is over ends what
//! is open with it within one [interval](EndsSettings::with_interval) (half a second unless set) and the time
//! that the registry takes for two answers. When the registry has not answered for a
//! [stated time](EndsSettings::with_patience) (10 s unless set), everything ends: a stream that cannot be
//! ended must not stay open. Nothing is reopened: an end is final, and the client comes back with a key.
//!
//! # What it costs
//!
//! One task, which asks the registry once in an interval for [what has
//! changed](crate::KeyRegistry::changes), and looks a key up when it is new here or was changed, however
//! many streams it has open; beside that, one pass in memory over the streams that are open. Where the
//! registry has forgotten how far this had got, every key is looked up once.

mod guard;
mod watcher;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

pub use self::guard::Guarded;
use self::watcher::{Opened, Watcher};
use crate::clock::{Clock, SystemClock};
use crate::identity::Identity;
use crate::store::KeyRegistry;

/// How often the registry is asked, for how long it may be silent, and by which clock keys expire.
#[derive(Clone)]
#[must_use]
pub struct EndsSettings {
    interval: Duration,
    patience: Duration,
    clock: Arc<dyn Clock>,
}

impl Default for EndsSettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(500),
            patience: Duration::from_secs(10),
            clock: Arc::new(SystemClock),
        }
    }
}

impl EndsSettings {
    /// How often the registry is asked; 500 ms unless set, 10 ms at the least.
    pub fn with_interval(mut self, interval: Duration) -> Self {
        self.interval = interval.max(Duration::from_millis(10));
        self
    }

    /// How long what is open outlives the registry's last answer; 10 s unless set. The end comes up to an
    /// interval and 2 s later.
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The clock by which keys expire; the system's unless set.
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }
}

impl fmt::Debug for EndsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndsSettings")
            .field("interval", &self.interval)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

/// Tells when keys stop being valid. One for a service; a clone is cheap. See the [module](self).
#[derive(Clone)]
#[must_use]
pub struct KeyEnds {
    opened: mpsc::UnboundedSender<Opened>,
}

impl KeyEnds {
    /// Follows `registry`, from a task that ends when the last clone of this and the last future and stream
    /// that it gave are dropped.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn watch(registry: impl KeyRegistry, settings: EndsSettings) -> Self {
        let (opened, inbox) = mpsc::unbounded_channel();
        tokio::spawn(Watcher::new(Arc::new(registry), settings).run(inbox));
        Self { opened }
    }

    /// Resolves when the caller's key is no longer valid; at once, as soon as the registry answers, when it
    /// is not any more.
    pub fn of(&self, caller: &Identity) -> Ended {
        let (end, ended) = oneshot::channel();
        let opened = Opened { key: Arc::clone(caller.record()), end };
        // Where nobody follows the registry any more, this drops `end`, which says so.
        let _ = self.opened.send(opened);
        Ended { ended, _follow: self.clone() }
    }

    /// A stream or a body that ends when the caller's key does.
    pub fn guard<S>(&self, caller: &Identity, inner: S) -> Guarded<S> {
        Guarded::new(inner, self.of(caller))
    }
}

impl fmt::Debug for KeyEnds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyEnds(…)")
    }
}

/// Why what is open must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyEnd {
    /// The key is no longer valid. A client that comes back with it is refused.
    Invalid,
    /// The registry has not said for too long whether it is, or nobody asks it any more because the runtime
    /// is closing. A client may come back.
    Unknown,
}

/// The future of a key's end: see [`KeyEnds::of`]. May be dropped at any point, and kept in a `select!` by
/// `&mut`. Not to be polled after it was ready.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Ended {
    ended: oneshot::Receiver<KeyEnd>,
    _follow: KeyEnds,
}

impl Future for Ended {
    type Output = KeyEnd;

    /// # Panics
    ///
    /// When polled again after it was ready.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<KeyEnd> {
        Pin::new(&mut self.ended).poll(cx).map(|end| end.unwrap_or(KeyEnd::Unknown))
    }
}

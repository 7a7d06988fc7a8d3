//! The reads of the store that are under way, and the fence through which alone an answer gets into
//! the entries. Knows no registry and no time but the caller's.
//!
//! A read is on the board from before the store is asked until its answer is there. Whoever wants the
//! same key meanwhile waits for that answer. A write takes the key's read off the board, and only a
//! read that is still on it may leave its answer behind. So nothing that was read before a write ended
//! is cached after it, or given to a request that came after it.
//!
//! No task runs a read: it is polled by those who wait for it, and dropped with the last of them.

use std::any::Any;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::WeakShared;

use super::CacheSettings;
use super::entries::Entries;
use super::sync::{BOARDS, Mutex, MutexGuard};
use crate::digest::Fingerprint;
use crate::record::EndCause;
use crate::store::{Changes, Entry, Found, Lookup, StoreError};

pub(super) struct Flights {
    /// Filled and emptied only under the lock of the fingerprint's board; read without.
    entries: Entries,
    boards: [Mutex<Board>; BOARDS],
    join_within: Duration,
}

/// The reads under way of some fingerprints. Strangers choose those, so the map's hash is a secret.
#[derive(Default)]
struct Board {
    flights: HashMap<Fingerprint, Flight>,
    /// How many began here.
    count: u64,
}

struct Flight {
    number: u64,
    began: Duration,
    /// Never upgraded under the lock but to be handed out: dropping the last strong one there would
    /// drop the read, whose end takes the lock.
    read: WeakShared<Read>,
}

type Read = Pin<Box<dyn Future<Output = Found> + Send>>;

impl Flights {
    pub(super) fn new(settings: &CacheSettings) -> Self {
        Self {
            entries: Entries::new(settings),
            boards: std::array::from_fn(|_| Mutex::default()),
            join_within: settings.join_within,
        }
    }

    /// What the store said, if that may be repeated.
    pub(super) fn known(&self, fingerprint: Fingerprint, now: Duration) -> Option<Found> {
        self.entries.get(fingerprint, now)
    }

    /// What the store said, also when that is older than it may be by so much.
    pub(super) fn stale(
        &self,
        fingerprint: Fingerprint,
        now: Duration,
        by: Duration,
    ) -> Option<Found> {
        self.entries.get(fingerprint, now.saturating_sub(by))
    }

    /// The answer of the read that is under way, or of a new one.
    pub(super) fn join_or_begin(
        self: &Arc<Self>,
        fingerprint: Fingerprint,
        now: Duration,
        find: impl FnOnce() -> Lookup + Send + 'static,
    ) -> Lookup {
        let board = self.board(fingerprint);
        // A read may have ended since the caller looked.
        if let Some(found) = self.entries.get(fingerprint, now) {
            return Lookup::ready(found);
        }
        if let Some(flight) = board.flights.get(&fingerprint)
            && now.saturating_sub(flight.began) < self.join_within
            && let Some(read) = flight.read.upgrade()
        {
            return Lookup::waiting(read);
        }
        self.take_off(board, fingerprint, now, find)
    }

    /// The answer of a read that begins now, whoever else is reading.
    pub(super) fn begin(
        self: &Arc<Self>,
        fingerprint: Fingerprint,
        now: Duration,
        find: impl FnOnce() -> Lookup + Send + 'static,
    ) -> Lookup {
        self.take_off(self.board(fingerprint), fingerprint, now, find)
    }

    fn take_off(
        self: &Arc<Self>,
        mut board: MutexGuard<'_, Board>,
        fingerprint: Fingerprint,
        now: Duration,
        find: impl FnOnce() -> Lookup + Send + 'static,
    ) -> Lookup {
        board.count += 1;
        let (number, began) = (board.count, now);
        let landing =
            Landing { flights: Arc::clone(self), fingerprint, number, began, found: None };
        let read: Read = Box::pin(fly(find, landing));
        let read = read.shared();
        if let Some(weak) = read.downgrade() {
            board.flights.insert(fingerprint, Flight { number, began, read: weak });
        }
        Lookup::waiting(read)
    }

    /// Drops what is known of a fingerprint, and what a read that is under way will say of it.
    pub(super) fn forget(&self, fingerprint: Fingerprint) {
        let mut board = self.board(fingerprint);
        board.flights.remove(&fingerprint);
        self.entries.forget(fingerprint);
    }

    /// As [`forget`](Self::forget), of a key that is there, where it was said not to be.
    pub(super) fn forget_unless_live(&self, fingerprint: Fingerprint) {
        let mut board = self.board(fingerprint);
        if !self.entries.is_live(fingerprint) {
            board.flights.remove(&fingerprint);
            self.entries.forget(fingerprint);
        }
    }

    /// As [`forget`](Self::forget), of everything that has changed.
    pub(super) fn forget_changes(&self, changes: &Changes) {
        match changes {
            Changes::Known { changes, .. } => {
                for change in changes {
                    self.forget(change.fingerprint);
                }
            }
            Changes::Forgotten { .. } => self.forget_all(),
        }
    }

    /// Drops what is known not to be there, and what every read that is under way will say, but for the
    /// read of `but`. That one heard that its key was rehashed: it is filed under another fingerprint,
    /// which must not be said to be absent to whoever was told this.
    fn forget_absences(&self, but: Fingerprint) {
        // The boards first, as below.
        for board in &self.boards {
            lock(board).flights.retain(|fingerprint, _| *fingerprint == but);
        }
        self.entries.forget_absences();
    }

    /// As [`forget`](Self::forget), of every fingerprint.
    pub(super) fn forget_all(&self) {
        // The boards first: what a read leaves behind before its board is wiped goes with the entries.
        for board in &self.boards {
            lock(board).flights.clear();
        }
        self.entries.forget_all();
    }

    fn board(&self, fingerprint: Fingerprint) -> MutexGuard<'_, Board> {
        lock(&self.boards[usize::from(fingerprint.as_bytes()[3]) % BOARDS])
    }
}

fn lock(board: &Mutex<Board>) -> MutexGuard<'_, Board> {
    // Nothing of others runs under the lock, and each change to a board is one step.
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One read. A panic of the store becomes an error: whoever waits for somebody else's poll would not
/// hear of it.
async fn fly(find: impl FnOnce() -> Lookup + Send, mut landing: Landing) -> Found {
    let found = AssertUnwindSafe(async { find().await }).catch_unwind().await;
    let found = found.unwrap_or_else(|panic| Err(panicked(&*panic)));
    if let Ok(Some(Entry::Ended(tombstone))) = &found
        && tombstone.cause == EndCause::Rehashed
    {
        landing.flights.forget_absences(landing.fingerprint);
    }
    landing.found = Some(found.clone());
    found
}

/// The end of a read, whichever way it ends: it is answered, it fails, or nobody waits any more.
struct Landing {
    flights: Arc<Flights>,
    fingerprint: Fingerprint,
    number: u64,
    began: Duration,
    found: Option<Found>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        let Self { fingerprint, number, began, .. } = *self;
        let mut board = self.flights.board(fingerprint);
        if board.flights.get(&fingerprint).is_none_or(|flight| flight.number != number) {
            return;
        }
        board.flights.remove(&fingerprint);
        if let Some(Ok(found)) = self.found.take() {
            self.flights.entries.put(fingerprint, found, began);
        }
    }
}

/// The store panicked; what it said, for the log.
pub(super) fn panicked(panic: &(dyn Any + Send)) -> StoreError {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    StoreError::unavailable("cached", format!("it panicked: {}", text.unwrap_or("(no message)")))
}

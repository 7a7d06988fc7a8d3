//! From a presented key to an identity: check its form, find it, compare it, ask the policy. Knows
//! no HTTP and cannot write.
//!
//! As much is hashed for every key, also for one whose checksum is wrong or that cannot be one, so that the
//! refusals cost alike, but for the lookup.

mod direct;
mod search;

use std::any::Any;
use std::hint::black_box;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

pub use direct::KeyVerifier;
use tokio::time::Sleep;

pub(crate) use self::search::Search;
use crate::clock::{Clock, SystemClock};
use crate::digest::{Fingerprint, Hashing, KeyDigest};
use crate::identity::Identity;
use crate::key::{KeyFormat, KeyText};
use crate::policy::Policy;
use crate::record::KeyRecord;
use crate::rejection::{Rejection, RejectionKind, Subject};
use crate::store::{Found, KeyStore, Lookup};

/// How long the layer waits for a store before it answers 503, unless told otherwise.
pub(crate) const DEFAULT_STORE_TIMEOUT: Duration = Duration::from_millis(750);

/// Everything that verification needs, shared by every request.
#[derive(Clone)]
pub(crate) struct Verifier {
    pub(crate) store: Arc<dyn KeyStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) format: KeyFormat,
    pub(crate) hashing: Hashing,
    pub(crate) outdated: Option<Arc<dyn Outdated>>,
    pub(crate) policy: Policy,
    pub(crate) store_timeout: Duration,
}

/// Hears of accepted keys that are filed under another digest than would be made of them today.
pub(crate) trait Outdated: Send + Sync {
    /// Must not block: a request waits.
    fn hear(&self, record: &Arc<KeyRecord>, today: &KeyDigest);
}

/// What is known of a key that was not refused so far.
pub(crate) enum Verdict {
    Valid(Identity),
    Waiting(WaitingForStore),
}

/// What the store said when it was asked.
enum Asked {
    Answered(Found),
    Waiting(Lookup, Pin<Box<Sleep>>),
}

impl Verifier {
    pub(crate) fn new(store: Arc<dyn KeyStore>) -> Self {
        Self {
            store,
            clock: Arc::new(SystemClock),
            format: KeyFormat::default(),
            hashing: Hashing::default(),
            outdated: None,
            policy: Policy::default(),
            store_timeout: DEFAULT_STORE_TIMEOUT,
        }
    }

    /// Decides at once when the store answers from memory. `from` is asked for keys that may not be used
    /// from anywhere.
    pub(crate) fn verify(
        &self,
        key: KeyText<'_>,
        from: impl FnOnce() -> Option<IpAddr>,
    ) -> Result<Verdict, Rejection> {
        let has_checksum = key.has_checksum();
        let mut search = Search::new(self.hashing.digest(key), has_checksum);
        if !has_checksum && self.format == KeyFormat::Checked {
            let search = search.prepared(|| self.hashing.older(key));
            return Err(search.refuse(RejectionKind::WrongChecksum));
        }
        loop {
            match catch_unwind(AssertUnwindSafe(|| self.ask(search.fingerprint()))) {
                Ok(Asked::Answered(found)) => {
                    if let Some(found) = search.hear(found, || self.hashing.older(key)) {
                        return self.judge(&search, found?, from).map(Verdict::Valid);
                    }
                }
                Ok(Asked::Waiting(lookup, deadline)) => {
                    let search = search.prepared(|| self.hashing.older(key));
                    let (lookup, limit) = (Some(lookup), self.store_timeout);
                    return Ok(Verdict::Waiting(WaitingForStore {
                        search,
                        lookup,
                        limit,
                        deadline,
                    }));
                }
                Err(panic) => {
                    let panicked = search.refuse(RejectionKind::StorePanicked);
                    return Err(panicked.with_source(said(&*panic)));
                }
            }
        }
    }

    /// The refusal of what cannot be a key. In its place, a text is looked at that nobody sent.
    pub(crate) fn malformed(&self) -> Rejection {
        if let Ok(stand_in) = KeyText::parse(black_box(KeyText::STAND_IN)) {
            black_box(self.search(stand_in));
        }
        RejectionKind::MalformedKey.into()
    }

    /// What [`look_up`](Self::look_up) needs of a key.
    pub(crate) fn search(&self, key: KeyText<'_>) -> Search {
        let search = Search::new(self.hashing.digest(key), key.has_checksum());
        search.prepared(|| self.hashing.older(key))
    }

    /// The key that this is, unless it has ended or expired; what it may be used for and from where is not
    /// asked. For a task of its own, that no request waits for.
    pub(crate) async fn look_up(&self, mut search: Search) -> Option<Arc<KeyRecord>> {
        let looking = async {
            loop {
                let found = self.store.find(search.fingerprint()).await;
                if let Some(found) = search.hear(found, Vec::new) {
                    return found.inspect_err(unless_it_is_none).ok();
                }
            }
        };
        let record = tokio::time::timeout(self.store_timeout, looking).await.ok()??;
        (!record.is_expired(self.clock.now())).then_some(record)
    }

    /// Asks the store. May panic: the store may, and the deadline does outside of a Tokio runtime.
    fn ask(&self, fingerprint: Fingerprint) -> Asked {
        match self.store.find(fingerprint).now_or_later() {
            Ok(found) => Asked::Answered(found),
            Err(lookup) => Asked::Waiting(lookup, Box::pin(tokio::time::sleep(self.store_timeout))),
        }
    }

    /// The verdict on a key that was found.
    fn judge(
        &self,
        search: &Search,
        record: Arc<KeyRecord>,
        from: impl FnOnce() -> Option<IpAddr>,
    ) -> Result<Identity, Rejection> {
        match self.policy.check(&record, || self.clock.now(), from) {
            Ok(()) => {
                if let (Some(outdated), Some(today)) = (&self.outdated, search.outdated()) {
                    outdated.hear(&record, today);
                }
                Ok(Identity::verified(record))
            }
            Err(kind) => Err(search.refuse_found(kind, Subject::Record(record))),
        }
    }
}

/// Lookups under way, one after the other, all under one time limit. Dropping it gives them up.
pub(crate) struct WaitingForStore {
    search: Search,
    /// `None` until the store is asked the next time.
    lookup: Option<Lookup>,
    limit: Duration,
    deadline: Pin<Box<Sleep>>,
}

impl WaitingForStore {
    /// Ready with the verdict, a refusal after the time limit, or a refusal when the store panics.
    /// Not to be polled after it was ready.
    pub(crate) fn poll(
        &mut self,
        verifier: &Verifier,
        from: impl FnOnce() -> Option<IpAddr>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Identity, Rejection>> {
        let Self { search, lookup, deadline, .. } = self;
        loop {
            let polled = catch_unwind(AssertUnwindSafe(|| {
                let asked = lookup.get_or_insert_with(|| verifier.store.find(search.fingerprint()));
                match Pin::new(asked).poll(cx) {
                    Poll::Ready(found) => Poll::Ready(Some(found)),
                    Poll::Pending => deadline.as_mut().poll(cx).map(|()| None),
                }
            }));
            let found = match polled {
                Ok(answered) => ready!(answered),
                Err(panic) => {
                    let panicked = search.refuse(RejectionKind::StorePanicked);
                    return Poll::Ready(Err(panicked.with_source(said(&*panic))));
                }
            };
            let Some(found) = found else {
                let late = search.refuse(RejectionKind::StoreTimedOut);
                return Poll::Ready(Err(late.with_source(StoreTimedOut(self.limit))));
            };
            *lookup = None;
            if let Some(found) = search.hear(found, Vec::new) {
                return Poll::Ready(found.and_then(|record| verifier.judge(search, record, from)));
            }
        }
    }
}

/// Says that a key could not be looked up; that it is none is not worth a word.
fn unless_it_is_none(rejection: &Rejection) {
    if rejection.kind() == RejectionKind::StoreFailed {
        let error = std::error::Error::source(rejection);
        tracing::warn!(target: "tower_api_key", error, "an exposed key could not be looked up");
    }
}

#[derive(Debug, thiserror::Error)]
#[error("no answer within {0:?}")]
struct StoreTimedOut(Duration);

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct StorePanicked(String);

/// What a panic said, for the log.
fn said(panic: &(dyn Any + Send)) -> StorePanicked {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    StorePanicked(text.unwrap_or("a panic without a message").to_owned())
}

#[cfg(test)]
mod tests;

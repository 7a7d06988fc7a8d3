//! From a presented key to an identity: check its form, find it, compare it, ask the policy. Knows
//! no HTTP and cannot write.
//!
//! Every key is hashed, also one whose checksum is wrong, so that the refusals cost alike.

mod direct;

use std::any::Any;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

pub use direct::KeyVerifier;
use tokio::time::Sleep;

use crate::clock::{Clock, SystemClock};
use crate::digest::{Fingerprint, KeyDigest};
use crate::identity::Identity;
use crate::key::{KeyFormat, KeyText};
use crate::policy::Policy;
use crate::record::{EndCause, KeyRecord};
use crate::rejection::{Rejection, RejectionKind, Subject};
use crate::store::{Entry, Found, KeyStore, Lookup};

/// How long the layer waits for a store before it answers 503, unless told otherwise.
pub(crate) const DEFAULT_STORE_TIMEOUT: Duration = Duration::from_millis(750);

/// Everything that verification needs, shared by every request.
#[derive(Clone)]
pub(crate) struct Verifier {
    pub(crate) store: Arc<dyn KeyStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) format: KeyFormat,
    pub(crate) policy: Policy,
    pub(crate) store_timeout: Duration,
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
        let presented = KeyDigest::of(key);
        let refuse = |kind| Rejection::from(kind).with_fingerprint(presented.fingerprint());
        if !self.format.admits(key) {
            // Without its fingerprint: it may be a password that was pasted into the wrong place, and
            // 64 bits of the hash of one would be enough to guess it by.
            return Err(RejectionKind::WrongChecksum.into());
        }
        match catch_unwind(AssertUnwindSafe(|| self.ask(presented.fingerprint()))) {
            Ok(Asked::Answered(found)) => self.judge(&presented, found, from).map(Verdict::Valid),
            Ok(Asked::Waiting(lookup, deadline)) => {
                let limit = self.store_timeout;
                Ok(Verdict::Waiting(WaitingForStore { presented, lookup, limit, deadline }))
            }
            Err(panic) => Err(refuse(RejectionKind::StorePanicked).with_source(said(&*panic))),
        }
    }

    /// The key that this is, unless it has ended or expired; what it may be used for and from where is not
    /// asked. For a task of its own, that no request waits for.
    pub(crate) async fn look_up(&self, presented: KeyDigest) -> Option<Arc<KeyRecord>> {
        let lookup = self.store.find(presented.fingerprint());
        let found = tokio::time::timeout(self.store_timeout, lookup).await.ok()?;
        let Ok(Some(Entry::Live(record))) = found else { return None };
        let works = presented.matches(&record.digest) && !record.is_expired(self.clock.now());
        works.then_some(record)
    }

    /// Asks the store. May panic: the store may, and the deadline does outside of a Tokio runtime.
    fn ask(&self, fingerprint: Fingerprint) -> Asked {
        match self.store.find(fingerprint).now_or_later() {
            Ok(found) => Asked::Answered(found),
            Err(lookup) => Asked::Waiting(lookup, Box::pin(tokio::time::sleep(self.store_timeout))),
        }
    }

    /// The verdict on what the store found. The digests are compared whole, whatever the store has
    /// compared already.
    fn judge(
        &self,
        presented: &KeyDigest,
        found: Found,
        from: impl FnOnce() -> Option<IpAddr>,
    ) -> Result<Identity, Rejection> {
        let refuse = |kind| Rejection::from(kind).with_fingerprint(presented.fingerprint());
        let record = match found {
            Ok(Some(Entry::Live(record))) if presented.matches(&record.digest) => record,
            Ok(Some(Entry::Live(_)) | None) => return Err(refuse(RejectionKind::UnknownKey)),
            Ok(Some(Entry::Ended(tombstone))) => {
                let kind = match tombstone.cause {
                    EndCause::Deleted => RejectionKind::DeletedKey,
                    EndCause::Regenerated => RejectionKind::RegeneratedKey,
                    EndCause::Rotated => RejectionKind::RotatedKey,
                };
                return Err(refuse(kind).with_subject(Subject::Tombstone(tombstone)));
            }
            Err(error) => return Err(refuse(RejectionKind::StoreFailed).with_source(error)),
        };
        match self.policy.check(&record, || self.clock.now(), from) {
            Ok(()) => Ok(Identity::verified(record)),
            Err(kind) => Err(refuse(kind).with_subject(Subject::Record(record))),
        }
    }
}

/// A lookup under way, under a time limit. Dropping it gives the lookup up.
pub(crate) struct WaitingForStore {
    presented: KeyDigest,
    lookup: Lookup,
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
        let fingerprint = self.presented.fingerprint();
        let refuse = |kind| Rejection::from(kind).with_fingerprint(fingerprint);
        let Self { lookup, deadline, .. } = self;
        let polled = catch_unwind(AssertUnwindSafe(|| match Pin::new(lookup).poll(cx) {
            Poll::Ready(found) => Poll::Ready(Some(found)),
            Poll::Pending => deadline.as_mut().poll(cx).map(|()| None),
        }));
        let answered = match polled {
            Ok(answered) => ready!(answered),
            Err(panic) => {
                let panicked = refuse(RejectionKind::StorePanicked).with_source(said(&*panic));
                return Poll::Ready(Err(panicked));
            }
        };
        Poll::Ready(match answered {
            Some(found) => verifier.judge(&self.presented, found, from),
            None => {
                Err(refuse(RejectionKind::StoreTimedOut).with_source(StoreTimedOut(self.limit)))
            }
        })
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

//! From a presented key to an identity: check its form, find it, compare it, ask the policy. Knows
//! no HTTP and cannot write.
//!
//! Every key is hashed, also one whose checksum is wrong, so that the log can name what was tried and
//! so that the refusals cost alike.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Sleep;

use crate::clock::{Clock, SystemClock};
use crate::digest::KeyDigest;
use crate::identity::Identity;
use crate::key::{KeyFormat, KeyText};
use crate::policy::Policy;
use crate::record::EndCause;
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
pub(crate) enum Verified {
    Now(Identity),
    Later(WaitingForStore),
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

    /// Decides at once when the store answers from memory.
    pub(crate) fn verify(&self, key: KeyText<'_>) -> Result<Verified, Rejection> {
        let presented = KeyDigest::of(key);
        let fingerprint = presented.fingerprint();
        if !self.format.admits(key) {
            let malformed = Rejection::from(RejectionKind::MalformedKey);
            return Err(malformed.with_fingerprint(fingerprint));
        }
        let asked = catch_unwind(AssertUnwindSafe(|| {
            let lookup = self.store.find(fingerprint);
            lookup.now_or_later().map_err(|lookup| (lookup, self.deadline()))
        }));
        match asked.map_err(|panic| store_panicked(&*panic))? {
            Ok(found) => self.judge(&presented, found).map(Verified::Now),
            Err((lookup, deadline)) => Ok(Verified::Later(WaitingForStore {
                presented,
                lookup,
                limit: self.store_timeout,
                deadline,
            })),
        }
    }

    /// Panics outside of a Tokio runtime, hence inside the caller's `catch_unwind`.
    fn deadline(&self) -> Pin<Box<Sleep>> {
        Box::pin(tokio::time::sleep(self.store_timeout))
    }

    /// The verdict on what the store found. The digests are compared whole, whatever the store has
    /// compared already.
    fn judge(&self, presented: &KeyDigest, found: Found) -> Result<Identity, Rejection> {
        let refuse = |kind| Rejection::from(kind).with_fingerprint(presented.fingerprint());
        let record = match found {
            Ok(Some(Entry::Live(record))) if presented.matches(&record.digest) => record,
            Ok(Some(Entry::Live(_)) | None) => return Err(refuse(RejectionKind::UnknownKey)),
            Ok(Some(Entry::Ended(tombstone))) => {
                let kind = match tombstone.cause {
                    EndCause::Deleted => RejectionKind::DeletedKey,
                    EndCause::Regenerated => RejectionKind::RegeneratedKey,
                };
                return Err(refuse(kind).with_subject(Subject::Tombstone(tombstone)));
            }
            Err(error) => return Err(refuse(RejectionKind::StoreFailed).with_source(error)),
        };
        match self.policy.check(&record, || self.clock.now()) {
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
        cx: &mut Context<'_>,
    ) -> Poll<Result<Identity, Rejection>> {
        let lookup = Pin::new(&mut self.lookup);
        match catch_unwind(AssertUnwindSafe(|| lookup.poll(cx))) {
            Ok(Poll::Ready(found)) => Poll::Ready(verifier.judge(&self.presented, found)),
            Err(panic) => Poll::Ready(Err(store_panicked(&*panic))),
            Ok(Poll::Pending) => self.deadline.as_mut().poll(cx).map(|()| {
                let timed_out = Rejection::from(RejectionKind::StoreTimedOut);
                Err(timed_out.with_source(StoreTimedOut(self.limit)))
            }),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("no answer within {0:?}")]
struct StoreTimedOut(Duration);

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct StorePanicked(String);

fn store_panicked(panic: &(dyn Any + Send)) -> Rejection {
    let said = panic.downcast_ref::<&str>().copied();
    let said = said.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let said = said.unwrap_or("a panic without a message").to_owned();
    Rejection::from(RejectionKind::StorePanicked).with_source(StorePanicked(said))
}

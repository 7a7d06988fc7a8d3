//! How much callers may do: what the layer asks before it looks a key up, and before it lets one in.
//! Knows no HTTP and no store.
//!
//! Nothing is limited unless the layer is [told](crate::ApiKeyLayer::with_rate_limit) to. With the feature
//! `limits`, `RateLimit` and `FailureBudget` do it by `governor`, in this process's memory:
//!
#![cfg_attr(feature = "limits", doc = "```")]
#![cfg_attr(not(feature = "limits"), doc = "```ignore")]
//! use std::{num::NonZeroU32, time::Duration};
//! use tower_api_key::limits::{FailureBudget, Quota, RateLimit};
//! use tower_api_key::{ApiKeyLayer, MemoryStore};
//!
//! let a_minute = |requests| Quota::new(NonZeroU32::new(requests).unwrap(), Duration::from_secs(60));
//!
//! let layer = ApiKeyLayer::new(MemoryStore::new())
//!     // 600 requests a minute with each key; 6,000 with one that has the scope `tier:gold`.
//!     .with_rate_limit(RateLimit::new(a_minute(600)).with_quota_for("tier:gold".parse()?, a_minute(6_000)))
//!     // Tell callers how much is left.
//!     .with_rate_limit_headers()
//!     // An address that sends more than 20 invalid keys a minute is not listened to for a while.
//!     .with_failure_budget(FailureBudget::new(a_minute(20)));
//! # Ok::<_, tower_api_key::InvalidText>(())
//! ```
//!
//! Refused requests get 429 with `Retry-After`. Both go by the system's monotonic clock, not by the layer's
//! [`Clock`](crate::Clock): in tests, give them small quotas in place of time.
//!
//! Who may choose a key's scopes may choose its quota. The [management API](crate::manage) gives keys only the
//! scopes that the service lets somebody [give](crate::Principal::with_grantable_scopes): leave tiers out that
//! the account has not got.
//!
//! # Across replicas
//!
//! Each process counts for itself: behind a balancer that spreads requests evenly over *n* replicas, a key
//! gets up to *n* times its quota, and a guesser *n* times its budget. Divide the quotas by the number of
//! replicas, or implement [`KeyLimit`] and [`AttemptLimit`] over counts in memory that you bring in line with the
//! other replicas' beside the requests: neither trait waits for an answer. What was counted is gone when the
//! process ends.
//!
//! Layers share what they count if they are clones of one, or are given one limit in an [`Arc`].

#[cfg(feature = "limits")]
mod governed;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "limits")]
#[cfg_attr(docsrs, doc(cfg(feature = "limits")))]
pub use self::governed::{FailureBudget, Quota, RateLimit};
use crate::identity::Identity;
use crate::rejection::{Refusal, Rejection, RejectionKind, Subject};

/// Limits how often a key is used. Asked for each request with a valid key, so it must neither block nor
/// wait; a panic in here reaches the caller of the service.
pub trait KeyLimit: Send + Sync + 'static {
    /// Takes one request out of the caller's quota.
    ///
    /// # Errors
    ///
    /// How the caller stands, when nothing is left: the request is refused with 429.
    fn take(&self, caller: &Identity) -> Result<Standing, Standing>;
}

/// Limits how often keys are tried that are none. Asked for each request with a key, valid or not, so it
/// must neither block nor wait; a panic in here reaches the caller of the service.
pub trait AttemptLimit: Send + Sync + 'static {
    /// Whether keys from this address are looked at, now.
    ///
    /// # Errors
    ///
    /// When to try again: the request is refused with 429, whatever its key, which is not looked up.
    fn may_try(&self, from: IpAddr) -> Result<(), Duration>;

    /// A request from this address was refused because its key is not valid.
    fn failed(&self, from: IpAddr);
}

impl<L: KeyLimit + ?Sized> KeyLimit for Arc<L> {
    fn take(&self, caller: &Identity) -> Result<Standing, Standing> {
        (**self).take(caller)
    }
}

impl<L: AttemptLimit + ?Sized> AttemptLimit for Arc<L> {
    fn may_try(&self, from: IpAddr) -> Result<(), Duration> {
        (**self).may_try(from)
    }

    fn failed(&self, from: IpAddr) {
        (**self).failed(from);
    }
}

/// How much of its quota a caller has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a limit of one's own builds it")]
pub struct Standing {
    /// How many requests the quota is for.
    pub quota: u32,
    /// The time that it is for.
    pub window: Duration,
    /// How many are left now.
    pub remaining: u32,
    /// After which time the whole quota is there again, if no request comes; when none is left, after which
    /// time the next request is let in.
    pub reset_after: Duration,
}

/// Why a request was refused that is over a limit, for the log and for the answer.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the next request is let in after {retry_after:?}")]
pub(crate) struct Limited {
    pub(crate) retry_after: Duration,
    /// Of a key; an address is told no more than when to come again.
    pub(crate) standing: Option<Standing>,
}

/// The limits of a layer.
#[derive(Clone, Default)]
pub(crate) struct Limits {
    pub(crate) keys: Option<Arc<dyn KeyLimit>>,
    pub(crate) attempts: Option<Arc<dyn AttemptLimit>>,
}

impl Limits {
    /// Whether a key is looked at at all. `from` is asked where failures are limited.
    pub(crate) fn may_try(&self, from: impl FnOnce() -> Option<IpAddr>) -> Result<(), Rejection> {
        let Some(limit) = &self.attempts else { return Ok(()) };
        let Some(from) = from() else { return Ok(()) };
        limit.may_try(from).map_err(|retry_after| {
            let limited = Limited { retry_after, standing: None };
            Rejection::from(RejectionKind::TooManyFailures).with_source(limited)
        })
    }

    /// Takes a request out of the quota of a caller who was verified, if there is one.
    #[inline]
    pub(crate) fn take(&self, caller: &Identity) -> Result<Option<Standing>, Rejection> {
        self.keys.as_ref().map_or(Ok(None), |limit| Self::take_from(&**limit, caller))
    }

    #[cold]
    fn take_from(limit: &dyn KeyLimit, caller: &Identity) -> Result<Option<Standing>, Rejection> {
        limit.take(caller).map(Some).map_err(|standing| {
            let limited = Limited { retry_after: standing.reset_after, standing: Some(standing) };
            Rejection::from(RejectionKind::RateLimited)
                .with_fingerprint(caller.fingerprint())
                .with_subject(Subject::Record(Arc::clone(caller.record())))
                .with_source(limited)
        })
    }

    /// A request was refused; counts it where its key was not valid.
    pub(crate) fn refused(&self, kind: RejectionKind, from: impl FnOnce() -> Option<IpAddr>) {
        if let Some(limit) = &self.attempts
            && kind.refusal() == Refusal::InvalidKey
            && let Some(from) = from()
        {
            limit.failed(from);
        }
    }
}

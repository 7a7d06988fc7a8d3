//! Limits by `governor`, in this process's memory. Knows no HTTP and no store.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use governor::RateLimiter;
use governor::clock::{Clock, DefaultClock, Reference};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;

use super::{AttemptLimit, KeyLimit, Standing};
use crate::identity::Identity;
use crate::network;
use crate::record::{AccountId, KeyId, Scope};

/// Of how many counts those that are whole again are looked for and dropped, and how often.
const MANY: usize = 10_000;
const NOW_AND_THEN: u32 = 1 << 14;

/// A hundred years: `governor` counts no more than 584.
const LONGEST: Duration = Duration::from_hours(100 * 365 * 24);

/// So few paused addresses are not worth a look.
const FEW: usize = 256;

/// The most addresses for which failures are counted.
const MOST_ADDRESSES: usize = 1_000_000;

/// So many requests in so much time. They may come all at once; what was used comes back evenly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    requests: NonZeroU32,
    window: Duration,
}

impl Quota {
    /// So many requests in each `window`, which is a nanosecond for each request at least, and a hundred years
    /// at the most.
    #[must_use]
    pub fn new(requests: NonZeroU32, window: Duration) -> Self {
        let shortest = Duration::from_nanos(requests.get().into());
        Self { requests, window: window.clamp(shortest, LONGEST) }
    }

    /// After which time one request comes back.
    fn interval(self) -> Duration {
        self.window / self.requests.get()
    }

    #[allow(clippy::expect_used, reason = "the window is a nanosecond for each request at least")]
    fn governed(self) -> governor::Quota {
        let quota = governor::Quota::with_period(self.interval()).expect("no interval is zero");
        quota.allow_burst(self.requests)
    }
}

/// A key: some stores know an id in two accounts.
type Owned = (AccountId, KeyId);

/// Limits how often each key is used. A key is told by its id, so that regenerating it does not refill its
/// quota; a rotated key and its successor have one each.
///
/// Takes about 100 bytes for each key that was used within its window, and 50 to 100 ns a request.
#[derive(Debug)]
pub struct RateLimit {
    default: Counts<Owned>,
    by_scope: Vec<(Scope, Counts<Owned>)>,
}

impl RateLimit {
    /// The same quota for each key.
    #[must_use]
    pub fn new(quota: Quota) -> Self {
        Self { default: Counts::new(quota, DefaultClock::default()), by_scope: Vec::new() }
    }

    /// Another quota for keys that have a scope, such as `tier:gold`. Of several scopes that a key has, the
    /// one that was given here first counts. Such a scope must not be among those that everybody may
    /// [give](crate::Principal::with_grantable_scopes) a key.
    #[must_use]
    pub fn with_quota_for(mut self, scope: Scope, quota: Quota) -> Self {
        self.by_scope.push((scope, Counts::new(quota, DefaultClock::default())));
        self
    }
}

impl KeyLimit for RateLimit {
    fn take(&self, caller: &Identity) -> Result<Standing, Standing> {
        let own = self.by_scope.iter().find(|(scope, _)| caller.has_scope(scope));
        let counts = own.map_or(&self.default, |(_, counts)| counts);
        counts.tidy();
        counts.take(&(caller.account().clone(), caller.key_id().clone()))
    }
}

/// Does not listen to addresses that send many invalid keys, until their budget has something left again.
/// What an address sends meanwhile is refused without a lookup, *valid keys too*: behind an address that
/// many callers share, one of them can use up the budget of all.
///
/// A request that is refused because its key is not valid takes one from the budget, also when it was under way
/// already as the budget ended: then its address waits for so much longer, up to the whole window.
///
/// The address is the socket's peer or, behind trusted proxies, whom they name; of IPv6, its first 64 bits,
/// since one customer has all of those. **Where it is not known, nothing is limited**: behind
/// [`TrustedProxies::x_forwarded_proto`](crate::TrustedProxies::x_forwarded_proto) without
/// [`with_x_forwarded_for`](crate::TrustedProxies::with_x_forwarded_for), say. Counted for up to a
/// million addresses, about 100 bytes each, while their budget is not whole.
#[derive(Debug)]
pub struct FailureBudget(Failures<DefaultClock>);

impl FailureBudget {
    /// How many invalid keys each address may send.
    #[must_use]
    pub fn new(quota: Quota) -> Self {
        Self(Failures::new(quota, DefaultClock::default()))
    }
}

impl AttemptLimit for FailureBudget {
    fn may_try(&self, from: IpAddr) -> Result<(), Duration> {
        self.0.may_try(from)
    }

    fn failed(&self, from: IpAddr) {
        self.0.failed(from);
    }
}

struct Failures<C: Clock> {
    counts: Counts<IpAddr, C>,
    paused: RwLock<Paused<C::Instant>>,
}

impl<C: Clock + Clone> Failures<C> {
    fn new(quota: Quota, clock: C) -> Self {
        let paused = Paused { until: HashMap::new(), tidied_at: FEW };
        Self { counts: Counts::new(quota, clock), paused: RwLock::new(paused) }
    }

    fn may_try(&self, from: IpAddr) -> Result<(), Duration> {
        let paused = self.paused.read().unwrap_or_else(PoisonError::into_inner);
        let Some(&until) = paused.until.get(&network::customer(from)) else { return Ok(()) };
        let wait: Duration = until.duration_since(self.counts.clock.now()).into();
        if wait.is_zero() { Ok(()) } else { Err(wait) }
    }

    fn failed(&self, from: IpAddr) {
        let from = network::customer(from);
        self.counts.tidy();
        if self.counts.limiter.len() >= MOST_ADDRESSES {
            return;
        }
        if self.counts.take(&from).is_ok_and(|standing| standing.remaining > 0) {
            return;
        }
        let mut paused = self.paused.write().unwrap_or_else(PoisonError::into_inner);
        let now = self.counts.clock.now();
        paused.tidy(now);
        // It may send the next one when one has come back; what was under way meanwhile is added.
        let interval = self.counts.quota.interval();
        let until = paused.until.entry(from).or_insert(now);
        let waits: Duration = until.duration_since(now).into();
        *until = now + (waits + interval).min(self.counts.quota.window).into();
    }
}

/// Who is not listened to, until when.
struct Paused<I> {
    until: HashMap<IpAddr, I>,
    /// When there are so many, those that are over are dropped.
    tidied_at: usize,
}

impl<I: Reference> Paused<I> {
    fn tidy(&mut self, now: I) {
        if self.until.len() >= self.tidied_at {
            self.until.retain(|_, until| *until > now);
            self.tidied_at = (2 * self.until.len()).max(FEW);
        }
    }
}

impl<C: Clock> fmt::Debug for Failures<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failures").field("quota", &self.counts.quota).finish_non_exhaustive()
    }
}

/// A count for each of many.
struct Counts<K: Hash + Eq + Clone, C: Clock = DefaultClock> {
    quota: Quota,
    clock: C,
    limiter: RateLimiter<K, DefaultKeyedStateStore<K>, C, StateInformationMiddleware>,
    taken: AtomicU32,
}

impl<K: Hash + Eq + Clone, C: Clock + Clone> Counts<K, C> {
    fn new(quota: Quota, clock: C) -> Self {
        let store = DefaultKeyedStateStore::default();
        let limiter = RateLimiter::new(quota.governed(), store, clock.clone());
        Self { quota, clock, limiter, taken: AtomicU32::new(0) }
    }

    /// Now and then, drops what is whole again.
    fn tidy(&self) {
        if self.taken.fetch_add(1, Ordering::Relaxed) % NOW_AND_THEN == NOW_AND_THEN - 1
            && self.limiter.len() > MANY
        {
            self.limiter.retain_recent();
        }
    }

    fn take(&self, key: &K) -> Result<Standing, Standing> {
        let Quota { requests, window } = self.quota;
        let standing = |remaining, reset_after| Standing {
            quota: requests.get(),
            window,
            remaining,
            reset_after,
        };
        match self.limiter.check_key(key) {
            Ok(state) => {
                let remaining = state.remaining_burst_capacity();
                let used = requests.get().saturating_sub(remaining);
                Ok(standing(remaining, self.quota.interval().saturating_mul(used)))
            }
            Err(until) => Err(standing(0, until.wait_time_from(self.clock.now()))),
        }
    }
}

impl<K: Hash + Eq + Clone, C: Clock> fmt::Debug for Counts<K, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counts").field("quota", &self.quota).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

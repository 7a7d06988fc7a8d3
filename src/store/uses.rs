//! What a store is told of the use of keys, and what it tells of it. Knows no store.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use crate::digest::{AgentHash, Fingerprint};
use crate::record::{KeyId, KeyName};

/// How many days before the last day that was noted of a key its days of use are kept.
pub const USAGE_KEPT: u32 = 90;

/// Where counts stop: the most that every store and every JSON number holds.
pub(crate) const MOST_COUNTED: u64 = (1 << 53) - 1;

/// A secret was used since the last note of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Use {
    /// Which.
    pub fingerprint: Fingerprint,
    /// When, the last time; whole milliseconds. All that is counted here is put down to its day.
    pub at: SystemTime,
    /// How many requests were accepted.
    pub requests: u64,
    /// How many were refused.
    pub refusals: u64,
    /// Where the last one that was accepted came from, if that is known; an IPv4 address as one.
    pub address: Option<IpAddr>,
    /// What the last one that was accepted called itself, if it did.
    pub agent: Option<AgentHash>,
}

impl Use {
    /// One request was accepted. The fields are public: set the rest afterwards.
    #[must_use]
    pub fn new(fingerprint: Fingerprint, at: SystemTime) -> Self {
        Self { fingerprint, at, requests: 1, refusals: 0, address: None, agent: None }
    }
}

/// How much a key was used, whichever of its secrets it was.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a store builds it from its rows")]
pub struct KeyUsage {
    /// Which.
    pub key: KeyId,
    /// What its owner calls it, or called it when it ended.
    pub name: KeyName,
    /// When it ended; `None` while it has a secret that was not ended, expired or not.
    pub ended_at: Option<SystemTime>,
    /// The days that have counts, in order.
    pub days: Vec<DayOfUse>,
}

/// How much a key was used on one day. Counts stop at 2⁵³ − 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a store builds it from its row")]
pub struct DayOfUse {
    /// Which.
    pub day: Day,
    /// How many requests were accepted.
    pub requests: u64,
    /// How many were refused.
    pub refusals: u64,
}

/// A day in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(u32);

impl Day {
    /// The day that holds a time. The first is 1970-01-01, also for what is before it.
    #[must_use]
    pub fn of(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(u32::try_from(since.as_secs() / SECONDS).unwrap_or(u32::MAX))
    }

    /// A day as a store kept it.
    #[must_use]
    pub fn from_number(number: u32) -> Self {
        Self(number)
    }

    /// How many days it is after 1970-01-01, for a store to keep.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0
    }

    /// Its first instant.
    ///
    /// # Panics
    ///
    /// Where the system's time does not go so far: on no system before the year 30000.
    #[must_use]
    pub fn start(self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(self.0) * SECONDS)
    }

    /// The day that is so many days before, or the first there is.
    #[must_use]
    pub fn back(self, days: u32) -> Self {
        Self(self.0.saturating_sub(days))
    }
}

/// How long a day is: UTC as computers count it has no leap seconds.
const SECONDS: u64 = 86_400;

#[cfg(test)]
mod tests;

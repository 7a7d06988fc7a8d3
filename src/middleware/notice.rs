//! What a caller is told about its key, in the headers of the response: that it is to be replaced, that
//! it ends, how much may still be done with it. Decides nothing.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::identity::Identity;
use crate::limits::{Limited, Standing};
use crate::rejection::Rejection;

/// RFC 9745.
static DEPRECATION: HeaderName = HeaderName::from_static("deprecation");
/// RFC 8594.
static SUNSET: HeaderName = HeaderName::from_static("sunset");
/// When the key ends, in words of ours: `Sunset` says that there is something to change to.
static KEY_EXPIRES: HeaderName = HeaderName::from_static("api-key-expires");
/// draft-ietf-httpapi-ratelimit-headers-10.
static RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
static RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Which notices a service gives.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Notices {
    /// How long before its end a caller is told when its key expires.
    pub(crate) expiry_within: Option<Duration>,
    pub(crate) rate_limit: bool,
}

/// Headers for one response; most have none.
#[derive(Debug, Default)]
pub(crate) struct Notice(Option<Box<HeaderMap>>);

impl Notices {
    /// What this caller is told. `now` is asked for keys that expire, where the service tells of that.
    #[inline]
    pub(super) fn of(
        self,
        caller: &Identity,
        standing: Option<Standing>,
        now: impl FnOnce() -> SystemTime,
    ) -> Notice {
        // A key in the grace of a rotation expires, too.
        if caller.record().expires_at.is_none() && standing.is_none() {
            return Notice::default();
        }
        self.of_some(caller, standing, now)
    }

    #[cold]
    fn of_some(
        self,
        caller: &Identity,
        standing: Option<Standing>,
        now: impl FnOnce() -> SystemTime,
    ) -> Notice {
        let mut notice = Notice::default();
        let key = caller.record();
        if let (Some(_), Some(end)) = (&key.replaced_by, key.expires_at) {
            notice.rotation(key.replaced_at, end);
        }
        if let (Some(within), Some(end)) = (self.expiry_within, key.expires_at)
            && now().checked_add(within).is_none_or(|soon| end <= soon)
        {
            notice.add(&KEY_EXPIRES, http_date(end));
        }
        if let Some(standing) = standing.filter(|_| self.rate_limit) {
            notice.rate_limit(standing);
        }
        notice
    }

    /// What a refused caller is told: when to come again, if it was over a limit.
    pub(super) fn of_refused(self, rejection: &Rejection) -> Notice {
        let mut notice = Notice::default();
        let source = std::error::Error::source(rejection);
        if let Some(limited) = source.and_then(|source| source.downcast_ref::<Limited>()) {
            let seconds = whole_seconds(limited.retry_after).max(1);
            notice.add(&header::RETRY_AFTER, Some(seconds.to_string()));
            if let Some(standing) = limited.standing.filter(|_| self.rate_limit) {
                notice.rate_limit(standing);
            }
        }
        notice
    }
}

impl Notice {
    /// Adds the headers to those of the response, but those that are there, and of `Deprecation` and
    /// `Sunset` neither where one is there.
    #[inline]
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        if let Some(notice) = &self.0 {
            write_all(notice, headers);
        }
    }

    /// The key has a successor since `since`, and works until `end`.
    fn rotation(&mut self, since: Option<SystemTime>, end: SystemTime) {
        self.add(&DEPRECATION, since.map(|since| format!("@{}", seconds(since))));
        self.add(&SUNSET, http_date(end));
    }

    fn rate_limit(&mut self, standing: Standing) {
        let Standing { quota, window, remaining, reset_after } = standing;
        let (window, reset) = (whole_seconds(window), whole_seconds(reset_after));
        self.add(&RATE_LIMIT_POLICY, Some(format!(r#""key";q={quota};w={window}"#)));
        self.add(&RATE_LIMIT, Some(format!(r#""key";r={remaining};t={reset}"#)));
    }

    fn add(&mut self, name: &HeaderName, value: Option<String>) {
        if let Some(Ok(value)) = value.map(HeaderValue::try_from) {
            self.0.get_or_insert_default().insert(name.clone(), value);
        }
    }
}

#[cold]
fn write_all(notice: &HeaderMap, headers: &mut HeaderMap) {
    // The two belong together: a date of the service's beside one of ours may well be the wrong way round
    // (RFC 9745 § 4).
    let pair = [&DEPRECATION, &SUNSET];
    let is_said = pair.iter().any(|name| headers.contains_key(*name));
    for (name, value) in notice {
        let is_there = headers.contains_key(name) || (is_said && pair.contains(&name));
        if !is_there {
            headers.insert(name.clone(), value.clone());
        }
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Rounded up: who waits for so long has waited long enough. At most 68 years, as many seconds as every
/// client can read: what a number is too long for, some take for none (RFC 9111 § 1.2.2).
fn whole_seconds(time: Duration) -> u64 {
    let seconds = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
    seconds.min(i32::MAX.unsigned_abs().into())
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 § 5.6.7), or `None` past the year 9999.
fn http_date(time: SystemTime) -> Option<String> {
    (seconds(time) < 253_402_300_800).then(|| httpdate::fmt_http_date(time))
}

#[cfg(test)]
mod tests;

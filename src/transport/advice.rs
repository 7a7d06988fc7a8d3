//! What the operator may have to set up, said at once and then, of each kind, once in an hour at the most.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use super::NoEvidence;
use crate::clock::{Clock as _, SystemClock};

/// How long a kind is not said again, in seconds: a scanner that was there first keeps it from being said of a proxy
/// for so long, and not for good. Each refusal has a line of its own at `INFO`.
const PAUSE: u64 = 3_600;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Advice {
    NoConnection,
    NoTls,
    UnknownProxy,
    SilentProxy,
    NotLoopback,
    Forwarded,
    NoClient,
}

/// When each kind was said last by any clone of a rule, in seconds since 1970; 0 is never.
#[derive(Clone, Debug, Default)]
pub(super) struct Advised(Arc<[AtomicU64; Advice::ALL.len()]>);

impl Advised {
    /// `missing` is that of the request which shows it, if one was refused for it.
    pub(super) fn give(&self, advice: Advice, rule: &'static str, missing: Option<&NoEvidence>) {
        let now = SystemClock.now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if !self.is_due(advice, now) {
            return;
        }
        let text = advice.text();
        let error = missing.map(|missing| missing as &dyn std::error::Error);
        // Whoever comes that way cannot get in, whatever its key.
        if advice == Advice::NoConnection {
            tracing::error!(target: "tower_api_key", rule, error, "{text}");
        } else {
            tracing::warn!(target: "tower_api_key", rule, error, "{text}");
        }
    }

    /// Written now and then, since every request may come here.
    fn is_due(&self, advice: Advice, now: u64) -> bool {
        let said_at = &self.0[advice as usize];
        let before = said_at.load(Ordering::Relaxed);
        let now = now.max(1);
        (before == 0 || now.abs_diff(before) >= PAUSE)
            && said_at.compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    pub(super) fn has_said(&self, advice: Advice) -> bool {
        self.0[advice as usize].load(Ordering::Relaxed) != 0
    }
}

impl Advice {
    /// In the order in which they are declared.
    pub(super) const ALL: [Self; 7] = [
        Self::NoConnection,
        Self::NoTls,
        Self::UnknownProxy,
        Self::SilentProxy,
        Self::NotLoopback,
        Self::Forwarded,
        Self::NoClient,
    ];

    fn text(self) -> &'static str {
        match self {
            Self::NoConnection => {
                "no request can be known to have come over HTTPS, because nothing says which connection it came over. \
                 Where this process ends TLS: accept with tower_api_key::tls. \
                 Behind a proxy that ends TLS: Transport::behind(TrustedProxies), and serve with the peer's address \
                 (into_make_service_with_connect_info::<SocketAddr>() of tower_api_key::axum::protect, or AttachConnection). \
                 For development: Transport::insecure_on_loopback(), with the peer's address too."
            }
            Self::NoTls => {
                "a request did not come over TLS, and none has so far. \
                 Where this process ends TLS: accept with tower_api_key::tls. \
                 Behind a proxy that ends TLS: Transport::behind(TrustedProxies). \
                 For development: Transport::insecure_on_loopback()."
            }
            Self::UnknownProxy => {
                "a request came neither over TLS nor from a trusted proxy. \
                 Where its peer is a proxy of yours, TrustedProxies must have its address."
            }
            Self::SilentProxy => {
                "a trusted proxy did not say whether its client used HTTPS. \
                 It must set the header that TrustedProxies was made for, to one value: a list, or two lines, say nothing."
            }
            Self::NotLoopback => {
                "a request came neither over TLS nor from this machine: Transport::insecure_on_loopback() admits no other, \
                 and what a container's published port brings comes from another address. \
                 Where this process ends TLS: accept with tower_api_key::tls. \
                 Behind a proxy that ends TLS: Transport::behind(TrustedProxies)."
            }
            Self::Forwarded => {
                "something has forwarded a request: Transport::insecure_on_loopback() is for requests \
                 that come straight from this machine. Behind a proxy that ends TLS: Transport::behind(TrustedProxies)."
            }
            Self::NoClient => {
                "it is not known where requests come from: keys that are bound to addresses are refused, and no budget \
                 of failures counts. Where the trusted proxies set X-Forwarded-For, or append to it: \
                 TrustedProxies::with_x_forwarded_for."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_said_once_in_an_hour() {
        for now in [1_700_000_000, 0] {
            say_all(now);
        }
    }

    fn say_all(now: u64) {
        let advised = Advised::default();
        for (place, advice) in Advice::ALL.into_iter().enumerate() {
            assert_eq!(advice as usize, place);
            assert!(!advised.has_said(advice));
            assert!(advised.is_due(advice, now));
            assert!(advised.has_said(advice));
            assert!(!advised.clone().is_due(advice, now));
            assert!(!advised.is_due(advice, now + PAUSE - 1));
            assert!(advised.is_due(advice, now + PAUSE + 1));
            // A clock that is set back far enough silences nobody.
            assert!(!advised.is_due(advice, now + 2));
            assert!(advised.is_due(advice, now + 1));
        }
    }
}

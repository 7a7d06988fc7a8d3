//! May this connection carry a key? Knows no store and reads no key.
//!
//! Whether a request came over HTTPS is a fact about its connection, and nothing that the client
//! wrote can prove it: over plain TCP, `GET https://host/ HTTP/1.1` and HTTP/2's `:scheme: https`
//! arrive with an `https` URI, and HTTP/2 over real TLS can arrive with no scheme at all. So the
//! [`Transport`] rule looks at two things only:
//!
//! * the [`Connection`] in the request's extensions, put there by the side that accepted the
//!   connection. Only this crate's TLS acceptors (feature `tls`) can build one that says TLS;
//! * behind a proxy that ends TLS, one header chosen by the service, from the addresses of
//!   [`TrustedProxies`] only.
//!
//! | the service | the rule |
//! | --- | --- |
//! | ends TLS itself | [`Transport::tls`], the default |
//! | is behind a proxy that ends TLS | [`Transport::behind`] |
//! | listens on a Unix socket or in a sidecar | [`Transport::dangerously_assume_https`] |
//! | runs on a developer's machine | [`Transport::insecure_on_loopback`] |
//!
//! Where a proxy ends TLS, which sets `X-Forwarded-Proto`, and sets `X-Forwarded-For` or appends to it:
//!
//! ```
//! use tower_api_key::{ApiKeyLayer, MemoryStore, Transport, TrustedProxies};
//!
//! let proxies = TrustedProxies::x_forwarded_proto(["10.0.0.0/8"])?.with_x_forwarded_for();
//! let layer = ApiKeyLayer::new(MemoryStore::new()).with_transport(Transport::behind(proxies));
//! # Ok::<_, tower_api_key::InvalidProxies>(())
//! ```

mod advice;
mod forwarded;
mod proxies;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderMap, HeaderName, header};

pub use proxies::{InvalidProxies, TrustedProxies};

use self::advice::{Advice, Advised};
use crate::rejection::{Rejection, RejectionKind};

/// The connection that a request came over, in the request's extensions: the peer, taken from the
/// socket, and whether TLS was ended on this connection in this process.
///
/// Anybody can say that a connection is plain; only the acceptors of feature `tls` can say that it
/// is TLS, so no service can claim it by mistake:
///
/// ```compile_fail
/// let forged = tower_api_key::Connection { peer: None, is_tls: true };
/// ```
///
/// Outside of axum, [`AttachConnection`](crate::middleware::AttachConnection) puts it on every
/// request of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    peer: Option<SocketAddr>,
    is_tls: bool,
}

impl Connection {
    /// A connection without TLS. `peer` must come from the socket, never from a header.
    #[must_use]
    pub fn plain(peer: SocketAddr) -> Self {
        Self { peer: Some(peer), is_tls: false }
    }

    /// The evidence. For `tls.rs` alone; a test holds that.
    #[cfg(feature = "tls")]
    pub(crate) fn tls_ended_here(peer: SocketAddr) -> Self {
        Self { peer: Some(peer), is_tls: true }
    }

    /// The other end of the socket.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Whether TLS was ended on this connection, in this process.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    fn peer_ip(&self) -> Option<IpAddr> {
        self.peer.map(|peer| peer.ip().to_canonical())
    }
}

/// The rule by which a request counts as having come over HTTPS.
#[derive(Clone, Debug)]
pub struct Transport {
    rule: Rule,
    /// Whether TLS was seen to end in this process.
    ends_tls: Arc<AtomicBool>,
    advised: Advised,
}

#[derive(Clone, Debug)]
enum Rule {
    Tls,
    Behind(TrustedProxies),
    InsecureOnLoopback,
    AssumeHttps,
}

impl Transport {
    /// TLS is ended in this process, by an acceptor of the module `tls`. The default.
    #[must_use]
    pub fn tls() -> Self {
        Self::by(Rule::Tls)
    }

    /// TLS is ended by a proxy in front. A request from a trusted proxy is what that proxy's header
    /// says, even when the proxy itself speaks TLS to this process; any other request needs TLS
    /// ended in this process.
    #[must_use]
    pub fn behind(proxies: TrustedProxies) -> Self {
        Self::by(Rule::Behind(proxies))
    }

    /// For development: plain HTTP, but only from this machine's loopback addresses and only where
    /// no header shows that something forwarded the request. Never for production: a tunnel or a
    /// proxy on the same machine has a loopback address.
    #[must_use]
    pub fn insecure_on_loopback() -> Self {
        Self::by(Rule::InsecureOnLoopback)
    }

    /// Every request counts as HTTPS. **The operator vouches** that the listener cannot be reached
    /// but through something that ends TLS: a sidecar's loopback port, a Unix socket. Whatever else
    /// reaches it sends its keys in the clear. With a proxy at a known address, use
    /// [`behind`](Self::behind) instead, which also knows where requests come from: here it is not known, so
    /// keys that are bound to addresses are refused.
    #[must_use]
    pub fn dangerously_assume_https() -> Self {
        Self::by(Rule::AssumeHttps)
    }

    fn by(rule: Rule) -> Self {
        Self { rule, ends_tls: Arc::default(), advised: Advised::default() }
    }

    /// Whether the request came over HTTPS, by the rule.
    pub(crate) fn check(
        &self,
        headers: &HeaderMap,
        connection: Option<Connection>,
    ) -> Result<(), Rejection> {
        let evidence = self.evidence(headers, connection).map_err(|missing| {
            if let Some(advice) = self.advice(missing) {
                self.advised.give(advice, self.name(), Some(&missing));
            }
            Rejection::from(RejectionKind::NotHttps).with_source(missing)
        });
        evidence.inspect(|()| self.note_tls())
    }

    /// Whether a request is known to have come over plain HTTP. That nothing proves HTTPS does not say so:
    /// nobody's key should be taken away because a proxy got another address.
    pub(crate) fn is_plain(&self, headers: &HeaderMap, connection: Option<Connection>) -> bool {
        match self.evidence(headers, connection) {
            // Behind a proxy that was not named, the client may well have used HTTPS; and where all
            // connections are plain, there may be one that leaves no trace in the headers.
            Err(NoEvidence::PlainConnection(_)) => {
                self.ends_tls.load(Ordering::Relaxed) && !is_forwarded(headers)
            }
            Err(NoEvidence::ProxySaysHttp(_)) => true,
            _ => false,
        }
    }

    /// Where a request came from: the socket's peer or, where that is a trusted proxy, whom it names.
    /// `None` where that is not known for sure.
    pub(crate) fn client(
        &self,
        headers: &HeaderMap,
        connection: Option<Connection>,
    ) -> Option<IpAddr> {
        let peer = connection?.peer_ip()?;
        match &self.rule {
            Rule::Behind(proxies) if proxies.contain(peer) => {
                // Asked by requests that are let in, too: said once, without a clock.
                if !proxies.name_clients() && !self.advised.has_said(Advice::NoClient) {
                    self.advised.give(Advice::NoClient, self.name(), None);
                }
                proxies.client(headers)
            }
            // The peer is whatever stands in front.
            Rule::AssumeHttps => None,
            _ => Some(peer),
        }
    }

    fn evidence(
        &self,
        headers: &HeaderMap,
        connection: Option<Connection>,
    ) -> Result<(), NoEvidence> {
        let is_tls = connection.is_some_and(|connection| connection.is_tls);
        let peer = connection.and_then(|connection| connection.peer_ip());
        match (&self.rule, peer) {
            (Rule::AssumeHttps, _) => Ok(()),
            (Rule::Behind(proxies), Some(peer)) if proxies.contain(peer) => {
                if proxies.say(b"https", headers) {
                    Ok(())
                } else if proxies.say(b"http", headers) {
                    Err(NoEvidence::ProxySaysHttp(peer))
                } else {
                    Err(NoEvidence::ProxySaysNothing(peer))
                }
            }
            _ if is_tls => Ok(()),
            (Rule::Behind(_), Some(peer)) => Err(NoEvidence::NoTrustedProxy(peer)),
            (Rule::InsecureOnLoopback, Some(peer)) if peer.is_loopback() => {
                if is_forwarded(headers) { Err(NoEvidence::Forwarded(peer)) } else { Ok(()) }
            }
            (Rule::InsecureOnLoopback, Some(peer)) => Err(NoEvidence::NotLoopback(peer)),
            (Rule::Tls, Some(peer)) => Err(NoEvidence::PlainConnection(peer)),
            (_, None) => Err(NoEvidence::NoConnection),
        }
    }

    /// Written once, since every request reads it.
    fn note_tls(&self) {
        if matches!(self.rule, Rule::Tls) && !self.ends_tls.load(Ordering::Relaxed) {
            self.ends_tls.store(true, Ordering::Relaxed);
        }
    }

    /// What is perhaps not set up as it should be, where nothing proves HTTPS. A port that is plain beside one
    /// with TLS, and a proxy that says that its client used plain HTTP, do what they are for.
    fn advice(&self, missing: NoEvidence) -> Option<Advice> {
        match missing {
            NoEvidence::NoConnection => Some(Advice::NoConnection),
            NoEvidence::PlainConnection(_) => {
                (!self.ends_tls.load(Ordering::Relaxed)).then_some(Advice::NoTls)
            }
            NoEvidence::NoTrustedProxy(_) => Some(Advice::UnknownProxy),
            NoEvidence::ProxySaysHttp(_) => None,
            NoEvidence::ProxySaysNothing(_) => Some(Advice::SilentProxy),
            NoEvidence::NotLoopback(_) => Some(Advice::NotLoopback),
            NoEvidence::Forwarded(_) => Some(Advice::Forwarded),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self.rule {
            Rule::Tls => "tls",
            Rule::Behind(_) => "behind trusted proxies",
            Rule::InsecureOnLoopback => "insecure on loopback",
            Rule::AssumeHttps => "assume https",
        }
    }

    /// Whether the rule lets keys travel in the clear.
    pub(crate) fn is_insecure(&self) -> bool {
        matches!(self.rule, Rule::InsecureOnLoopback | Rule::AssumeHttps)
    }
}

/// What is missing, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum NoEvidence {
    #[error("nothing says which connection the request came over")]
    NoConnection,
    #[error("the connection from {0} is not TLS that ends in this process")]
    PlainConnection(IpAddr),
    #[error("the connection from {0} is not TLS, and {0} is not among the trusted proxies")]
    NoTrustedProxy(IpAddr),
    #[error("the trusted proxy {0} says that its client used plain HTTP")]
    ProxySaysHttp(IpAddr),
    #[error(
        "the trusted proxy {0} does not say exactly `https`, once, in the header that was chosen"
    )]
    ProxySaysNothing(IpAddr),
    #[error("the connection from {0} is not TLS, and {0} is not this machine's loopback")]
    NotLoopback(IpAddr),
    #[error("something forwarded the request to {0}")]
    Forwarded(IpAddr),
}

impl Default for Transport {
    fn default() -> Self {
        Self::tls()
    }
}

fn is_forwarded(headers: &HeaderMap) -> bool {
    // What proxies and tunnels add, and programs on the same machine do not.
    static MARKS: [HeaderName; 9] = [
        header::FORWARDED,
        header::VIA,
        HeaderName::from_static("x-forwarded-for"),
        HeaderName::from_static("x-forwarded-host"),
        HeaderName::from_static("x-forwarded-proto"),
        HeaderName::from_static("x-real-ip"),
        HeaderName::from_static("true-client-ip"),
        HeaderName::from_static("cf-connecting-ip"),
        HeaderName::from_static("cdn-loop"),
    ];
    MARKS.iter().any(|mark| headers.contains_key(mark))
}

#[cfg(test)]
mod tests;

//! The proxies whose word is taken, and the one header that they say it in.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;

use super::forwarded;
use crate::network;

/// The addresses of the proxies that end TLS for this service, and the header in which they say
/// whether the client's connection was HTTPS.
///
/// The service chooses **one** header; the other is not looked at. The header must be there exactly
/// once and say exactly `https`: an absent one, a repeated one, a list (which is what a proxy that
/// appends to the client's own header produces) and anything odd mean *not HTTPS*. Configure the
/// proxy to **set** the header, not to append to it.
///
/// Whose request it is, by address, they say in `Forwarded` as well, where that is the header, or in
/// `X-Forwarded-For`, where [`with_x_forwarded_for`](Self::with_x_forwarded_for) says that they do. Otherwise
/// nobody's address is known: keys that are bound to addresses are refused, failures are nobody's, and a warning
/// says so.
///
/// An empty list trusts nobody.
#[derive(Clone, Debug)]
pub struct TrustedProxies {
    networks: Arc<[IpNet]>,
    header: ProxyHeader,
    /// Where they say who the client is.
    client: Option<ClientHeader>,
}

#[derive(Clone, Copy, Debug)]
enum ProxyHeader {
    XForwardedProto,
    Forwarded,
}

#[derive(Clone, Copy, Debug)]
enum ClientHeader {
    XForwardedFor,
    Forwarded,
}

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

impl TrustedProxies {
    /// Proxies that say it in `X-Forwarded-Proto`.
    ///
    /// `networks` are CIDR blocks (`10.0.0.0/8`, `2001:db8::/32`) or single addresses. An
    /// IPv4-mapped IPv6 block (`::ffff:10.0.0.0/104`) is the IPv4 block.
    ///
    /// # Errors
    ///
    /// When a network does not parse, has bits set beyond its prefix (`10.0.0.1/8`: is it that host
    /// or the block?), or is everybody (`0.0.0.0/0`, `::/0`).
    pub fn x_forwarded_proto<N: AsRef<str>>(
        networks: impl IntoIterator<Item = N>,
    ) -> Result<Self, InvalidProxies> {
        Self::by(ProxyHeader::XForwardedProto, None, networks)
    }

    /// Proxies that say it in the `proto` parameter of `Forwarded` (RFC 7239 § 5.4).
    ///
    /// The field is read as strictly as the RFC writes it: a value with a colon in it must be quoted
    /// (`for="192.0.2.60:4711"`), and no space may follow a `;`. What is not well-formed is not HTTPS.
    ///
    /// # Errors
    ///
    /// As [`x_forwarded_proto`](Self::x_forwarded_proto).
    pub fn forwarded<N: AsRef<str>>(
        networks: impl IntoIterator<Item = N>,
    ) -> Result<Self, InvalidProxies> {
        Self::by(ProxyHeader::Forwarded, Some(ClientHeader::Forwarded), networks)
    }

    /// These proxies set `X-Forwarded-For`, or append the address of their peer to it: the client is the last
    /// address there that is no trusted proxy's.
    ///
    /// In the place of the `for` of `Forwarded`, where [that](Self::forwarded) is their other header.
    ///
    /// Every one of them must. A proxy that passes the client's own header on, which nginx does unless it is told
    /// otherwise, makes the address whatever the client likes: a stolen key that is bound to a network is let in
    /// from anywhere, and who guesses keys is somebody else each time.
    #[must_use]
    pub fn with_x_forwarded_for(mut self) -> Self {
        self.client = Some(ClientHeader::XForwardedFor);
        self
    }

    fn by<N: AsRef<str>>(
        header: ProxyHeader,
        client: Option<ClientHeader>,
        networks: impl IntoIterator<Item = N>,
    ) -> Result<Self, InvalidProxies> {
        let networks = networks.into_iter().map(|text| parse_network(text.as_ref()));
        Ok(Self { networks: networks.collect::<Result<_, _>>()?, header, client })
    }

    /// Whether a peer, in its canonical form, is one of the proxies.
    pub(super) fn contain(&self, peer: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&peer))
    }

    /// Whether the one header is there once and says exactly this.
    pub(super) fn say(&self, scheme: &[u8], headers: &HeaderMap) -> bool {
        match self.header {
            ProxyHeader::XForwardedProto => {
                only_line(headers, &X_FORWARDED_PROTO).is_some_and(|line| line == scheme)
            }
            ProxyHeader::Forwarded => only_line(headers, &header::FORWARDED)
                .is_some_and(|line| forwarded::says(scheme, line)),
        }
    }
}

impl TrustedProxies {
    /// Whether there is a header in which they say who the client is.
    pub(super) fn name_clients(&self) -> bool {
        self.client.is_some()
    }

    /// The client of the outermost trusted proxy: of `X-Forwarded-For` the last address that is no trusted
    /// proxy's, since each proxy appends the peer that it saw and what is before that is the client's own
    /// word; of `Forwarded`, which these proxies set, its `for`. `None` where they do not say who it is: a
    /// proxy's own address is nobody's.
    pub(super) fn client(&self, headers: &HeaderMap) -> Option<IpAddr> {
        match self.client? {
            ClientHeader::XForwardedFor => self.last_stranger(headers),
            ClientHeader::Forwarded => only_line(headers, &header::FORWARDED)
                .and_then(forwarded::client)
                .filter(|&client| !self.contain(client)),
        }
    }

    fn last_stranger(&self, headers: &HeaderMap) -> Option<IpAddr> {
        let lines: Vec<_> = headers.get_all(&X_FORWARDED_FOR).iter().collect();
        for hop in lines.iter().rev().flat_map(|line| line.as_bytes().rsplit(|&byte| byte == b','))
        {
            let hop = forwarded::address(hop.trim_ascii())?;
            if !self.contain(hop) {
                return Some(hop);
            }
        }
        None
    }
}

fn only_line<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut lines = headers.get_all(name).iter();
    let line = lines.next()?;
    lines.next().is_none().then_some(line.as_bytes())
}

fn parse_network(text: &str) -> Result<IpNet, InvalidProxies> {
    let invalid = |fault| InvalidProxies { network: text.chars().take(64).collect(), fault };
    network::parse(text).map_err(|fault| invalid(Fault(fault)))
}

/// A list of proxies that cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("trusted proxy {network:?}: {fault}")]
pub struct InvalidProxies {
    network: String,
    fault: Fault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fault(network::Fault);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())?;
        if self.0 == network::Fault::Everybody {
            f.write_str(": name the proxies' addresses, or use Transport::dangerously_assume_https where the listener cannot be reached otherwise")?;
        }
        Ok(())
    }
}

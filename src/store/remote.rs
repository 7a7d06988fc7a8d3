//! Whether a store's server is on another machine, and what is said when the way there is not safe.

use std::net::IpAddr;

/// Where a server is, and what of the way there is checked.
pub(super) struct Way<'a> {
    pub(super) store: &'static str,
    /// A name or an address; `None` is a Unix socket.
    pub(super) host: Option<&'a str>,
    /// TLS, and the certificate is the host's.
    pub(super) is_verified: bool,
    /// How to have it so.
    pub(super) advice: &'static str,
}

impl Way<'_> {
    /// Whether whoever is on the way can read and change what passes, digests of keys among it, and the
    /// password.
    pub(super) fn is_open(&self) -> bool {
        !self.is_verified && self.host.is_some_and(|host| !is_this_machine(host))
    }

    /// One event, if it is open.
    pub(super) fn warn(&self) {
        if self.is_open() {
            tracing::warn!(
                target: "tower_api_key",
                store = self.store,
                host = ?self.host,
                "the store is on another machine, and the connection is not TLS with a certificate that is checked: \
                 whoever is on the way can read and change what passes. {}",
                self.advice
            );
        }
    }
}

/// A loopback address, or the name of one (RFC 6761 § 6.3).
fn is_this_machine(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return address.to_canonical().is_loopback();
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let last = name.rsplit('.').next().unwrap_or_default();
    last.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests;

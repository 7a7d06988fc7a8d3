//! The names under which clients may reach this server: for `Host` and `Origin`.

use std::net::SocketAddr;
use std::str::FromStr;

use http::uri::Authority;

/// A name of this server in front of which something else stands: `api.example.com`, with a port if
/// clients write one.
#[derive(Clone)]
pub(crate) struct PublicHost(Authority);

impl FromStr for PublicHost {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let authority = text.parse::<Authority>().ok();
        let authority = authority.filter(|name| {
            let port = name.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
            let whole = format!("{}{port}", name.host());
            !name.host().is_empty() && !text.contains('*') && text == whole
        });
        authority
            .map(Self)
            .ok_or("expected a host name, such as api.example.com or api.example.com:8443")
    }
}

/// All of them.
pub(crate) struct Names {
    /// Addresses and names of this machine's own.
    local: Vec<String>,
    https_port: u16,
    public: Vec<PublicHost>,
}

impl Names {
    pub(crate) fn new(https: SocketAddr, http: SocketAddr, public: Vec<PublicHost>) -> Self {
        let mut local: Vec<_> = ["localhost", "127.0.0.1", "[::1]"].map(String::from).into();
        for address in [https, http] {
            // 0.0.0.0 is every address, and the name of none.
            if !address.ip().is_unspecified() {
                local.push(match address {
                    SocketAddr::V4(address) => address.ip().to_string(),
                    SocketAddr::V6(address) => format!("[{}]", address.ip()),
                });
            }
        }
        Self { local, https_port: https.port(), public }
    }

    /// This machine's with any port: a tunnel may listen on another.
    pub(super) fn hosts(&self) -> Vec<String> {
        let public = self.public.iter().map(|name| name.0.to_string());
        self.local.iter().cloned().chain(public).collect()
    }

    pub(super) fn origins(&self) -> Vec<String> {
        let local = self.local.iter().map(|host| format!("https://{host}:{}", self.https_port));
        let public = self.public.iter().map(|PublicHost(name)| {
            format!("https://{}:{}", name.host(), name.port_u16().unwrap_or(443))
        });
        local.chain(public).collect()
    }
}

//! Blocks of addresses, as people write them. Knows nobody whose they are.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

/// Why a text is no block of addresses that can be meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Unreadable,
    HostBits,
    Everybody,
}

impl Fault {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "neither an address nor a CIDR block",
            Self::HostBits => {
                "the address has bits beyond the prefix: give the block's first address, or a single address without a prefix"
            }
            Self::Everybody => "this is everybody",
        }
    }
}

/// A CIDR block (`10.0.0.0/8`, `2001:db8::/32`) or a single address, in its canonical form: an
/// IPv4-mapped IPv6 block (`::ffff:10.0.0.0/104`) is the IPv4 block.
pub(crate) fn parse(text: &str) -> Result<IpNet, Fault> {
    let network = read(text).ok_or(Fault::Unreadable)?;
    if network.trunc() != network {
        return Err(Fault::HostBits);
    }
    let network = canonical(network);
    if network.prefix_len() == 0 { Err(Fault::Everybody) } else { Ok(network) }
}

/// Whoever has an address, has all of these.
pub(crate) fn customer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
        address @ IpAddr::V4(_) => address,
    }
}

/// An address, or an address, a slash and a prefix length. The address is read by the standard
/// library, which takes no leading zeros: `010.0.0.0` is 8.0.0.0 to some programs.
fn read(text: &str) -> Option<IpNet> {
    let Some((address, length)) = text.split_once('/') else {
        return text.parse::<IpAddr>().ok().map(IpNet::from);
    };
    let is_plain = length == "0" || !length.starts_with(['0', '+']);
    let length = length.parse().ok().filter(|_| is_plain)?;
    IpNet::new(address.parse().ok()?, length).ok()
}

fn canonical(network: IpNet) -> IpNet {
    match (network, network.addr().to_canonical()) {
        (IpNet::V6(mapped), IpAddr::V4(address)) => {
            let length = mapped.prefix_len().checked_sub(96);
            let block = length.and_then(|length| Ipv4Net::new(address, length).ok());
            block.map_or(network, IpNet::V4)
        }
        _ => network,
    }
}

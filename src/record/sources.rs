//! Where a key may be used from.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use super::InvalidText;
use crate::network;

/// The addresses that a key may be used from: at most 64 CIDR blocks or single addresses, in order, each
/// once. None at all, the default, means *from anywhere*.
///
/// ```
/// use tower_api_key::Sources;
///
/// let office: Sources = "203.0.113.0/24 2001:db8::/48".parse()?;
/// assert!(office.allow("203.0.113.7".parse().unwrap()));
/// assert!(office.allow("::ffff:203.0.113.7".parse().unwrap()), "the same address, in IPv6's words");
/// assert!(!office.allow("198.51.100.1".parse().unwrap()));
/// assert!(Sources::default().allow("198.51.100.1".parse().unwrap()));
/// # Ok::<_, tower_api_key::InvalidText>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources(Box<[IpNet]>);

impl Sources {
    /// The most blocks a key may have.
    pub const MOST: usize = 64;

    /// What each block takes up at the most, in text, with a space before it.
    const LONGEST: usize = 44;

    /// Whether the key may be used from anywhere.
    #[must_use]
    pub fn is_anywhere(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the key may be used from an address.
    #[must_use]
    pub fn allow(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.is_anywhere() || self.0.iter().any(|block| block.contains(&address))
    }
}

/// Blocks separated by single spaces; the empty text is *anywhere*. Refused are a block with bits set
/// beyond its prefix (`10.0.0.1/8`: is it that host or the block?) and one that is everybody.
impl FromStr for Sources {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        if text.len() > Self::MOST * Self::LONGEST {
            return Err(InvalidText::too_long("source addresses", Self::MOST * Self::LONGEST));
        }
        let block = |text| {
            network::parse(text)
                .map_err(|fault| InvalidText::characters("source address", fault.as_str()))
        };
        let blocks: BTreeSet<IpNet> = text.split(' ').map(block).collect::<Result<_, _>>()?;
        if blocks.len() > Self::MOST {
            return Err(InvalidText::characters("source addresses", "at most 64 of them"));
        }
        Ok(Self(blocks.into_iter().collect()))
    }
}

/// As they are parsed; a single address without a prefix length.
impl fmt::Display for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, block) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str(" ")?;
            }
            if block.prefix_len() == block.max_prefix_len() {
                write!(f, "{}", block.addr())?;
            } else {
                write!(f, "{block}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

//! Which addresses are asked for: `198.51.100.7`, `198.51.100.0/24`, `203.0.113.9:80`, `[2001:db8::9]:80`.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use deston_common::net::Ipv6Be;
use ipnet::IpNet;

/// What does not read as an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// Of a prefix.
    #[error("`{0}` is no address and no prefix such as 198.51.100.0/24")]
    Prefix(String),
    /// Of a pattern.
    #[error("`{0}` is no address, no prefix and no address with a port such as 203.0.113.9:80")]
    Pattern(String),
}

/// An address, or all of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix(IpNet);

impl Prefix {
    /// Whether an address is among them.
    pub fn covers(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }

    /// The address and the mask as the programs compare them, both families in one.
    pub fn widened(&self) -> (Ipv6Be, Ipv6Be) {
        let bits = match self.0 {
            IpNet::V4(net) => net.prefix_len() + 96,
            IpNet::V6(net) => net.prefix_len(),
        };
        let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
        (self.0.addr().into(), Ipv6Be::from_octets(mask.to_be_bytes()))
    }
}

impl FromStr for Prefix {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        let address =
            |text: &str| text.parse().map(|address: IpAddr| address.to_canonical().into());
        let net: Result<IpNet, _> = text.parse().or_else(|_| address(text));
        net.map(|net| Self(net.trunc())).map_err(|_| InvalidPattern::Prefix(text.to_owned()))
    }
}

/// An address, all of a network, or one port of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Every port.
    Addresses(Prefix),
    /// This one.
    Port(SocketAddr),
}

impl Pattern {
    /// Whether an address and port are among them.
    pub fn covers(&self, address: SocketAddr) -> bool {
        match self {
            Self::Addresses(prefix) => prefix.covers(address.ip()),
            Self::Port(wanted) => {
                wanted.ip() == address.ip().to_canonical() && wanted.port() == address.port()
            }
        }
    }
}

impl FromStr for Pattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            let ip = address.ip().to_canonical();
            return Ok(Self::Port(SocketAddr::new(ip, address.port())));
        }
        let prefix = text.parse().map(Self::Addresses);
        prefix.map_err(|_: InvalidPattern| InvalidPattern::Pattern(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(pattern: &str, address: &str) -> bool {
        pattern.parse::<Pattern>().unwrap().covers(address.parse().unwrap())
    }

    #[test]
    fn patterns_cover_addresses_networks_and_ports() {
        assert!(covers("198.51.100.7", "198.51.100.7:1"));
        assert!(!covers("198.51.100.7", "198.51.100.8:1"));
        assert!(covers("198.51.100.7/24", "198.51.100.8:1"));
        assert!(covers("203.0.113.9:80", "203.0.113.9:80"));
        assert!(!covers("203.0.113.9:80", "203.0.113.9:81"));
        assert!(covers("2001:db8::/32", "[2001:db8::9]:80"));
        assert!(covers("[2001:db8::9]:80", "[2001:db8::9]:80"));
        assert!(!covers("2001:db8::/32", "198.51.100.7:1"));
    }

    #[test]
    fn an_ipv4_address_is_the_same_when_mapped() {
        assert!(covers("198.51.100.7", "[::ffff:198.51.100.7]:1"));
        assert!(covers("::ffff:198.51.100.7", "198.51.100.7:1"));
    }

    #[test]
    fn what_reads_as_no_address_is_refused_by_name() {
        for text in ["", "host", "198.51.100.7/33", "198.51.100", "203.0.113.9:"] {
            let refused = text.parse::<Pattern>();
            assert_eq!(refused, Err(InvalidPattern::Pattern(text.to_owned())));
            assert!(text.parse::<Prefix>().is_err());
        }
        assert!("203.0.113.9:80".parse::<Prefix>().is_err());
    }

    #[test]
    fn the_programs_compare_both_families_as_one() {
        let widened = |text: &str| text.parse::<Prefix>().unwrap().widened();
        let (address, mask) = widened("198.51.100.0/24");
        assert_eq!(IpAddr::from(address), IpAddr::from([198, 51, 100, 0]));
        assert_eq!(mask.octets()[..15], [0xff; 15]);
        assert_eq!(mask.octets()[15], 0);
        let (_, mask) = widened("2001:db8::/32");
        assert_eq!((mask.octets()[3], mask.octets()[4]), (0xff, 0));
        assert_eq!(widened("::/0").1, Ipv6Be::default());
    }
}

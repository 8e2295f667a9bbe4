//! The five words that tell packets of one flow from all others.

use std::net::{IpAddr, SocketAddr};

/// Protocol number of ICMP.
pub const ICMP: u8 = 1;
/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;
/// Protocol number of ICMPv6.
pub const ICMPV6: u8 = 58;

/// A 5-tuple as it stands in a packet; port 0 where a packet has none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tuple {
    /// Where the packet comes from.
    pub source: SocketAddr,
    /// Where it goes.
    pub destination: SocketAddr,
    /// Protocol number.
    pub protocol: u8,
}

impl Tuple {
    /// The tuple of a packet.
    pub fn new(source: SocketAddr, destination: SocketAddr, protocol: u8) -> Self {
        Self { source, destination, protocol }
    }

    /// The tuple of the answer.
    pub fn reversed(self) -> Self {
        Self::new(self.destination, self.source, self.protocol)
    }

    /// Whether it is of IPv6.
    pub fn is_v6(&self) -> bool {
        self.source.is_ipv6()
    }
}

/// An address as 16 bytes, IPv4 mapped (RFC 4291, section 2.5.5.2).
pub fn widened(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

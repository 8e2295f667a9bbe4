//! Words of a packet, kept in network byte order.

use core::fmt::Debug;
use core::hash::Hash;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::checksum::Change;
use crate::hash::{self, Seed};
use crate::plain_bytes;

/// A 16-bit word in network byte order, such as a port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Be16(u16);

impl Be16 {
    /// From a number in host order.
    #[inline(always)]
    pub const fn from_host(value: u16) -> Self {
        Self(value.to_be())
    }

    /// The number in host order.
    #[inline(always)]
    pub const fn to_host(self) -> u16 {
        u16::from_be(self.0)
    }

    /// The word as it stands in memory, for checksum arithmetic, which no byte order disturbs
    /// (RFC 1071, section 2 (B)).
    #[inline(always)]
    pub const fn word(self) -> u16 {
        self.0
    }

    /// From the word as it stands in memory.
    #[inline(always)]
    pub const fn from_word(word: u16) -> Self {
        Self(word)
    }
}

impl Debug for Be16 {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}", self.to_host())
    }
}

/// An address of either family: what the pipeline, written once, has to know of it.
pub trait Address: Copy + PartialEq + Eq + Hash + Debug + Default + 'static {
    /// Adds to `change` that this address became `to`.
    fn change(self, to: Self, change: Change) -> Change;

    /// Zero if this address is `other`, without a branch: the kernel's verifier follows each one.
    fn differs(self, other: Self) -> u32;

    /// The keyed hash of a client.
    fn hash(self, seed: Seed) -> u64;

    /// The part that limits count as one client: an IPv4 address, or an IPv6 /64, which one
    /// subscriber has for himself (RFC 6177, section 2).
    fn subscriber(self) -> Self;

    /// Whether no packet to `destination` can have come from here: from a group, from nobody, from
    /// the destination itself, or from a loopback address to another (RFC 1812, section 5.3.7; RFC
    /// 4291, sections 2.5.2, 2.5.3 and 2.7).
    fn is_martian_to(self, destination: Self) -> bool;

    /// As an IPv6 address, IPv4 mapped (RFC 4291, section 2.5.5.2).
    fn widened(self) -> Ipv6Be;

    /// From the address as it is widened; what does not fit is cut.
    fn narrowed(wide: Ipv6Be) -> Self;
}

/// An IPv4 address as it stands in a packet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Ipv4Be(u32);

impl Ipv4Be {
    /// From the four bytes in the order they are written.
    #[inline(always)]
    pub const fn from_octets(octets: [u8; 4]) -> Self {
        Self(u32::from_ne_bytes(octets))
    }

    /// The four bytes in the order they are written.
    #[inline(always)]
    pub const fn octets(self) -> [u8; 4] {
        self.0.to_ne_bytes()
    }

    /// The word as it stands in memory, for checksum arithmetic.
    #[inline(always)]
    pub const fn word(self) -> u32 {
        self.0
    }

    /// From the word as it stands in memory.
    #[inline(always)]
    pub const fn from_word(word: u32) -> Self {
        Self(word)
    }
}

impl Address for Ipv4Be {
    #[inline(always)]
    fn change(self, to: Self, change: Change) -> Change {
        change.word32(self.0, to.0)
    }

    #[inline(always)]
    fn differs(self, other: Self) -> u32 {
        self.0 ^ other.0
    }

    #[inline(always)]
    fn hash(self, seed: Seed) -> u64 {
        hash::client_v4(seed, self.octets())
    }

    #[inline(always)]
    fn subscriber(self) -> Self {
        self
    }

    #[inline(always)]
    fn is_martian_to(self, destination: Self) -> bool {
        let ([from, ..], [to, ..]) = (self.octets(), destination.octets());
        let is_own = from == 127 && to == 127;
        !is_own && (from == 0 || from == 127 || from >= 224 || self.0 == destination.0)
    }

    #[inline(always)]
    fn widened(self) -> Ipv6Be {
        Ipv6Be([0, 0, 0xffff_u32.to_be(), self.0])
    }

    #[inline(always)]
    fn narrowed(wide: Ipv6Be) -> Self {
        Self(wide.0[3])
    }
}

impl From<Ipv4Addr> for Ipv4Be {
    fn from(address: Ipv4Addr) -> Self {
        Self::from_octets(address.octets())
    }
}

impl From<Ipv4Be> for Ipv4Addr {
    fn from(address: Ipv4Be) -> Self {
        Self::from(address.octets())
    }
}

impl Debug for Ipv4Be {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}", Ipv4Addr::from(*self))
    }
}

/// An IPv6 address as it stands in a packet, by words of 32 bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Ipv6Be([u32; 4]);
plain_bytes!(Ipv6Be, 16);

impl Ipv6Be {
    /// From the sixteen bytes in the order they are written.
    pub const fn from_octets(octets: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = octets;
        Self([
            u32::from_ne_bytes([a, b, c, d]),
            u32::from_ne_bytes([e, f, g, h]),
            u32::from_ne_bytes([i, j, k, l]),
            u32::from_ne_bytes([m, n, o, p]),
        ])
    }

    /// The sixteen bytes in the order they are written.
    pub const fn octets(self) -> [u8; 16] {
        let [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]] = [
            self.0[0].to_ne_bytes(),
            self.0[1].to_ne_bytes(),
            self.0[2].to_ne_bytes(),
            self.0[3].to_ne_bytes(),
        ];
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    /// The words as they stand in memory.
    #[inline(always)]
    pub const fn words(self) -> [u32; 4] {
        self.0
    }

    /// From the words as they stand in memory.
    #[inline(always)]
    pub const fn from_words(words: [u32; 4]) -> Self {
        Self(words)
    }
}

impl Address for Ipv6Be {
    #[inline(always)]
    fn change(self, to: Self, change: Change) -> Change {
        change
            .word32(self.0[0], to.0[0])
            .word32(self.0[1], to.0[1])
            .word32(self.0[2], to.0[2])
            .word32(self.0[3], to.0[3])
    }

    #[inline(always)]
    fn differs(self, other: Self) -> u32 {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
        (a ^ e) | (b ^ f) | (c ^ g) | (d ^ h)
    }

    #[inline(always)]
    fn hash(self, seed: Seed) -> u64 {
        let word = |low: u32, high: u32| {
            u64::from(u32::from_le(low)) | u64::from(u32::from_le(high)) << 32
        };
        hash::siphash13(seed, word(self.0[0], self.0[1]), word(self.0[2], self.0[3]))
    }

    #[inline(always)]
    fn is_martian_to(self, destination: Self) -> bool {
        const LOOPBACK: u32 = 1_u32.to_be();
        let [a, b, c, d] = self.0;
        let is_low = a | b | c == 0;
        let is_same = self.differs(destination) == 0;
        let is_own = is_low && d == LOOPBACK && is_same;
        let is_group = a & 0xff_u32.to_le() == 0xff_u32.to_le();
        !is_own && (is_group || is_same || (is_low && (d == 0 || d == LOOPBACK)))
    }

    #[inline(always)]
    fn subscriber(self) -> Self {
        Self([self.0[0], self.0[1], 0, 0])
    }

    #[inline(always)]
    fn widened(self) -> Ipv6Be {
        self
    }

    #[inline(always)]
    fn narrowed(wide: Ipv6Be) -> Self {
        wide
    }
}

impl From<Ipv6Addr> for Ipv6Be {
    fn from(address: Ipv6Addr) -> Self {
        Self::from_octets(address.octets())
    }
}

impl From<Ipv6Be> for Ipv6Addr {
    fn from(address: Ipv6Be) -> Self {
        Self::from(address.octets())
    }
}

impl From<IpAddr> for Ipv6Be {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Ipv4Be::from(v4).widened(),
            IpAddr::V6(v6) => v6.into(),
        }
    }
}

impl From<Ipv6Be> for IpAddr {
    fn from(address: Ipv6Be) -> Self {
        Ipv6Addr::from(address).to_canonical()
    }
}

impl Debug for Ipv6Be {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}", Ipv6Addr::from(*self))
    }
}

/// An Ethernet address: three words, since the compiler moves an array of bytes in ways that the
/// verifier refuses on the stack.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct Mac([u16; 3]);

impl Mac {
    /// From the six bytes in the order they are written.
    pub const fn from_octets(octets: [u8; 6]) -> Self {
        let [a, b, c, d, e, f] = octets;
        Self([u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d]), u16::from_ne_bytes([e, f])])
    }

    /// The six bytes in the order they are written.
    pub const fn octets(self) -> [u8; 6] {
        let [[a, b], [c, d], [e, f]] =
            [self.0[0].to_ne_bytes(), self.0[1].to_ne_bytes(), self.0[2].to_ne_bytes()];
        [a, b, c, d, e, f]
    }
}

impl Mac {
    /// The words as they stand in memory.
    #[inline(always)]
    pub const fn words(&self) -> [u16; 3] {
        let [a, b, c] = self.0;
        [a, b, c]
    }
}

impl Debug for Mac {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let [a, b, c, d, e, g] = self.octets();
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// IP protocol number of ICMP.
pub const ICMP: u8 = 1;
/// IP protocol number of IPv4 in a tunnel (RFC 2003).
pub const IPIP: u8 = 4;
/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;
/// IP protocol number of IPv6 in a tunnel (RFC 2473).
pub const IPV6: u8 = 41;
/// IP protocol number of ICMPv6.
pub const ICMPV6: u8 = 58;

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(text: &str) -> Ipv4Be {
        text.parse::<Ipv4Addr>().unwrap().into()
    }

    fn v6(text: &str) -> Ipv6Be {
        text.parse::<Ipv6Addr>().unwrap().into()
    }

    #[test]
    fn what_sends_nothing_to_other_hosts_is_a_martian() {
        let ours = v4("192.0.2.1");
        for from in ["0.0.0.0", "0.255.0.1", "127.0.0.1", "224.0.0.1", "255.255.255.255"] {
            assert!(v4(from).is_martian_to(ours), "{from}");
        }
        let ours = v6("2001:db8::1");
        for from in ["::", "::1", "ff02::1"] {
            assert!(v6(from).is_martian_to(ours), "{from}");
        }
        assert!(v4("192.0.2.1").is_martian_to(v4("192.0.2.1")));
        assert!(ours.is_martian_to(ours));
    }

    #[test]
    fn hosts_and_what_is_on_the_loopback_are_no_martians() {
        for from in ["1.0.0.1", "126.255.255.255", "128.0.0.0", "198.51.100.7", "223.255.255.255"] {
            assert!(!v4(from).is_martian_to(v4("192.0.2.1")), "{from}");
        }
        for from in ["2001:db8::7", "fe80::1", "fd00::1", "::2"] {
            assert!(!v6(from).is_martian_to(v6("2001:db8::1")), "{from}");
        }
        assert!(!v4("127.0.0.1").is_martian_to(v4("127.0.0.1")));
        assert!(!v4("127.0.0.1").is_martian_to(v4("127.0.0.2")));
        assert!(!v6("::1").is_martian_to(v6("::1")));
    }
}

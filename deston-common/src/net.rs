//! Words of a packet, kept in network byte order.

use core::net::Ipv4Addr;

/// A 16-bit word in network byte order, such as a port.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
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

impl core::fmt::Debug for Be16 {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}", self.to_host())
    }
}

/// An IPv4 address as it stands in a packet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
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

impl core::fmt::Debug for Ipv4Be {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}", Ipv4Addr::from(*self))
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

impl core::fmt::Debug for Mac {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let [a, b, c, d, e, g] = self.octets();
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;

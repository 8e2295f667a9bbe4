//! Where a spec takes place: at which hook, and with addresses of which family.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use deston::datapath::Hook;

/// An address family, with the lab's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// A hook and a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The program that is run.
    pub hook: Hook,
    /// The family of all addresses.
    pub family: Family,
}

impl Setting {
    /// IPv4 at XDP.
    pub const XDP4: Self = Self { hook: Hook::Xdp, family: Family::V4 };
    /// IPv6 at XDP.
    pub const XDP6: Self = Self { hook: Hook::Xdp, family: Family::V6 };
    /// IPv4 at TC.
    pub const TC4: Self = Self { hook: Hook::Tc, family: Family::V4 };
    /// IPv6 at TC.
    pub const TC6: Self = Self { hook: Hook::Tc, family: Family::V6 };
    /// Both hooks, both families.
    pub const ALL: [Self; 4] = [Self::XDP4, Self::XDP6, Self::TC4, Self::TC6];
    /// XDP, both families.
    pub const XDP: [Self; 2] = [Self::XDP4, Self::XDP6];
    /// IPv4, both hooks.
    pub const IPV4: [Self; 2] = [Self::XDP4, Self::TC4];
    /// IPv6, both hooks.
    pub const IPV6: [Self; 2] = [Self::XDP6, Self::TC6];
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {:?}", self.family, self.hook)
    }
}

impl Family {
    /// Both families.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }

    /// Where clients connect to.
    pub fn listener(self) -> SocketAddr {
        (self.near(10), 80).into()
    }

    /// An address of the balancer's network that means nothing to us.
    pub fn stranger(self) -> IpAddr {
        self.near(99)
    }

    /// A router on the way to servers or clients.
    pub fn router(self) -> IpAddr {
        self.near(254)
    }

    /// The `n`th address that packets to servers come from, from 1 to 8.
    pub fn snat(self, n: u8) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::new(203, 0, 113, n).into(),
            Self::V6 => Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, n.into()).into(),
        }
    }

    /// The `n`th client, from 1. Each comes from port 40,000, which no SNAT range holds.
    pub fn client(self, n: u16) -> SocketAddr {
        let host: IpAddr = match self {
            Self::V4 => {
                Ipv4Addr::from(u32::from(Ipv4Addr::new(203, 0, 113, 20)) + u32::from(n)).into()
            }
            Self::V6 => Ipv6Addr::new(0x2001, 0xdb8, 3, n, 0, 0, 0, 0x77).into(),
        };
        (host, 40_000).into()
    }

    /// The `n`th server, from 1.
    pub fn server(self, n: u16) -> SocketAddr {
        let host: IpAddr = match self {
            Self::V4 => {
                Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 51, 100, 0)) + u32::from(n)).into()
            }
            Self::V6 => Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, n).into(),
        };
        (host, 8_000).into()
    }

    /// Which server has an address, if any has.
    pub fn server_number(self, address: IpAddr) -> Option<u16> {
        (1..=512).find(|&n| self.server(n).ip() == address)
    }

    /// Bytes of an IP header without options or extensions.
    pub fn header_len(self) -> usize {
        match self {
            Self::V4 => 20,
            Self::V6 => 40,
        }
    }

    fn near(self, host: u8) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::new(192, 0, 2, host).into(),
            Self::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host.into()).into(),
        }
    }
}

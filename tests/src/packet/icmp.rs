//! ICMP for both families: echo, and errors that quote a packet.

use std::net::IpAddr;

use super::{Packet, Transport};

/// Types of ICMP for IPv4 (RFC 792).
pub mod v4 {
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 3;
    /// Source quench.
    pub const SOURCE_QUENCH: u8 = 4;
    /// Redirect.
    pub const REDIRECT: u8 = 5;
    /// Echo request.
    pub const ECHO: u8 = 8;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
    /// Parameter problem.
    pub const PARAMETER: u8 = 12;
    /// Code of UNREACHABLE: fragmentation needed.
    pub const NEEDS_FRAGMENTS: u8 = 4;
}

/// Types of ICMP for IPv6 (RFC 4443).
pub mod v6 {
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 1;
    /// Packet too big.
    pub const TOO_BIG: u8 = 2;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 3;
    /// Parameter problem.
    pub const PARAMETER: u8 = 4;
    /// Echo request.
    pub const ECHO: u8 = 128;
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 129;
    /// Neighbour solicitation.
    pub const NEIGHBOUR: u8 = 135;
}

/// How much of a packet an error quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quote {
    /// The IP header and so many bytes: 8 are the least (RFC 792).
    Bytes(usize),
    /// All of it.
    Whole,
}

impl Packet {
    /// An echo request.
    pub fn echo(source: IpAddr, destination: IpAddr, payload: &[u8]) -> Self {
        let kind = if source.is_ipv4() { v4::ECHO } else { v6::ECHO };
        Self::icmp(source, destination, (kind, 0), [0x12, 0x34, 0, 1], payload)
    }

    /// The reply to this echo request.
    pub fn echo_reply(&self) -> Self {
        let Transport::Icmp { rest, .. } = self.transport else { panic!("no echo request") };
        let kind = if self.is_v4() { v4::ECHO_REPLY } else { v6::ECHO_REPLY };
        let (source, destination) = (self.destination.ip(), self.source.ip());
        Self {
            source_mac: self.destination_mac,
            destination_mac: self.source_mac,
            tags: self.tags.clone(),
            ..Self::icmp(source, destination, (kind, 0), rest, &self.payload)
        }
    }

    /// Any ICMP packet of the addresses' family.
    pub fn icmp(
        source: IpAddr,
        destination: IpAddr,
        (kind, code): (u8, u8),
        rest: [u8; 4],
        payload: &[u8],
    ) -> Self {
        let transport = Transport::Icmp { kind, code, rest };
        Self::new((source, 0), (destination, 0), transport, payload)
    }

    /// The error about this packet that `from` sends to its source.
    pub fn error(&self, from: IpAddr, kind_code: (u8, u8), rest: [u8; 4], quote: Quote) -> Self {
        let quoted = self.quoted(quote);
        Self {
            source_mac: self.destination_mac,
            destination_mac: self.source_mac,
            ..Self::icmp(from, self.source.ip(), kind_code, rest, &quoted)
        }
    }

    /// What an error quotes of this packet.
    pub fn quoted(&self, quote: Quote) -> Vec<u8> {
        let mut bytes = self.ip_bytes();
        if let Quote::Bytes(len) = quote {
            bytes.truncate(self.ip_header_len() + len);
        }
        bytes
    }

    /// The port or host that this packet is for cannot be reached.
    pub fn unreachable(&self, from: IpAddr, quote: Quote) -> Self {
        // Port unreachable in both families.
        let kind_code = if self.is_v4() { (v4::UNREACHABLE, 3) } else { (v6::UNREACHABLE, 4) };
        self.error(from, kind_code, [0; 4], quote)
    }

    /// This packet is longer than a link takes.
    pub fn too_big(&self, from: IpAddr, mtu: u16, quote: Quote) -> Self {
        let [high, low] = mtu.to_be_bytes();
        let kind_code =
            if self.is_v4() { (v4::UNREACHABLE, v4::NEEDS_FRAGMENTS) } else { (v6::TOO_BIG, 0) };
        self.error(from, kind_code, [0, 0, high, low], quote)
    }

    /// This packet's time to live ran out.
    pub fn time_exceeded(&self, from: IpAddr, quote: Quote) -> Self {
        let kind = if self.is_v4() { v4::TIME_EXCEEDED } else { v6::TIME_EXCEEDED };
        self.error(from, (kind, 0), [0; 4], quote)
    }
}

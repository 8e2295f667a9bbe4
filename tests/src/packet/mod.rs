//! Packets built and read byte by byte, with checksums computed from scratch: nothing here is
//! shared with the code under test.
//!
//! A [`Packet`] says what a frame says; [`Packet::bytes`] writes it, [`Packet::read`] reads it back,
//! and [`oracle`] has an independent implementation judge what the programs emit.

mod build;
mod checksum;
mod extension;
mod fragments;
mod icmp;
pub mod oracle;
mod read;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};

pub use self::checksum::internet_checksum;
pub use self::extension::{Extension, kind};
pub use self::fragments::{Fragment, join, split};
pub use self::icmp::{Quote, v4, v6};

/// TCP flags.
pub mod flags {
    /// FIN.
    pub const FIN: u8 = 0x01;
    /// SYN.
    pub const SYN: u8 = 0x02;
    /// RST.
    pub const RST: u8 = 0x04;
    /// PSH.
    pub const PSH: u8 = 0x08;
    /// ACK.
    pub const ACK: u8 = 0x10;
    /// URG.
    pub const URG: u8 = 0x20;
    /// SYN and ACK: the server's answer to a SYN.
    pub const SYN_ACK: u8 = SYN | ACK;
    /// FIN and ACK: what closes a side.
    pub const FIN_ACK: u8 = FIN | ACK;
}

/// IP protocol numbers.
pub mod protocol {
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// IPv4 in a tunnel.
    pub const IPIP: u8 = 4;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 in a tunnel.
    pub const IPV6: u8 = 41;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
}

/// Ethernet types.
pub mod ether_type {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// A VLAN tag of IEEE 802.1Q.
    pub const VLAN: u16 = 0x8100;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// An outer VLAN tag of IEEE 802.1ad.
    pub const SERVICE_VLAN: u16 = 0x88a8;
}

/// Bytes of an Ethernet header without tags.
pub const ETHERNET: usize = 14;
/// Ethernet address the test's clients send from.
pub const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xc];
/// Ethernet address of the balancer towards clients.
pub const BALANCER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xb];

/// A VLAN tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Tag protocol identifier.
    pub tpid: u16,
    /// Priority, drop eligibility and VLAN identifier.
    pub tci: u16,
}

/// What a frame with an IP packet says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Ethernet source.
    pub source_mac: [u8; 6],
    /// Ethernet destination.
    pub destination_mac: [u8; 6],
    /// VLAN tags, outermost first.
    pub tags: Vec<Tag>,
    /// IP source; the port of what has none is 0.
    pub source: SocketAddr,
    /// IP destination, of the same family.
    pub destination: SocketAddr,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Type of service, or traffic class.
    pub traffic_class: u8,
    /// IPv6: flow label.
    pub flow_label: u32,
    /// IPv4: identification.
    pub id: u16,
    /// IPv4: flags and fragment offset as they stand in the header.
    pub fragment: u16,
    /// IPv4: options, a multiple of 4 bytes.
    pub options: Vec<u8>,
    /// IPv6: extension headers.
    pub extensions: Vec<Extension>,
    /// The header after those.
    pub transport: Transport,
    /// What it carries.
    pub payload: Vec<u8>,
    /// What follows the IP packet in the frame.
    pub padding: Vec<u8>,
}

/// The transport header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp(Tcp),
    /// UDP.
    Udp {
        /// Whether the checksum is computed; without, it is 0.
        checksum: bool,
    },
    /// ICMP of the packet's family.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// The second word of the header.
        rest: [u8; 4],
    },
    /// Another protocol, or a later fragment: the payload follows at once.
    Other(u8),
}

/// What a TCP header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Flags.
    pub flags: u8,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Window.
    pub window: u16,
    /// Options, a multiple of 4 bytes.
    pub options: Vec<u8>,
}

impl Packet {
    /// A TCP packet.
    pub fn tcp(
        source: impl Into<SocketAddr>,
        destination: impl Into<SocketAddr>,
        flags: u8,
    ) -> Self {
        let tcp = Tcp { flags, seq: 1_000, ack: 2_000, window: 0xffff, options: Vec::new() };
        Self::new(source, destination, Transport::Tcp(tcp), b"")
    }

    /// A UDP packet.
    pub fn udp(
        source: impl Into<SocketAddr>,
        destination: impl Into<SocketAddr>,
        payload: &[u8],
    ) -> Self {
        Self::new(source, destination, Transport::Udp { checksum: true }, payload)
    }

    /// A packet of another protocol.
    pub fn other(source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> Self {
        Self::new((source, 0), (destination, 0), Transport::Other(protocol), payload)
    }

    /// This packet's IP packet in a tunnel.
    pub fn tunnelled(&self, source: IpAddr, destination: IpAddr) -> Self {
        let number = if self.is_v4() { protocol::IPIP } else { protocol::IPV6 };
        Self {
            source_mac: self.source_mac,
            destination_mac: self.destination_mac,
            tags: self.tags.clone(),
            padding: self.padding.clone(),
            traffic_class: self.traffic_class,
            ..Self::other(source, destination, number, &self.ip_bytes())
        }
    }

    fn new(
        source: impl Into<SocketAddr>,
        destination: impl Into<SocketAddr>,
        transport: Transport,
        payload: &[u8],
    ) -> Self {
        let (source, destination) = (source.into(), destination.into());
        Self {
            source_mac: CLIENT_MAC,
            destination_mac: BALANCER_MAC,
            tags: Vec::new(),
            source,
            destination,
            ttl: 64,
            traffic_class: 0,
            flow_label: 0,
            id: if source.is_ipv4() { 0x1234 } else { 0 },
            fragment: 0,
            options: Vec::new(),
            extensions: Vec::new(),
            transport,
            payload: payload.to_vec(),
            padding: Vec::new(),
        }
    }

    /// The answer of the packet's receiver: to TCP with these flags, the next numbers of both sides
    /// and nothing to carry.
    pub fn answer(&self, flags: u8) -> Self {
        let mut answer = Self::new(self.destination, self.source, self.transport.clone(), b"");
        if let Transport::Tcp(tcp) = &mut answer.transport {
            *tcp = Tcp { flags, seq: 5_000, ack: self.next_seq(), window: 0xffff, options: vec![] };
        }
        Self { source_mac: self.destination_mac, destination_mac: self.source_mac, ..answer }
    }

    /// With another time to live.
    pub fn ttl(self, ttl: u8) -> Self {
        Self { ttl, ..self }
    }

    /// With another payload.
    pub fn payload(self, payload: &[u8]) -> Self {
        Self { payload: payload.to_vec(), ..self }
    }

    /// With VLAN tags, outermost first.
    pub fn tags(self, tags: &[Tag]) -> Self {
        Self { tags: tags.to_vec(), ..self }
    }

    /// With IPv6 extension headers.
    pub fn extensions(self, extensions: &[Extension]) -> Self {
        Self { extensions: extensions.to_vec(), ..self }
    }

    /// TCP with another sequence number.
    pub fn seq(self, seq: u32) -> Self {
        self.with_tcp(|tcp| tcp.seq = seq)
    }

    /// TCP with another acknowledgement number.
    pub fn ack(self, ack: u32) -> Self {
        self.with_tcp(|tcp| tcp.ack = ack)
    }

    /// TCP with other flags.
    pub fn flags(self, flags: u8) -> Self {
        self.with_tcp(|tcp| tcp.flags = flags)
    }

    /// TCP with options.
    pub fn tcp_options(self, options: &[u8]) -> Self {
        self.with_tcp(|tcp| tcp.options = options.to_vec())
    }

    /// UDP without a checksum.
    pub fn without_checksum(self) -> Self {
        Self { transport: Transport::Udp { checksum: false }, ..self }
    }

    fn with_tcp(mut self, change: impl FnOnce(&mut Tcp)) -> Self {
        let Transport::Tcp(tcp) = &mut self.transport else { panic!("{self:?} is not TCP") };
        change(tcp);
        self
    }

    /// What its TCP header says.
    pub fn tcp_header(&self) -> &Tcp {
        let Transport::Tcp(tcp) = &self.transport else { panic!("{self:?} is not TCP") };
        tcp
    }

    /// TCP: the sequence number after this packet.
    pub fn next_seq(&self) -> u32 {
        let tcp = self.tcp_header();
        let flags = u32::from(tcp.flags & flags::SYN != 0) + u32::from(tcp.flags & flags::FIN != 0);
        tcp.seq.wrapping_add(self.payload.len() as u32 + flags)
    }

    /// Whether it is IPv4.
    pub fn is_v4(&self) -> bool {
        self.source.is_ipv4()
    }

    /// IP protocol number of its transport.
    pub fn protocol(&self) -> u8 {
        match self.transport {
            Transport::Tcp(_) => protocol::TCP,
            Transport::Udp { .. } => protocol::UDP,
            Transport::Icmp { .. } if self.is_v4() => protocol::ICMP,
            Transport::Icmp { .. } => protocol::ICMPV6,
            Transport::Other(number) => number,
        }
    }
}

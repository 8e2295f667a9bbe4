//! Packets built and read byte by byte, with checksums computed from scratch: nothing here is
//! shared with the code under test.

use std::net::Ipv4Addr;

/// TCP flags.
pub mod flags {
    /// FIN.
    pub const FIN: u8 = 0x01;
    /// SYN.
    pub const SYN: u8 = 0x02;
    /// RST.
    pub const RST: u8 = 0x04;
    /// ACK.
    pub const ACK: u8 = 0x10;
}

/// Ethernet address the test's clients send from.
pub const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xc];
/// Ethernet address of the balancer towards clients.
pub const BALANCER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xb];

/// What an IPv4 TCP or UDP packet says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Ethernet source.
    pub source_mac: [u8; 6],
    /// Ethernet destination.
    pub destination_mac: [u8; 6],
    /// IP source.
    pub source: (Ipv4Addr, u16),
    /// IP destination.
    pub destination: (Ipv4Addr, u16),
    /// Time to live.
    pub ttl: u8,
    /// IP options, a multiple of 4 bytes.
    pub options: Vec<u8>,
    /// Flags and fragment offset, host order.
    pub fragment: u16,
    /// TCP with these flags, or UDP.
    pub transport: Transport,
    /// What it carries.
    pub payload: Vec<u8>,
}

/// The transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp {
        /// Flags.
        flags: u8,
        /// Sequence number.
        seq: u32,
        /// Acknowledgement number.
        ack: u32,
    },
    /// UDP.
    Udp {
        /// Whether the checksum is computed; without, it is 0.
        checksum: bool,
    },
}

impl Packet {
    /// A TCP packet from a client.
    pub fn tcp(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16), flags: u8) -> Self {
        Self {
            source_mac: CLIENT_MAC,
            destination_mac: BALANCER_MAC,
            source,
            destination,
            ttl: 64,
            options: Vec::new(),
            fragment: 0,
            transport: Transport::Tcp { flags, seq: 1_000, ack: 2_000 },
            payload: Vec::new(),
        }
    }

    /// A UDP packet from a client.
    pub fn udp(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16), payload: &[u8]) -> Self {
        Self {
            transport: Transport::Udp { checksum: true },
            payload: payload.to_vec(),
            ..Self::tcp(source, destination, 0)
        }
    }

    /// The answer of the packet's receiver.
    pub fn answer(&self, flags: u8) -> Self {
        let transport = match self.transport {
            Transport::Tcp { .. } => Transport::Tcp { flags, seq: 5_000, ack: 1_001 },
            Transport::Udp { checksum } => Transport::Udp { checksum },
        };
        Self {
            source_mac: self.destination_mac,
            destination_mac: self.source_mac,
            source: self.destination,
            destination: self.source,
            ttl: 64,
            transport,
            ..self.clone()
        }
    }

    /// The frame, with all checksums right.
    pub fn bytes(&self) -> Vec<u8> {
        let l4 = self.l4_bytes();
        let header_len = 20 + self.options.len();
        let mut ip = vec![0x40 | (header_len / 4) as u8, 0];
        ip.extend(((header_len + l4.len()) as u16).to_be_bytes());
        ip.extend(0x1234_u16.to_be_bytes());
        ip.extend(self.fragment.to_be_bytes());
        ip.extend([self.ttl, self.protocol(), 0, 0]);
        ip.extend(self.source.0.octets());
        ip.extend(self.destination.0.octets());
        ip.extend(&self.options);
        let sum = internet_checksum(&ip);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());

        let mut frame = Vec::new();
        frame.extend(self.destination_mac);
        frame.extend(self.source_mac);
        frame.extend(0x0800_u16.to_be_bytes());
        frame.extend(ip);
        frame.extend(l4);
        frame
    }

    fn protocol(&self) -> u8 {
        match self.transport {
            Transport::Tcp { .. } => 6,
            Transport::Udp { .. } => 17,
        }
    }

    fn l4_bytes(&self) -> Vec<u8> {
        let mut l4 = Vec::new();
        l4.extend(self.source.1.to_be_bytes());
        l4.extend(self.destination.1.to_be_bytes());
        let checksum_at = match self.transport {
            Transport::Tcp { flags, seq, ack } => {
                l4.extend(seq.to_be_bytes());
                l4.extend(ack.to_be_bytes());
                l4.extend([0x50, flags]);
                l4.extend(0xffff_u16.to_be_bytes());
                l4.extend([0, 0, 0, 0]);
                Some(16)
            }
            Transport::Udp { checksum } => {
                l4.extend((8 + self.payload.len() as u16).to_be_bytes());
                l4.extend([0, 0]);
                checksum.then_some(6)
            }
        };
        l4.extend(&self.payload);
        if let Some(at) = checksum_at {
            let mut summed = Vec::new();
            summed.extend(self.source.0.octets());
            summed.extend(self.destination.0.octets());
            summed.extend([0, self.protocol()]);
            summed.extend((l4.len() as u16).to_be_bytes());
            summed.extend(&l4);
            let sum = match internet_checksum(&summed) {
                0 if self.protocol() == 17 => 0xffff,
                sum => sum,
            };
            l4[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        l4
    }
}

/// RFC 1071, section 4.1, over bytes.
fn internet_checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

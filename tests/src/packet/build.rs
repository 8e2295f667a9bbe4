//! From what a packet says to its bytes.

use std::net::IpAddr;

use super::checksum::{internet_checksum, with_pseudo_header};
use super::{ETHERNET, Packet, Tcp, Transport, ether_type, protocol};

impl Packet {
    /// The frame, with all lengths and checksums right.
    pub fn bytes(&self) -> Vec<u8> {
        let mut frame = self.link_bytes();
        frame.extend(self.ip_bytes());
        frame.extend(&self.padding);
        frame
    }

    /// The frame in whose first fragment the transport's checksum and length speak of the datagram.
    pub fn ip_bytes(&self) -> Vec<u8> {
        self.ip_bytes_around(&self.transport_bytes())
    }

    /// Where the IP header starts.
    pub fn network_at(&self) -> usize {
        ETHERNET + 4 * self.tags.len()
    }

    /// Where the transport header starts.
    pub fn transport_at(&self) -> usize {
        self.network_at() + self.ip_header_len()
    }

    /// Bytes of the IP header, extension headers included.
    pub fn ip_header_len(&self) -> usize {
        if self.is_v4() {
            20 + self.options.len()
        } else {
            40 + self.extensions.iter().map(|extension| extension.body.len() + 2).sum::<usize>()
        }
    }

    pub(super) fn link_bytes(&self) -> Vec<u8> {
        let mut frame = Vec::new();
        frame.extend(self.destination_mac);
        frame.extend(self.source_mac);
        for tag in &self.tags {
            frame.extend(tag.tpid.to_be_bytes());
            frame.extend(tag.tci.to_be_bytes());
        }
        let kind = if self.is_v4() { ether_type::IPV4 } else { ether_type::IPV6 };
        frame.extend(kind.to_be_bytes());
        frame
    }

    /// The IP packet around a transport header and its payload.
    pub(super) fn ip_bytes_around(&self, transport: &[u8]) -> Vec<u8> {
        let mut ip = match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let header_len = self.ip_header_len();
                assert!(header_len <= 60 && header_len.is_multiple_of(4), "options fill words");
                let mut ip = vec![0x40 | (header_len / 4) as u8, self.traffic_class];
                ip.extend(((header_len + transport.len()) as u16).to_be_bytes());
                ip.extend(self.id.to_be_bytes());
                ip.extend(self.fragment.to_be_bytes());
                ip.extend([self.ttl, self.protocol(), 0, 0]);
                ip.extend(source.octets());
                ip.extend(destination.octets());
                ip.extend(&self.options);
                let sum = internet_checksum(&ip);
                ip[10..12].copy_from_slice(&sum.to_be_bytes());
                ip
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let chain: Vec<u8> = self
                    .extensions
                    .iter()
                    .map(|extension| extension.kind)
                    .chain([self.protocol()])
                    .collect();
                let word = 6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label;
                let mut ip = word.to_be_bytes().to_vec();
                let payload = self.ip_header_len() - 40 + transport.len();
                ip.extend((payload as u16).to_be_bytes());
                ip.extend([chain[0], self.ttl]);
                ip.extend(source.octets());
                ip.extend(destination.octets());
                for (extension, next) in self.extensions.iter().zip(&chain[1..]) {
                    ip.extend(extension.bytes(*next));
                }
                ip
            }
            (source, destination) => panic!("{source} and {destination} are of two families"),
        };
        ip.extend(transport);
        ip
    }

    /// The transport header and its payload.
    pub(super) fn transport_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let checksum_at = match &self.transport {
            Transport::Tcp(tcp) => {
                bytes.extend(self.source.port().to_be_bytes());
                bytes.extend(self.destination.port().to_be_bytes());
                bytes.extend(tcp.bytes());
                Some(16)
            }
            Transport::Udp { checksum } => {
                bytes.extend(self.source.port().to_be_bytes());
                bytes.extend(self.destination.port().to_be_bytes());
                bytes.extend((8 + self.payload.len() as u16).to_be_bytes());
                bytes.extend([0, 0]);
                checksum.then_some(6)
            }
            Transport::Icmp { kind, code, rest } => {
                bytes.extend([*kind, *code, 0, 0]);
                bytes.extend(rest);
                Some(2)
            }
            Transport::Other(_) => None,
        };
        bytes.extend(&self.payload);
        if let Some(at) = checksum_at {
            let sum = match self.protocol() {
                protocol::ICMP => internet_checksum(&bytes),
                number => {
                    let ends = (self.source.ip(), self.destination.ip());
                    match with_pseudo_header(ends.0, ends.1, number, &bytes) {
                        0 if number == protocol::UDP => 0xffff,
                        sum => sum,
                    }
                }
            };
            bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        bytes
    }
}

impl Tcp {
    /// The header after its ports, without a checksum.
    fn bytes(&self) -> Vec<u8> {
        let header_len = 20 + self.options.len();
        assert!(header_len <= 60 && header_len.is_multiple_of(4), "options fill words");
        let mut bytes = Vec::new();
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.ack.to_be_bytes());
        bytes.extend([(header_len << 2) as u8, self.flags]);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0, 0, 0, 0]);
        bytes.extend(&self.options);
        bytes
    }
}

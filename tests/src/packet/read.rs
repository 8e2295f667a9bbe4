//! From a frame's bytes to what it says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Extension, Packet, Tag, Tcp, Transport, ether_type, kind, protocol};

/// Reads words off a frame and says where it ends too early.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> &'a [u8] {
        let bytes = self.bytes;
        let end = self.at + len;
        assert!(end <= bytes.len(), "{len} bytes at {} of {}: {bytes:02x?}", self.at, bytes.len());
        let taken = &bytes[self.at..end];
        self.at = end;
        taken
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        self.take(N).try_into().expect("as many bytes as were taken")
    }

    fn byte(&mut self) -> u8 {
        let [byte] = self.array();
        byte
    }

    fn word(&mut self) -> u16 {
        u16::from_be_bytes(self.array())
    }

    fn double_word(&mut self) -> u32 {
        u32::from_be_bytes(self.array())
    }

    fn rest(&mut self) -> &'a [u8] {
        self.take(self.bytes.len() - self.at)
    }
}

impl Packet {
    /// Reads a frame with an IP packet. It has to be whole; checksums are left to `oracle`.
    #[track_caller]
    pub fn read(frame: &[u8]) -> Self {
        let mut reader = Reader { bytes: frame, at: 0 };
        let (destination_mac, source_mac) = (reader.array(), reader.array());
        let mut tags = Vec::new();
        let kind = loop {
            match reader.word() {
                tpid @ (ether_type::VLAN | ether_type::SERVICE_VLAN) => {
                    tags.push(Tag { tpid, tci: reader.word() });
                }
                kind => break kind,
            }
        };
        let rest = reader.rest();
        let packet = match kind {
            ether_type::IPV4 => Self::read_v4(rest),
            ether_type::IPV6 => Self::read_v6(rest),
            other => panic!("a frame of type {other:04x}: {frame:02x?}"),
        };
        Self { source_mac, destination_mac, tags, ..packet }
    }

    /// Reads an IP packet of either family, as a tunnel carries it.
    #[track_caller]
    pub fn read_ip(bytes: &[u8]) -> Self {
        if bytes[0] >> 4 == 4 { Self::read_v4(bytes) } else { Self::read_v6(bytes) }
    }

    fn read_v4(bytes: &[u8]) -> Self {
        let mut reader = Reader { bytes, at: 0 };
        let version_ihl = reader.byte();
        assert_eq!(version_ihl >> 4, 4, "the version");
        let traffic_class = reader.byte();
        let total = usize::from(reader.word());
        let (id, fragment, ttl, number) =
            (reader.word(), reader.word(), reader.byte(), reader.byte());
        reader.take(2);
        let source = IpAddr::from(Ipv4Addr::from(reader.array::<4>()));
        let destination = IpAddr::from(Ipv4Addr::from(reader.array::<4>()));
        let options = reader.take(usize::from(version_ihl & 0x0f) * 4 - 20).to_vec();
        let transport = reader.take(total - reader.at);
        let later = fragment & 0x1fff != 0;
        let first = fragment & 0x3fff == 0x2000;
        let hidden = later || first && !holds_header(number, transport);
        Self {
            traffic_class,
            id,
            fragment,
            ttl,
            options,
            padding: reader.rest().to_vec(),
            ..Self::read_transport(source, destination, number, hidden, transport)
        }
    }

    fn read_v6(bytes: &[u8]) -> Self {
        let mut reader = Reader { bytes, at: 0 };
        let word = reader.double_word();
        assert_eq!(word >> 28, 6, "the version");
        let end = 40 + usize::from(reader.word());
        let (mut number, ttl) = (reader.byte(), reader.byte());
        let source = IpAddr::from(Ipv6Addr::from(reader.array::<16>()));
        let destination = IpAddr::from(Ipv6Addr::from(reader.array::<16>()));
        let mut extensions = Vec::new();
        let (mut later, mut first) = (false, false);
        while Extension::is(number) && !later {
            let kind = number;
            number = reader.byte();
            let len = usize::from(reader.byte()) * 8 + 6;
            let body = reader.take(len).to_vec();
            later = kind == kind::FRAGMENT && (body[0], body[1] & 0xf8) != (0, 0);
            first |= kind == kind::FRAGMENT && !later;
            extensions.push(Extension { kind, body });
        }
        let transport = reader.take(end - reader.at);
        let hidden = later || first && !holds_header(number, transport);
        Self {
            traffic_class: (word >> 20) as u8,
            flow_label: word & 0xf_ffff,
            ttl,
            extensions,
            padding: reader.rest().to_vec(),
            ..Self::read_transport(source, destination, number, hidden, transport)
        }
    }

    fn read_transport(
        source: IpAddr,
        destination: IpAddr,
        number: u8,
        hidden: bool,
        bytes: &[u8],
    ) -> Self {
        let mut reader = Reader { bytes, at: 0 };
        let mut ports = (0, 0);
        let transport = match number {
            _ if hidden => Transport::Other(number),
            protocol::TCP => {
                ports = (reader.word(), reader.word());
                let (seq, ack) = (reader.double_word(), reader.double_word());
                let (offset, flags, window) = (reader.byte(), reader.byte(), reader.word());
                reader.take(4);
                let options = reader.take(usize::from(offset >> 4) * 4 - 20).to_vec();
                Transport::Tcp(Tcp { flags, seq, ack, window, options })
            }
            protocol::UDP => {
                ports = (reader.word(), reader.word());
                reader.take(2);
                Transport::Udp { checksum: reader.word() != 0 }
            }
            protocol::ICMP | protocol::ICMPV6 => {
                let (kind, code) = (reader.byte(), reader.byte());
                reader.take(2);
                Transport::Icmp { kind, code, rest: reader.array() }
            }
            number => Transport::Other(number),
        };
        let ends = (SocketAddr::new(source, ports.0), SocketAddr::new(destination, ports.1));
        Self::new(ends.0, ends.1, transport, reader.rest())
    }
}

/// Whether a first fragment is long enough for its transport header.
fn holds_header(number: u8, bytes: &[u8]) -> bool {
    match number {
        protocol::TCP => {
            bytes.get(12).is_some_and(|offset| usize::from(offset >> 4) * 4 <= bytes.len())
        }
        protocol::UDP | protocol::ICMP | protocol::ICMPV6 => bytes.len() >= 8,
        _ => true,
    }
}

//! Datagrams in pieces, as a sender or router makes them, and put together again.

use super::{Extension, Packet, Transport, kind};

/// IPv4: more fragments follow.
const MORE: u16 = 0x2000;
/// IPv4: the sender forbids fragments.
const DONT: u16 = 0x4000;

/// Where in its datagram a fragment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Identification.
    pub id: u32,
    /// Offset in bytes.
    pub offset: u16,
    /// Whether more follow.
    pub more: bool,
}

impl Packet {
    /// As a fragment of a datagram; its transport header is what it is.
    pub fn fragment(self, id: u32, offset: u16, more: bool) -> Self {
        assert!(offset.is_multiple_of(8), "fragments start at units of 8 bytes");
        if self.is_v4() {
            let fragment = (offset / 8) | if more { MORE } else { 0 };
            return Self { id: id as u16, fragment, ..self };
        }
        let mut extensions = self.extensions.clone();
        extensions.push(Extension::fragment(id, offset, more));
        Self { extensions, ..self }
    }

    /// With fragments forbidden; IPv6 always forbids routers to make them.
    pub fn dont_fragment(self) -> Self {
        let fragment = if self.is_v4() { DONT } else { 0 };
        Self { fragment, ..self }
    }

    /// Where in its datagram it stands, if it is a fragment.
    pub fn as_fragment(&self) -> Option<Fragment> {
        if self.is_v4() {
            let (offset, more) = ((self.fragment & 0x1fff) * 8, self.fragment & MORE != 0);
            return (offset != 0 || more).then_some(Fragment { id: self.id.into(), offset, more });
        }
        let header = self.extensions.iter().find(|extension| extension.kind == kind::FRAGMENT)?;
        let [high, low, a, b, c, d] = header.body[..] else { panic!("a fragment header") };
        let word = u16::from_be_bytes([high, low]);
        let id = u32::from_be_bytes([a, b, c, d]);
        Some(Fragment { id, offset: word & !7, more: word & 1 != 0 })
    }

    /// A later fragment: addresses and bytes, no ports.
    pub fn later_fragment(&self, id: u32, offset: u16, more: bool, bytes: &[u8]) -> Self {
        Self {
            source: (self.source.ip(), 0).into(),
            destination: (self.destination.ip(), 0).into(),
            transport: Transport::Other(self.protocol()),
            payload: bytes.to_vec(),
            ..self.clone()
        }
        .fragment(id, offset, more)
    }
}

/// The frames of a datagram's fragments, each with at most `size` bytes of it.
pub fn split(datagram: &Packet, id: u32, size: usize) -> Vec<Vec<u8>> {
    assert!(size.is_multiple_of(8), "fragments are units of 8 bytes");
    let bytes = datagram.transport_bytes();
    let last = (bytes.len() - 1) / size;
    bytes
        .chunks(size)
        .enumerate()
        .map(|(place, piece)| {
            let piece_of = datagram.later_fragment(id, (place * size) as u16, place < last, piece);
            piece_of.bytes()
        })
        .collect()
}

/// The datagram that these frames are all fragments of, in any order.
#[track_caller]
pub fn join(frames: &[Vec<u8>]) -> Packet {
    let mut pieces: Vec<(Fragment, Packet, Vec<u8>)> = frames
        .iter()
        .map(|frame| {
            let packet = Packet::read(frame);
            let transport =
                frame[packet.transport_at()..frame.len() - packet.padding.len()].to_vec();
            (packet.as_fragment().expect("a fragment"), packet, transport)
        })
        .collect();
    pieces.sort_by_key(|(fragment, ..)| fragment.offset);
    let mut bytes = Vec::new();
    for (fragment, packet, transport) in &pieces {
        let first = &pieces[0];
        assert_eq!(fragment.id, first.0.id, "one datagram");
        assert_eq!(usize::from(fragment.offset), bytes.len(), "no gap");
        assert_eq!(packet.source.ip(), first.1.source.ip());
        assert_eq!(packet.destination.ip(), first.1.destination.ip());
        bytes.extend(transport);
    }
    let whole = Packet {
        fragment: 0,
        extensions: Vec::new(),
        transport: Transport::Other(pieces[0].1.protocol()),
        ..pieces[0].1.clone()
    };
    Packet::read(&[whole.link_bytes(), whole.ip_bytes_around(&bytes)].concat())
}

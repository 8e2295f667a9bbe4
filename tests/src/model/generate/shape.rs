//! Building frames: every header that the datapath reads, with checksums that are right.

use std::net::{IpAddr, SocketAddr};

use super::super::checksum;
use super::super::settings::{Hop, Tag};
use super::super::tuple::{ICMP, ICMPV6, TCP, Tuple, UDP};

/// A fragment of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Offset in units of eight bytes.
    pub offset: u16,
    /// Whether more follow.
    pub more: bool,
    /// Identification.
    pub id: u32,
}

/// What a packet carries above IP.
#[derive(Clone, Debug)]
pub enum Carried {
    /// TCP.
    Tcp {
        /// Flags.
        flags: u8,
        /// Sequence number.
        seq: u32,
        /// Acknowledgement number.
        ack: u32,
        /// Options, a multiple of four bytes.
        options: Vec<u8>,
    },
    /// UDP, with a checksum or without.
    Udp {
        /// Whether the checksum is computed.
        summed: bool,
    },
    /// Bytes as they stand; a control message's checksum is filled in.
    Bytes(u8),
}

/// A packet.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Ethernet addresses and tags that it comes with; `source` is the sender's.
    pub way: Hop,
    /// Its tuple; the protocol is that of `carried`.
    pub tuple: Tuple,
    /// Time to live.
    pub ttl: u8,
    /// IPv4: whether routers may not cut it.
    pub whole: bool,
    /// IPv4 options, or IPv6 extension headers: of each, its number and its whole bytes but the
    /// first.
    pub extra: Vec<(u8, Vec<u8>)>,
    /// If it is a fragment.
    pub piece: Option<Piece>,
    /// What it carries.
    pub carried: Carried,
    /// The bytes after the transport header; of a later fragment, all bytes.
    pub payload: Vec<u8>,
}

impl Shape {
    /// A whole packet without anything special.
    pub fn new(way: &Hop, source: SocketAddr, destination: SocketAddr, carried: Carried) -> Self {
        let protocol = match carried {
            Carried::Tcp { .. } => TCP,
            Carried::Udp { .. } => UDP,
            Carried::Bytes(protocol) => protocol,
        };
        Self {
            way: way.clone(),
            tuple: Tuple::new(source, destination, protocol),
            ttl: 64,
            whole: true,
            extra: Vec::new(),
            piece: None,
            carried,
            payload: Vec::new(),
        }
    }

    /// The frame.
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = [self.way.destination, self.way.source].concat();
        self.way.tags.iter().for_each(|tag: &Tag| frame.extend(tag));
        frame.extend(if self.tuple.is_v6() { [0x86, 0xdd] } else { [8, 0] });
        frame.extend(self.packet());
        frame
    }

    /// The IP packet.
    pub fn packet(&self) -> Vec<u8> {
        let transport = match self.piece {
            Some(piece) if piece.offset != 0 => self.payload.clone(),
            Some(_) | None => self.transport(),
        };
        if self.tuple.is_v6() { self.ipv6(transport) } else { self.ipv4(transport) }
    }

    fn ipv4(&self, transport: Vec<u8>) -> Vec<u8> {
        let options: Vec<u8> = self.extra.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        let len = 20 + options.len();
        let piece = self.piece.unwrap_or(Piece { offset: 0, more: false, id: 0x1234 });
        let bits = u16::from(self.whole && self.piece.is_none()) << 14
            | u16::from(piece.more) << 13
            | piece.offset;
        let mut bytes = vec![0x40 | (len / 4) as u8, 0];
        bytes.extend(((len + transport.len()) as u16).to_be_bytes());
        bytes.extend((piece.id as u16).to_be_bytes());
        bytes.extend(bits.to_be_bytes());
        bytes.extend([self.ttl, self.tuple.protocol, 0, 0]);
        bytes.extend(octets(self.tuple.source.ip()));
        bytes.extend(octets(self.tuple.destination.ip()));
        bytes.extend(options);
        let sum = checksum::of(&bytes);
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        bytes.extend(transport);
        bytes
    }

    fn ipv6(&self, transport: Vec<u8>) -> Vec<u8> {
        const FRAGMENT: u8 = 44;
        let mut headers = self.extra.clone();
        if let Some(piece) = self.piece {
            let mut bytes = vec![0];
            bytes.extend((piece.offset << 3 | u16::from(piece.more)).to_be_bytes());
            bytes.extend(piece.id.to_be_bytes());
            headers.push((FRAGMENT, bytes));
        }
        let mut chain = Vec::new();
        let next = |place: usize| headers.get(place).map_or(self.tuple.protocol, |next| next.0);
        for (place, (_, bytes)) in headers.iter().enumerate() {
            chain.push(next(place + 1));
            chain.extend(bytes);
        }
        let mut bytes = vec![0x60, 0, 0, 0];
        bytes.extend(((chain.len() + transport.len()) as u16).to_be_bytes());
        bytes.extend([next(0), self.ttl]);
        bytes.extend(octets(self.tuple.source.ip()));
        bytes.extend(octets(self.tuple.destination.ip()));
        bytes.extend(chain);
        bytes.extend(transport);
        bytes
    }

    fn transport(&self) -> Vec<u8> {
        let tuple = &self.tuple;
        let mut bytes = Vec::new();
        let sum_at = match &self.carried {
            Carried::Tcp { flags, seq, ack, options } => {
                bytes.extend(tuple.source.port().to_be_bytes());
                bytes.extend(tuple.destination.port().to_be_bytes());
                bytes.extend(seq.to_be_bytes());
                bytes.extend(ack.to_be_bytes());
                bytes.extend([((20 + options.len()) * 4) as u8, *flags, 0xff, 0xff, 0, 0, 0, 0]);
                bytes.extend(options);
                Some(16)
            }
            Carried::Udp { summed } => {
                bytes.extend(tuple.source.port().to_be_bytes());
                bytes.extend(tuple.destination.port().to_be_bytes());
                let rest = if self.piece.is_some_and(|piece| piece.more) { 64 } else { 0 };
                bytes.extend((8 + self.payload.len() as u16 + rest).to_be_bytes());
                bytes.extend([0, 0]);
                summed.then_some(6)
            }
            Carried::Bytes(protocol) => matches!(*protocol, ICMP | ICMPV6).then_some(2),
        };
        bytes.extend(&self.payload);
        if let Some(at) = sum_at.filter(|at| at + 2 <= bytes.len()) {
            let (source, destination) = (tuple.source.ip(), tuple.destination.ip());
            let sum = if tuple.protocol == ICMP {
                checksum::of(&bytes)
            } else {
                checksum::transport(source, destination, tuple.protocol, &bytes)
            };
            bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        bytes
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

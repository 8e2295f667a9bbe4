//! Headers: from the bytes of a frame to what the later stages ask of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::outcome::Outcome;
use super::phase::tcp;
use super::settings::{Forwarding, Hook, Id, Tag};
use super::tuple::{ICMP, ICMPV6, TCP, Tuple, UDP};

/// Extension headers that are walked.
const EXTENSIONS: usize = 4;
/// A transport header starts so many bytes into the frame at the latest.
const REACH: usize = 384;

/// Which part of a datagram a packet is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// All of it.
    Whole,
    /// The first fragment.
    First,
    /// A later fragment.
    Later,
}

/// A frame and what its headers say.
#[derive(Clone, Debug)]
pub struct Packet {
    /// The frame.
    pub frame: Vec<u8>,
    /// The packet's tuple; ports are 0 until they are known.
    pub tuple: Tuple,
    /// Its tags.
    pub tags: Vec<Tag>,
    /// Where the IP header starts.
    pub l3: usize,
    /// Where the transport header starts.
    pub l4: usize,
    /// Bytes of the IP packet.
    pub ip_len: usize,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Which part it is.
    pub part: Part,
    /// Identification of a fragmented datagram.
    pub fragment_id: u32,
    /// IPv4: whether routers may cut it.
    pub divisible: bool,
    /// TCP flags.
    pub flags: u8,
    /// TCP sequence number.
    pub seq: u32,
    /// TCP acknowledgement number.
    pub ack: u32,
    /// TCP: bytes after the header.
    pub payload: usize,
    /// The hook it came by.
    pub hook: Hook,
    /// The interface it came in by.
    pub ifindex: u32,
    /// Largest IP packet that the interface sends; 0: not known.
    pub mtu: u16,
    /// Its flow's forwarding, once that or its listener is known.
    pub forwarding: Forwarding,
    /// Its flow's server; 0: not known.
    pub server: Id,
    /// The tuple it leaves with, once that is known.
    pub to: Option<Tuple>,
    /// What the link that it does not fit takes; 0: it fits.
    pub fits: usize,
    /// TC: the outermost tag that was put on, which stands beside the frame.
    pub aside: Option<Tag>,
    /// TC: whether it stays on the host, translated, because its way is the loopback.
    pub is_local: bool,
}

/// `N` bytes of a frame.
pub fn bytes<const N: usize>(frame: &[u8], at: usize) -> Option<[u8; N]> {
    frame.get(at..at + N)?.try_into().ok()
}

fn word(frame: &[u8], at: usize) -> Option<u16> {
    bytes(frame, at).map(u16::from_be_bytes)
}

impl Packet {
    /// Whether nobody can have sent it, to us alone: its source is a group, nobody, the destination
    /// itself or a loopback address, or its frame is from or to a group. On the loopback all but the
    /// frame is as it should be.
    pub fn is_of_no_client(&self) -> bool {
        let (from, to) = (self.tuple.source.ip(), self.tuple.destination.ip());
        let is_odd = match from {
            IpAddr::V4(from) => from.octets()[0] == 0 || from.octets()[0] >= 224,
            IpAddr::V6(from) => from.is_unspecified() || from.is_multicast(),
        };
        let is_within = from.is_loopback() && to.is_loopback();
        let is_group = self.frame.first().is_some_and(|byte| byte & 1 == 1)
            || self.frame.get(6).is_some_and(|byte| byte & 1 == 1);
        is_group || is_odd || (!is_within && (from.is_loopback() || from == to))
    }

    /// Reads Ethernet, tags and the network header.
    pub fn read(frame: &[u8]) -> Result<Self, Outcome> {
        let mut kind = word(frame, 12).ok_or(Outcome::Malformed)?;
        let mut l3 = 14;
        let mut tags = Vec::new();
        while matches!(kind, 0x8100 | 0x88a8) && tags.len() < 2 {
            tags.push(bytes(frame, l3 - 2).ok_or(Outcome::Malformed)?);
            kind = word(frame, l3 + 2).ok_or(Outcome::Malformed)?;
            l3 += 4;
        }
        let blank = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let mut packet = Self {
            frame: frame.to_vec(),
            tuple: Tuple::new(blank, blank, 0),
            tags,
            l3,
            l4: l3,
            ip_len: 0,
            ttl: 0,
            part: Part::Whole,
            fragment_id: 0,
            divisible: false,
            flags: 0,
            seq: 0,
            ack: 0,
            payload: 0,
            hook: Hook::Xdp,
            ifindex: 0,
            mtu: 0,
            forwarding: Forwarding::Nat,
            server: 0,
            to: None,
            fits: 0,
            aside: None,
            is_local: false,
        };
        let read = match kind {
            0x0800 => packet.ipv4(),
            0x86dd => packet.ipv6(),
            _ => return Err(Outcome::OtherProtocol),
        };
        read.ok_or(Outcome::Malformed)?;
        Ok(packet)
    }

    fn ipv4(&mut self) -> Option<()> {
        let header: [u8; 20] = bytes(&self.frame, self.l3)?;
        let len = usize::from(header[0] & 15) * 4;
        let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let fits = header[0] >> 4 == 4 && len >= 20 && total >= len;
        if !fits || self.l3 + total > self.frame.len() {
            return None;
        }
        let [_, _, _, _, i, j, k, l, ttl, protocol, _, _, source @ .., _, _, _, _] = header;
        let destination = Ipv4Addr::from(bytes::<4>(&header, 16)?);
        let fragment = u16::from_be_bytes([k, l]);
        self.part = match (fragment & 0x1fff, fragment & 0x2000) {
            (0, 0) => Part::Whole,
            (0, _) => Part::First,
            (_, _) => Part::Later,
        };
        if self.part != Part::Whole {
            self.fragment_id = u16::from_be_bytes([i, j]).into();
        }
        self.divisible = fragment & 0x4000 == 0;
        (self.ip_len, self.l4, self.ttl) = (total, self.l3 + len, ttl);
        self.address(Ipv4Addr::from(source).into(), destination.into(), protocol);
        Some(())
    }

    fn ipv6(&mut self) -> Option<()> {
        let header: [u8; 40] = bytes(&self.frame, self.l3)?;
        let total = 40 + usize::from(u16::from_be_bytes([header[4], header[5]]));
        if header[0] >> 4 != 6 || self.l3 + total > self.frame.len() {
            return None;
        }
        (self.ip_len, self.l4, self.ttl) = (total, self.l3 + 40, header[7]);
        let source = Ipv6Addr::from(bytes::<16>(&header, 8)?);
        let destination = Ipv6Addr::from(bytes::<16>(&header, 24)?);
        self.address(source.into(), destination.into(), header[6]);
        Some(())
    }

    fn address(&mut self, source: IpAddr, destination: IpAddr, protocol: u8) {
        self.tuple = Tuple::new((source, 0).into(), (destination, 0).into(), protocol);
    }

    /// The control message protocol of the packet's family.
    pub fn icmp(&self) -> u8 {
        if self.tuple.is_v6() { ICMPV6 } else { ICMP }
    }

    fn is_carried(&self, protocol: u8) -> bool {
        matches!(protocol, TCP | UDP) || protocol == self.icmp()
    }

    /// Finds the transport header and reads it.
    pub fn read_transport(&mut self) -> Result<(), Outcome> {
        if self.tuple.is_v6() && !self.is_carried(self.tuple.protocol) {
            self.walk()?;
        }
        if !self.is_carried(self.tuple.protocol) {
            return Err(Outcome::OtherProtocol);
        }
        if self.part == Part::Later {
            return Ok(());
        }
        let room = (self.l3 + self.ip_len).saturating_sub(self.l4);
        let fits = match self.tuple.protocol {
            TCP => self.tcp(room),
            UDP => self.udp(room),
            _ => room >= 8 && bytes::<8>(&self.frame, self.l4).is_some(),
        };
        if fits { Ok(()) } else { Err(Outcome::Malformed) }
    }

    /// Walks over extension headers (RFC 8200, section 4).
    fn walk(&mut self) -> Result<(), Outcome> {
        for _ in 0..EXTENSIONS {
            // Hop-by-hop, routing, fragment and destination options.
            if !matches!(self.tuple.protocol, 0 | 43 | 44 | 60) {
                return Err(Outcome::OtherProtocol);
            }
            let header: [u8; 8] = bytes(&self.frame, self.l4).ok_or(Outcome::Malformed)?;
            let fragment = u16::from_be_bytes([header[2], header[3]]);
            self.l4 += match self.tuple.protocol {
                44 => {
                    if fragment >> 3 != 0 {
                        self.part = Part::Later;
                    } else if fragment & 1 != 0 {
                        self.part = Part::First;
                    }
                    self.fragment_id =
                        u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
                    8
                }
                _ => (usize::from(header[1]) + 1) * 8,
            };
            self.tuple.protocol = header[0];
            if self.l4 > self.l3 + self.ip_len {
                return Err(Outcome::Malformed);
            }
            if self.l4 > REACH {
                return Err(Outcome::OtherProtocol);
            }
            if self.is_carried(header[0]) || self.part == Part::Later {
                return Ok(());
            }
        }
        Err(Outcome::OtherProtocol)
    }

    fn tcp(&mut self, room: usize) -> bool {
        let Some(header) = bytes::<20>(&self.frame, self.l4) else { return false };
        let len = usize::from(header[12] >> 4) * 4;
        if len < 20 || len > room {
            return false;
        }
        let [a, b, c, d, e, f, g, h] = header[4..12] else { return false };
        (self.seq, self.ack) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
        (self.flags, self.payload) = (header[13], room - len);
        self.ports(&header);
        true
    }

    fn udp(&mut self, room: usize) -> bool {
        let Some(header) = bytes::<8>(&self.frame, self.l4) else { return false };
        let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
        if room < 8 || len < 8 || (len > room && self.part == Part::Whole) {
            return false;
        }
        self.ports(&header);
        true
    }

    fn ports(&mut self, header: &[u8]) {
        self.tuple.source.set_port(u16::from_be_bytes([header[0], header[1]]));
        self.tuple.destination.set_port(u16::from_be_bytes([header[2], header[3]]));
    }

    /// Whether it opens a TCP connection.
    pub fn is_opening(&self) -> bool {
        self.flags & (tcp::SYN | tcp::ACK | tcp::RST | tcp::FIN) == tcp::SYN
    }

    /// The TCP sequence number after it: SYN and FIN count one each.
    pub fn next_seq(&self) -> u32 {
        let counted = (self.flags & tcp::SYN).count_ones() + (self.flags & tcp::FIN).count_ones();
        self.seq.wrapping_add(self.payload as u32).wrapping_add(counted)
    }
}

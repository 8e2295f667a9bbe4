//! Translating a packet and sending it on.

use super::balance::Model;
use super::checksum::{self, Change};
use super::frame::{Packet, Part};
use super::outcome::Outcome;
use super::settings::{Forwarding, Hook, Hop, Server};
use super::tuple::{TCP, Tuple, UDP, widened};

/// Time to live of what we send ourselves.
pub(super) const TTL: u8 = 64;
/// Protocol numbers of IPv4 and IPv6 in a tunnel (RFC 2003, RFC 2473).
const IPIP: u8 = 4;
const IPV6: u8 = 41;

impl Model {
    /// Sends a client's packet to its server.
    pub(super) fn send_to_server(&mut self, packet: &mut Packet) -> Outcome {
        let server = self.server(packet.server).filter(|server| server.hop.ifindex != 0);
        let Some(server) = server.cloned() else { return Outcome::NoNextHop };
        if packet.is_too_old() {
            return Outcome::TtlExpired;
        }
        let overhead = match packet.forwarding {
            Forwarding::DsrIpip => outer_len(&server),
            Forwarding::Nat | Forwarding::Dnat | Forwarding::DsrL2 => 0,
        };
        if !packet.fits(&server.hop, overhead) {
            return Outcome::TooBig;
        }
        self.remember(packet);
        match packet.forwarding {
            Forwarding::Nat | Forwarding::Dnat => packet.translate(),
            Forwarding::DsrL2 => {}
            Forwarding::DsrIpip => return packet.wrap(&server, Outcome::Forwarded),
        }
        packet.send(&server.hop);
        Outcome::Forwarded
    }

    /// Sends a server's packet to the client.
    pub(super) fn send_to_client(&mut self, packet: &mut Packet, hop: &Hop) -> Outcome {
        if !packet.fits(hop, 0) {
            return Outcome::TooBig;
        }
        self.remember(packet);
        packet.translate();
        packet.send(hop);
        Outcome::Replied
    }
}

fn ethernet_type(is_v6: bool) -> [u8; 2] {
    if is_v6 { [0x86, 0xdd] } else { [8, 0] }
}

fn outer_len(server: &Server) -> usize {
    if server.side.is_ipv6() { 40 } else { 20 }
}

/// The octets of a tuple's addresses, source first, in its own family.
pub(super) fn addresses(tuple: &Tuple) -> Vec<u8> {
    let octets = |side: std::net::SocketAddr| match side.is_ipv6() {
        true => widened(side.ip()).to_vec(),
        false => widened(side.ip())[12..].to_vec(),
    };
    [octets(tuple.source), octets(tuple.destination)].concat()
}

fn ports(tuple: &Tuple) -> Vec<u8> {
    [tuple.source.port().to_be_bytes(), tuple.destination.port().to_be_bytes()].concat()
}

/// Writes bytes over others of a frame.
pub(super) fn put(frame: &mut [u8], at: usize, bytes: &[u8]) {
    frame[at..at + bytes.len()].copy_from_slice(bytes);
}

impl Packet {
    /// Whether the time to live has run out; on its own link a packet does not age.
    pub(super) fn is_too_old(&self) -> bool {
        self.ttl <= 1 && self.forwarding != Forwarding::DsrL2
    }

    fn fits(&mut self, hop: &Hop, overhead: usize) -> bool {
        let room = usize::from(hop.mtu);
        if room == 0 || self.ip_len + overhead <= room {
            return true;
        }
        self.fits = room.saturating_sub(overhead);
        false
    }

    /// Where a header's checksum stands in the frame.
    fn checksum_at(&self) -> usize {
        self.l4 + if self.tuple.protocol == TCP { 16 } else { 6 }
    }

    /// Mends a checksum.
    pub(super) fn mend(&mut self, at: usize, change: &Change, is_udp: bool) {
        let before = u16::from_be_bytes([self.frame[at], self.frame[at + 1]]);
        let after = if is_udp { change.apply_udp(before) } else { change.apply(before) };
        put(&mut self.frame, at, &after.to_be_bytes());
    }

    /// Gives the packet its new tuple and takes one from its time to live.
    pub(super) fn translate(&mut self) {
        let (from, to) = (self.tuple, self.to.unwrap_or(self.tuple));
        if self.part != Part::Later {
            let mut change = Change::default();
            change.replace(&addresses(&from), &addresses(&to));
            change.replace(&ports(&from), &ports(&to));
            put(&mut self.frame, self.l4, &ports(&to));
            self.mend(self.checksum_at(), &change, from.protocol == UDP);
        }
        self.readdress(self.ttl.wrapping_sub(1));
    }

    /// Writes the new addresses and a time to live into the network header.
    pub(super) fn readdress(&mut self, ttl: u8) {
        let (from, to) = (addresses(&self.tuple), addresses(&self.to.unwrap_or(self.tuple)));
        let l3 = self.l3;
        if self.tuple.is_v6() {
            self.frame[l3 + 7] = ttl;
            put(&mut self.frame, l3 + 8, &to);
            return;
        }
        let protocol = self.frame[l3 + 9];
        let mut change = Change::default();
        change.replace(&from, &to);
        change.replace(&[self.frame[l3 + 8], protocol], &[ttl, protocol]);
        self.frame[l3 + 8] = ttl;
        put(&mut self.frame, l3 + 12, &to);
        self.mend(l3 + 10, &change, false);
    }

    /// Puts the packet into another, and sends that. At TC the kernel finds no IP header behind a tag
    /// that stands in the frame; the first of a real packet stands beside it.
    pub(super) fn wrap(&mut self, server: &Server, done: Outcome) -> Outcome {
        if self.hook == Hook::Tc && !self.tags.is_empty() {
            return Outcome::NoNextHop;
        }
        self.to = None;
        self.readdress(self.ttl.wrapping_sub(1));
        let protocol = if self.tuple.is_v6() { IPV6 } else { IPIP };
        let outer = Tuple::new((server.snat, 0).into(), server.side, protocol);
        let header = network_header(&outer, self.ip_len);
        self.frame.splice(self.l3..self.l3, header);
        self.tuple = outer;
        let kind = ethernet_type(self.tuple.is_v6());
        put(&mut self.frame, self.l3 - 2, &kind);
        self.send(&server.hop);
        done
    }

    /// Writes the Ethernet header of a way: addresses, tags, type.
    pub(super) fn send(&mut self, hop: &Hop) {
        let is_tc = self.hook == Hook::Tc;
        if is_tc && hop.ifindex == self.ifindex && hop.destination == [0; 6] {
            self.is_local = true;
            return;
        }
        let mut front = [hop.destination, hop.source].concat();
        let mut tags = hop.tags.as_slice();
        // TC: a tag that is put on stands beside the frame, a tag that stays in it.
        if is_tc
            && hop.tags != self.tags
            && let Some((outer, inner)) = tags.split_first()
        {
            self.aside = Some(*outer);
            tags = inner;
        }
        front.extend(tags.iter().flatten());
        front.extend(ethernet_type(self.tuple.is_v6()));
        self.frame.splice(..self.l3, front);
    }
}

/// A header of our own before `len` bytes, which is not to be cut on its way.
pub(super) fn network_header(tuple: &Tuple, len: usize) -> Vec<u8> {
    let mut header = Vec::new();
    if tuple.is_v6() {
        header.extend([0x60, 0, 0, 0]);
        header.extend((len as u16).to_be_bytes());
        header.extend([tuple.protocol, TTL]);
    } else {
        header.extend([0x45, 0]);
        header.extend((len as u16 + 20).to_be_bytes());
        header.extend([0, 0, 0x40, 0, TTL, tuple.protocol, 0, 0]);
    }
    header.extend(addresses(tuple));
    if !tuple.is_v6() {
        let sum = checksum::of(&header);
        put(&mut header, 10, &sum.to_be_bytes());
    }
    header
}

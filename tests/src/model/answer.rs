//! What we answer ourselves, back to where a packet came from: resets and ICMP errors.

use super::checksum::{self, Change};
use super::claim::way_back;
use super::frame::{Packet, Part};
use super::outcome::Outcome;
use super::phase::tcp;
use super::settings::Hook;
use super::transmit::{TTL, network_header, put};
use super::tuple::{TCP, Tuple};

impl Packet {
    /// Turns a packet that is not carried into the answer to it, if there is one.
    pub(super) fn answer(&mut self, outcome: Outcome) -> bool {
        let is_made = if outcome == Outcome::ResetSent {
            self.reset()
        } else if outcome == Outcome::TtlExpired {
            // IPv6: type 3; IPv4: type 11.
            self.complain(if self.is_v6() { 3 } else { 11 }, 0, 0)
        } else if outcome == Outcome::TooBig && !self.divisible {
            // A router cuts what may be cut. IPv6: type 2; IPv4: type 3, code 4.
            let (kind, code) = if self.is_v6() { (2, 0) } else { (3, 4) };
            self.complain(kind, code, self.fits)
        } else {
            false
        };
        if is_made {
            let back = way_back(self);
            self.send(&back);
        }
        is_made
    }

    fn is_v6(&self) -> bool {
        self.tuple.is_v6()
    }

    /// A reset in the name of the packet's receiver: the packet itself turned round, so options and
    /// payload stay (RFC 9293, sections 3.5.2 and 3.5.3).
    fn reset(&mut self) -> bool {
        if self.flags & tcp::RST != 0 {
            return false;
        }
        let (seq, ack, flags) = if self.flags & tcp::ACK != 0 {
            (self.ack, 0, tcp::RST)
        } else {
            (0, self.next_seq(), tcp::RST | tcp::ACK)
        };
        let l4 = self.l4;
        let before = self.frame[l4..l4 + 14].to_vec();
        let reversed = self.tuple.reversed();
        put(&mut self.frame, l4, &reversed.source.port().to_be_bytes());
        put(&mut self.frame, l4 + 2, &reversed.destination.port().to_be_bytes());
        put(&mut self.frame, l4 + 4, &seq.to_be_bytes());
        put(&mut self.frame, l4 + 8, &ack.to_be_bytes());
        self.frame[l4 + 13] = flags;
        let mut change = Change::default();
        change.replace(&before, &self.frame[l4..l4 + 14]);
        self.mend(l4 + 16, &change, false);
        self.to = Some(reversed);
        self.readdress(TTL);
        true
    }

    /// An ICMP error from the packet's destination that quotes its IP header and a whole TCP header,
    /// or eight bytes of UDP. There is none about ICMP, later fragments, resets, and headers with
    /// options or extensions.
    fn complain(&mut self, kind: u8, code: u8, mtu: usize) -> bool {
        let header = if self.is_v6() { 40 } else { 20 };
        // Nobody on the loopback, which has no Ethernet addresses, is told at TC.
        let is_loopback = self.hook == Hook::Tc && way_back(self).destination == [0; 6];
        let is_silent = is_loopback
            || self.tuple.protocol == self.icmp()
            || self.part == Part::Later
            || self.flags & tcp::RST != 0
            || self.l4 - self.l3 != header;
        if is_silent {
            return false;
        }
        let is_tcp = self.tuple.protocol == TCP;
        let mut transport = self.frame[self.l4..].to_vec();
        match (self.hook, is_tcp) {
            (_, true) => transport.truncate(20),
            (Hook::Xdp, false) => transport.truncate(8),
            (Hook::Tc, false) => transport.resize(12, 0),
        }
        if self.hook == Hook::Tc {
            settle(&mut transport, is_tcp);
        }
        let mut message = vec![kind, code, 0, 0];
        message.extend((mtu as u32).to_be_bytes());
        message.extend(&self.frame[self.l3..self.l4]);
        message.extend(transport);
        let (source, destination) = (self.tuple.destination.ip(), self.tuple.source.ip());
        let outer = Tuple::new((source, 0).into(), (destination, 0).into(), self.icmp());
        let sum = if self.is_v6() {
            checksum::transport(source, destination, outer.protocol, &message)
        } else {
            checksum::of(&message)
        };
        put(&mut message, 2, &sum.to_be_bytes());
        self.frame.truncate(self.l3);
        self.frame.extend(network_header(&outer, message.len()));
        self.frame.extend(message);
        true
    }

    /// Answers an echo request.
    pub(super) fn echo(&mut self, reply: u8) {
        let (l4, request) = (self.l4, self.frame[self.l4]);
        let mut change = Change::default();
        change.replace(&[request, 0], &[reply, 0]);
        self.frame[l4] = reply;
        self.mend(l4 + 2, &change, false);
        self.to = Some(self.tuple.reversed());
        self.readdress(TTL);
        let back = way_back(self);
        self.send(&back);
    }
}

/// TC: the sender may have left the checksum to hardware. The quoted checksum becomes all ones, and a
/// word that nobody reads makes the header's sum come out, so that it is right whether it is filled
/// in on the way out or not. TCP: that word is the low half of the acknowledgement, whose high half
/// becomes 0; UDP: the first word after the header, the second becomes 0.
fn settle(header: &mut [u8], is_tcp: bool) {
    let (sum_at, spare, zero) = if is_tcp { (16, 10, 8) } else { (6, 8, 10) };
    put(header, sum_at, &[0xff, 0xff]);
    put(header, zero, &[0, 0]);
    put(header, spare, &[0, 0]);
    let sum = checksum::of(header);
    put(header, spare, &sum.to_be_bytes());
}

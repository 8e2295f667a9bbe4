//! Control messages: echo, and errors about packets that we sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::balance::Model;
use super::checksum::Change;
use super::frame::{Packet, Part, bytes};
use super::outcome::Outcome;
use super::settings::{Forwarding, Meaning};
use super::transmit::{addresses, put};
use super::tuple::{TCP, Tuple, UDP};

/// The IPv6 extension header of a fragment (RFC 8200, section 4.5).
const FRAGMENT: u8 = 44;

/// What an error quotes.
struct Quote {
    tuple: Tuple,
    /// Where its IP header starts.
    l3: usize,
    /// Where its transport header starts.
    l4: usize,
}

impl Model {
    /// What becomes of a control message.
    pub(super) fn control_message(&mut self, packet: &mut Packet, role: &Meaning) -> Outcome {
        if packet.part != Part::Whole {
            return Outcome::Fragment;
        }
        let is_v6 = packet.tuple.is_v6();
        let (kind, code) = (packet.frame[packet.l4], packet.frame[packet.l4 + 1]);
        let (request, reply) = if is_v6 { (128, 129) } else { (8, 0) };
        if (kind, code) == (request, 0) {
            return self.echo(packet, role, reply);
        }
        let is_error = if is_v6 { matches!(kind, 1..=4) } else { matches!(kind, 3 | 11 | 12) };
        let quote = if is_error { read_quote(packet) } else { None };
        let Some(quote) = quote else { return Outcome::IcmpUnrelated };
        let is_unreachable = if is_v6 { kind == 1 } else { kind == 3 && code != 4 };
        if let Some(outcome) = self.about_forwarded(packet, &quote, is_unreachable) {
            return outcome;
        }
        self.about_reply(packet, &quote)
    }

    fn echo(&mut self, packet: &mut Packet, role: &Meaning, reply: u8) -> Outcome {
        if !role.echo || packet.is_of_no_client() {
            return Outcome::IcmpUnrelated;
        }
        let table = self.settings.tables.get(&role.echo_pool);
        if table.is_none_or(|table| table.slots.is_empty()) {
            return Outcome::EchoUnhealthy;
        }
        packet.echo(reply);
        Outcome::Echoed
    }

    /// An error about a packet that we sent to a server.
    fn about_forwarded(
        &mut self,
        packet: &mut Packet,
        quote: &Quote,
        is_unreachable: bool,
    ) -> Option<Outcome> {
        let key = quote.tuple.reversed();
        let found = self.tables.replies.get(&key);
        let entry = found.or_else(|| self.tables.half_replies.get(&key))?.clone();
        if entry.terms.hook != packet.hook {
            return Some(Outcome::OtherHook);
        }
        if packet.ttl <= 1 {
            return Some(Outcome::TtlExpired);
        }
        let flow = self.tables.half_flows.get(&entry.flow);
        // The flow may have another server by now.
        let is_unanswered = flow.is_some_and(|flow| flow.reply == key && !flow.state.replied);
        if is_unreachable && key.protocol == TCP && is_unanswered && self.is_swallowed(&entry.flow)
        {
            return Some(Outcome::RefusalSwallowed);
        }
        let mut to = packet.tuple;
        to.source.set_ip(entry.flow.destination.ip());
        to.destination.set_ip(entry.flow.source.ip());
        packet.retell(quote, &entry.flow, to);
        packet.send(&entry.hop);
        Some(Outcome::ErrorReplied)
    }

    /// An error about a packet that we, or with dsr-* the server, sent to a client.
    fn about_reply(&mut self, packet: &mut Packet, quote: &Quote) -> Outcome {
        let key = quote.tuple.reversed();
        let found = self.tables.flows.get(&key).or_else(|| self.tables.half_flows.get(&key));
        let Some(flow) = found.cloned() else { return Outcome::IcmpUnrelated };
        if flow.terms.hook != packet.hook {
            return Outcome::OtherHook;
        }
        packet.forwarding = flow.terms.forwarding;
        let server = self.server(flow.terms.server).filter(|server| server.hop.ifindex != 0);
        let Some(server) = server.cloned() else { return Outcome::NoNextHop };
        if packet.is_too_old() {
            return Outcome::TtlExpired;
        }
        let mut to = packet.tuple;
        to.destination.set_ip(flow.reply.source.ip());
        match flow.terms.forwarding {
            Forwarding::Nat => to.source.set_ip(flow.reply.destination.ip()),
            Forwarding::Dnat => {}
            Forwarding::DsrL2 => {
                packet.send(&server.hop);
                return Outcome::ErrorForwarded;
            }
            Forwarding::DsrIpip => return packet.wrap(&server, Outcome::ErrorForwarded),
        }
        packet.retell(quote, &flow.reply, to);
        packet.send(&server.hop);
        Outcome::ErrorForwarded
    }
}

/// Reads the quoted IP header and ports: eight bytes of transport have to be there (RFC 792).
fn read_quote(packet: &Packet) -> Option<Quote> {
    let (frame, l3) = (&packet.frame, packet.l4 + 8);
    let (source, destination, protocol, l4): (IpAddr, IpAddr, u8, usize);
    if packet.tuple.is_v6() {
        let header: [u8; 40] = bytes(frame, l3)?;
        if header[0] >> 4 != 6 {
            return None;
        }
        source = Ipv6Addr::from(bytes::<16>(&header, 8)?).into();
        destination = Ipv6Addr::from(bytes::<16>(&header, 24)?).into();
        if header[6] == FRAGMENT {
            let [next, _, high, low] = bytes::<4>(frame, l3 + 40)?;
            if u16::from_be_bytes([high, low]) >> 3 != 0 {
                return None;
            }
            (protocol, l4) = (next, l3 + 48);
        } else {
            (protocol, l4) = (header[6], l3 + 40);
        }
    } else {
        let header: [u8; 20] = bytes(frame, l3)?;
        let len = usize::from(header[0] & 15) * 4;
        let is_later = u16::from_be_bytes([header[6], header[7]]) & 0x1fff != 0;
        if header[0] >> 4 != 4 || len < 20 || is_later {
            return None;
        }
        source = Ipv4Addr::from(bytes::<4>(&header, 12)?).into();
        destination = Ipv4Addr::from(bytes::<4>(&header, 16)?).into();
        (protocol, l4) = (header[9], l3 + len);
    }
    if !matches!(protocol, TCP | UDP) || l4 + 8 > packet.l3 + packet.ip_len {
        return None;
    }
    let ports: [u8; 4] = bytes(frame, l4)?;
    let port = |high, low| u16::from_be_bytes([high, low]);
    let source = (source, port(ports[0], ports[1])).into();
    let destination = (destination, port(ports[2], ports[3])).into();
    Some(Quote { tuple: Tuple::new(source, destination, protocol), l3, l4 })
}

impl Packet {
    /// Makes the quote one of a packet with the tuple `quoted`, and gives the error the addresses of
    /// `to`. The quote's own checksums are mended, TCP's if the quote reaches so far; and all that
    /// changes in the quote changes the error's checksum.
    fn retell(&mut self, quote: &Quote, quoted: &Tuple, to: Tuple) {
        let has_sum = quoted.protocol == TCP && quote.l4 + 18 <= self.l3 + self.ip_len;
        let end = quote.l4 + if has_sum { 18 } else { 8 };
        let before = self.frame[quote.l3..end].to_vec();
        let (from, becomes) = (addresses(&quote.tuple), addresses(quoted));
        let mut inner = Change::default();
        inner.replace(&from, &becomes);
        if !self.tuple.is_v6() {
            self.mend(quote.l3 + 10, &inner, false);
        }
        let at = quote.l3 + if self.tuple.is_v6() { 8 } else { 12 };
        put(&mut self.frame, at, &becomes);
        let ports = [quoted.source.port().to_be_bytes(), quoted.destination.port().to_be_bytes()];
        inner.replace(&self.frame[quote.l4..quote.l4 + 4], &ports.concat());
        put(&mut self.frame, quote.l4, &ports.concat());
        if quoted.protocol == UDP {
            self.mend(quote.l4 + 6, &inner, true);
        } else if has_sum {
            self.mend(quote.l4 + 16, &inner, false);
        }
        let mut change = Change::default();
        change.replace(&before, &self.frame[quote.l3..end]);
        self.to = Some(to);
        if self.tuple.is_v6() {
            change.replace(&addresses(&self.tuple), &addresses(&to));
        }
        self.mend(self.l4 + 2, &change, false);
        self.readdress(self.ttl.wrapping_sub(1));
    }
}

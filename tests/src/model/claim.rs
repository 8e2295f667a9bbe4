//! Giving a new flow to a server: a claim on a port towards it, and the half-open entries.

use std::net::{IpAddr, SocketAddr};

use super::balance::{Model, Said};
use super::conntrack::is_after;
use super::frame::Packet;
use super::half::RETRY_AFTER;
use super::hash;
use super::outcome::Outcome;
use super::phase::State;
use super::settings::{Forwarding, Hop, Id, Listener};
use super::tables::{Flow, Reply, Terms};
use super::tuple::{TCP, Tuple, UDP};

/// A half-open claim of this age may be stolen though its server has answered, nanoseconds.
const STEAL_AFTER: u64 = 1_000_000_000;
/// Tries after which one of that age is taken.
const STEAL_PROBES: u32 = 4;

/// Ports that are tried.
const TRIES: u32 = 16;

/// What a look at one tuple of a server found.
enum Found {
    /// It is free, or has just become so.
    Free,
    /// A promoted flow has it.
    Promoted { reusable: bool },
    /// A half-open flow has it, since a time; `stealable` if its server was never heard, or it is old.
    HalfOpen { since: u64, stealable: bool },
}

impl Model {
    /// Gives the packet's flow to a server and records it, half open.
    pub(super) fn claim(
        &mut self,
        packet: &mut Packet,
        listener: &Listener,
        server: Id,
        state: State,
    ) -> Said {
        let Some(side) = self.server(server).map(|server| server.side) else {
            return Said::Stop(Outcome::NoServer);
        };
        let side = if listener.keep_port {
            SocketAddr::new(side.ip(), packet.tuple.destination.port())
        } else {
            side
        };
        packet.forwarding = listener.forwarding;
        let claimed = match listener.forwarding {
            Forwarding::Nat => self.nat(packet, listener, server, side),
            Forwarding::Dnat => self.dnat(packet, side),
            Forwarding::DsrL2 | Forwarding::DsrIpip => Some(packet.tuple.reversed()),
        };
        let Some(reply) = claimed else { return Said::Stop(Outcome::SnatExhausted) };
        self.record(packet, listener, server, reply, state);
        self.tables.load(server).opened += 1;
        packet.server = server;
        packet.to = Some(reply.reversed());
        Said::Carry
    }

    fn record(
        &mut self,
        packet: &Packet,
        listener: &Listener,
        server: Id,
        reply: Tuple,
        state: State,
    ) {
        let now = self.now();
        let flow = Flow {
            reply,
            state,
            seen: now,
            idle_limit: state.timeout(packet.tuple.protocol, &listener.timeouts),
            bytes: packet.ip_len as u64,
            next_seq: packet.next_seq(),
            terms: Terms {
                listener: listener.number,
                server,
                forwarding: listener.forwarding,
                hook: packet.hook,
                one_packet: listener.one_packet && packet.tuple.protocol == UDP,
                opened: now,
            },
        };
        if !listener.forwarding.is_dsr() {
            let entry = self.reply_anew(packet, &packet.tuple, &flow);
            self.tables.half_replies.insert(reply, entry);
        }
        self.tables.half_flows.insert(packet.tuple, flow);
    }

    /// The reply entry of a flow, as if its server was never heard, for the way that the packet came.
    pub(super) fn reply_anew(&self, packet: &Packet, key: &Tuple, flow: &Flow) -> Reply {
        Reply {
            flow: *key,
            seen: 0,
            bytes: 0,
            hop: way_back(packet),
            last_ack: 0,
            first_seq: 0,
            next_seq: 0,
            terms: flow.terms.clone(),
        }
    }

    /// A port towards the server that nobody else has, or that is taken from another flow.
    fn nat(
        &mut self,
        packet: &Packet,
        listener: &Listener,
        server: Id,
        side: SocketAddr,
    ) -> Option<Tuple> {
        let own = self.server(server)?.snat;
        let mut oldest: Option<(u64, Tuple)> = None;
        let mut reusable = None;
        for (tried, ours) in (1..).zip(candidates(packet, listener, own)) {
            let key = Tuple::new(side, ours, packet.tuple.protocol);
            match self.look(packet, &key) {
                Found::Free => return Some(key),
                Found::Promoted { reusable: is } => {
                    if is && reusable.is_none() {
                        reusable = Some(key);
                    }
                }
                Found::HalfOpen { since, stealable } => {
                    if stealable && oldest.is_none_or(|(least, _)| since < least) {
                        oldest = Some((since, key));
                    }
                }
            }
            // In a flood nothing is free: one that is old is taken soon.
            let is_old = oldest.is_some_and(|(since, _)| self.age(since) > STEAL_AFTER);
            if tried >= STEAL_PROBES && is_old {
                break;
            }
        }
        // A young claim may be of a handshake that goes on.
        let victim =
            oldest.filter(|(since, _)| reusable.is_none() || self.age(*since) > STEAL_AFTER);
        if let Some((_, key)) = victim {
            if let Some(reply) = self.tables.half_replies.remove(&key) {
                self.tables.half_flows.remove(&reply.flow);
            }
            return Some(key);
        }
        // Two claims on one port are left over when a promoted flow's reply entry was lost.
        let key = reusable.filter(|key| !self.tables.half_replies.contains_key(key))?;
        let old = self.tables.replies.get(&key)?.flow;
        self.end(&old);
        Some(key)
    }

    /// The client's own tuple towards the server: taken only where one server serves two listeners
    /// and the client uses one port for both.
    fn dnat(&mut self, packet: &Packet, side: SocketAddr) -> Option<Tuple> {
        let key = Tuple::new(side, packet.tuple.source, packet.tuple.protocol);
        match self.look(packet, &key) {
            Found::Free => Some(key),
            // The flow's own claim, from a time when it had this server before.
            Found::HalfOpen { .. } => {
                let holder = self.tables.half_replies.get(&key)?.flow;
                (holder == packet.tuple).then_some(key)
            }
            Found::Promoted { .. } => None,
        }
    }

    /// Who has a tuple of a server. Whoever is over is ended.
    fn look(&mut self, packet: &Packet, key: &Tuple) -> Found {
        if let Some(reply) = self.tables.replies.get(key) {
            let holder = reply.flow;
            let flow = self.tables.flows.get(&holder).filter(|flow| flow.reply == *key);
            let Some(flow) = flow else {
                return Found::Promoted { reusable: false };
            };
            if !self.is_over(&holder) {
                let is_tcp = key.protocol == TCP;
                // One number is left out: Linux in TIME-WAIT asks for a higher one than the next.
                let is_higher = is_after(packet.seq, flow.next_seq);
                let reusable = is_tcp && flow.state.is_closed() && is_higher;
                return Found::Promoted { reusable };
            }
            self.end(&holder);
        }
        let Some(reply) = self.tables.half_replies.get(key) else { return Found::Free };
        // With `one_packet` all packets of a client to a server share a claim.
        if reply.terms.one_packet && reply.flow == packet.tuple {
            return Found::Free;
        }
        let since = reply.terms.opened;
        let stealable = reply.seen == 0 || self.age(since) > STEAL_AFTER;
        let found = Found::HalfOpen { since, stealable };
        match self.tables.half_flows.get(&reply.flow) {
            // With `one_packet` a client has a claim towards each server, and its flow names the last.
            Some(flow) if flow.reply != *key && !flow.terms.one_packet => Found::Free,
            Some(flow) if self.age(flow.seen) > flow.idle_limit => {
                let holder = reply.flow;
                self.tables.half_flows.remove(&holder);
                Found::Free
            }
            Some(_) => found,
            // Of a flow that was evicted; its server may still answer for a moment.
            None if self.age(reply.terms.opened) > RETRY_AFTER => Found::Free,
            None => found,
        }
    }
}

/// The sides that a new flow may have towards its server, in the order in which they are tried: the
/// client's own port if it is in the range, then a walk whose start is the lower half of the flow's hash
/// under a zero key, and whose stride is one of four primes, which the upper half says. The SNAT
/// address moves on by one with each try, beginning with what the highest 16 bits say, and by one more
/// whenever the ports come round.
fn candidates(
    packet: &Packet,
    listener: &Listener,
    server_snat: IpAddr,
) -> impl Iterator<Item = SocketAddr> {
    let hash = hash::flow((0, 0), &packet.tuple);
    let (start, address) = (hash as u32, (hash >> 48) as usize);
    let (first, last) = listener.snat_ports;
    let count = u32::from(last.saturating_sub(first)) + 1;
    let stride = [65_537, 140_009, 260_003, 410_009][(hash >> 32) as usize % 4];
    let own = packet.tuple.source.port();
    let addresses = listener.snat_addresses.clone();
    (0..TRIES).map(move |turn| {
        let walked = (start % count + turn * stride) % count;
        let is_own = turn == 0 && own >= first && u32::from(own - first) < count;
        let port = if is_own { own } else { (u32::from(first) + walked) as u16 };
        let moved = (turn % count + turn / count) as usize;
        let place = (address + moved) % addresses.len().max(1);
        SocketAddr::new(addresses.get(place).copied().unwrap_or(server_snat), port)
    })
}

/// Where a packet came from, as a way to send answers.
pub(super) fn way_back(packet: &Packet) -> Hop {
    let octets = |at: usize| super::frame::bytes::<6>(&packet.frame, at).unwrap_or_default();
    Hop {
        ifindex: packet.ifindex,
        source: octets(0),
        destination: octets(6),
        mtu: packet.mtu,
        tags: packet.tags.clone(),
    }
}

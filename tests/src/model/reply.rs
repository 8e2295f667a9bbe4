//! From server to client.

use super::balance::{Model, Said};
use super::frame::{Packet, Part};
use super::outcome::Outcome;
use super::phase::{Sender, State, tcp};
use super::settings::Meaning;
use super::tables::{Flow, Reply};
use super::tuple::{TCP, Tuple, UDP};

/// After so long a silence of the server, nanoseconds, its flow entry is looked for.
const SILENCE: u64 = 1_000_000_000;

impl Model {
    /// Carries a server's packet; `None` if it is no reply to anything.
    pub(super) fn reply(&mut self, packet: &mut Packet, role: &Meaning) -> Option<Outcome> {
        let key = packet.tuple;
        let promoted = self.tables.replies.get(&key);
        let Some(reply) = promoted.or_else(|| self.tables.half_replies.get(&key)) else {
            return if role.dnat_server { self.static_reply(packet, role) } else { None };
        };
        let (is_promoted, reply) = (promoted.is_some(), reply.clone());
        if reply.terms.hook != packet.hook {
            return Some(Outcome::OtherHook);
        }
        packet.forwarding = reply.terms.forwarding;
        packet.server = reply.terms.server;
        if packet.is_too_old() {
            return Some(Outcome::TtlExpired);
        }
        if is_promoted {
            self.note_reply(packet, &key, &reply);
        } else if let Said::Stop(outcome) = self.first_words(packet, &key, &reply) {
            return Some(outcome);
        }
        packet.to = Some(reply.flow.reversed());
        Some(self.send_to_client(packet, &reply.hop))
    }

    /// Notes a server's packet in both entries of a promoted flow.
    fn note_reply(&mut self, packet: &Packet, key: &Tuple, before: &Reply) {
        let mut reply = before.clone();
        hear(packet, &mut reply, self.now());
        if packet.flags & tcp::FIN != 0 {
            reply.next_seq = packet.next_seq();
        }
        self.tables.replies.insert(*key, reply.clone());
        let tells = packet.flags & (tcp::SYN | tcp::FIN | tcp::RST) != 0;
        if !tells && self.age(before.seen) <= SILENCE {
            return;
        }
        if !self.tables.flows.contains_key(&reply.flow) {
            let state = State { replied: true, established: true, ..State::default() };
            self.flow_anew(packet, key, &reply, state);
        }
        let Some(flow) = self.tables.flows.get_mut(&reply.flow) else { return };
        let known = flow.state;
        if key.protocol == TCP {
            flow.state.learn(TCP, Sender::Server, packet.flags, true);
        }
        if flow.state != known {
            self.advanced(&reply.flow);
        }
    }

    /// Makes a lost flow entry of a promoted flow anew, if there is room.
    fn flow_anew(&mut self, packet: &Packet, key: &Tuple, reply: &Reply, state: State) {
        let flow = self.drafted(packet, key, reply, state);
        let count = super::tables::Tables::count(&self.tables.flows, reply.flow.source);
        if count < self.capacity {
            self.tables.flows.insert(reply.flow, flow);
        }
    }

    fn drafted(&self, packet: &Packet, key: &Tuple, reply: &Reply, state: State) -> Flow {
        let timeouts = self.listener(&reply.flow).map(|listener| listener.timeouts);
        Flow {
            reply: *key,
            state,
            seen: self.now(),
            idle_limit: timeouts.map_or(0, |all| state.timeout(key.protocol, &all)),
            bytes: 0,
            next_seq: packet.ack,
            terms: reply.terms.clone(),
        }
    }

    /// What a server says on a half-open flow.
    fn first_words(&mut self, packet: &Packet, key: &Tuple, before: &Reply) -> Said {
        let is_reset = packet.flags & tcp::RST != 0;
        let accepts = packet.flags & (tcp::SYN | tcp::ACK | tcp::RST) == tcp::SYN | tcp::ACK;
        let known = self.tables.half_flows.get(&before.flow).cloned();
        let is_answered = known.as_ref().is_none_or(|flow| flow.state.replied);
        // The flow has another server by now: what this one says tells nothing.
        let is_stray = known.as_ref().is_some_and(|flow| flow.reply != *key);
        if is_reset && !is_stray && !is_answered && self.is_swallowed(&before.flow) {
            return Said::Stop(Outcome::RefusalSwallowed);
        }
        let mut reply = before.clone();
        hear(packet, &mut reply, self.now());
        if accepts {
            (reply.first_seq, reply.next_seq) = (packet.seq, packet.next_seq());
        }
        self.tables.half_replies.insert(*key, reply.clone());
        if is_stray {
            return Said::Carry;
        }
        let is_datagram = key.protocol == UDP;
        let promotes = is_datagram && packet.part != Part::Later && !reply.terms.one_packet;
        if known.is_some() {
            if let Some(flow) = self.tables.half_flows.get_mut(&reply.flow) {
                flow.state.replied |= accepts || is_datagram;
            }
            if is_reset {
                self.reset_half(&reply.flow);
            }
        } else if !promotes {
            let state = State { replied: accepts, ..State::default() };
            let flow = self.drafted(packet, key, &reply, state);
            self.tables.half_flows.insert(reply.flow, flow);
        }
        if !promotes {
            return Said::Carry;
        }
        let flow = match self.tables.half_flows.get(&reply.flow).cloned() {
            Some(flow) => flow,
            None => self.drafted(packet, key, &reply, State::default()),
        };
        self.promote(reply.flow, flow, Some(reply))
    }

    /// A server refused the SYN of a half-open flow: counted, and swallowed if the client's next SYN
    /// may go to another server.
    pub(super) fn is_swallowed(&mut self, key: &Tuple) -> bool {
        let Some(flow) = self.tables.half_flows.get(key).cloned() else { return false };
        let server = flow.terms.server;
        self.tables.load(server).refused += 1;
        let listener = self.listener(key).filter(|listener| listener.open);
        let Some(pool) = listener.map(|listener| listener.pool) else { return false };
        if flow.state.retried || !self.has_another(pool, server) {
            return false;
        }
        self.tables.half_replies.remove(&flow.reply);
        if let Some(flow) = self.tables.half_flows.get_mut(key) {
            flow.state.refused = true;
        }
        true
    }

    /// A reply without a flow: its server serves one listener alone, and is given that one's
    /// address. The way to the client is asked of the host's routes.
    fn static_reply(&mut self, packet: &mut Packet, role: &Meaning) -> Option<Outcome> {
        if role.listener || role.snat {
            // For the host, or as from a client.
            return None;
        }
        let key = (packet.tuple.source, packet.tuple.protocol);
        let Some(found) = self.settings.static_replies.get(&key).copied() else {
            let outcome =
                if packet.part == Part::Later { Outcome::Fragment } else { Outcome::Unrelated };
            return Some(outcome);
        };
        if found.hook != packet.hook {
            return Some(Outcome::OtherHook);
        }
        if packet.is_too_old() {
            return Some(Outcome::TtlExpired);
        }
        let client = packet.tuple.destination;
        let Some(hop) = self.routes.get(&client.ip()).cloned() else {
            return Some(Outcome::NoNextHop);
        };
        packet.to = Some(Tuple::new(found.listener, client, packet.tuple.protocol));
        Some(self.send_to_client(packet, &hop))
    }
}

/// Notes in a reply entry what every packet of the server tells.
fn hear(packet: &Packet, reply: &mut Reply, now: u64) {
    reply.seen = now;
    reply.bytes += packet.ip_len as u64;
    if packet.flags & tcp::ACK != 0 {
        reply.last_ack = packet.ack;
    }
}

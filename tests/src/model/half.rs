//! Flows that are half open.

use super::balance::{Model, Said};
use super::conntrack::{is_after, is_syn};
use super::frame::{Packet, Part};
use super::outcome::Outcome;
use super::phase::{State, tcp};
use super::tables::Flow;
use super::tuple::{TCP, Tuple};

/// A SYN sent again after so long, nanoseconds, was left unanswered.
pub(super) const RETRY_AFTER: u64 = 800_000_000;

impl Model {
    /// The half-open flow of a client's packet.
    pub(super) fn find_half(&mut self, packet: &mut Packet) -> Said {
        let (key, now) = (packet.tuple, self.now());
        let Some(flow) = self.tables.half_flows.get_mut(&key) else { return Said::GoOn };
        if flow.terms.hook != packet.hook {
            return Said::Stop(Outcome::OtherHook);
        }
        packet.forwarding = flow.terms.forwarding;
        if now.saturating_sub(flow.seen) > flow.idle_limit {
            let claim = flow.reply;
            self.give_back(&claim, &key);
            self.tables.half_flows.remove(&key);
            return Said::GoOn;
        }
        if flow.terms.one_packet && packet.part != Part::Later {
            return Said::GoOn;
        }
        flow.seen = now;
        flow.bytes += packet.ip_len as u64;
        packet.to = Some(flow.reply.reversed());
        packet.server = flow.terms.server;
        let flow = flow.clone();
        if is_syn(packet) {
            return self.again(packet, &flow);
        }
        if self.has_lost(&key, &flow) {
            return Said::GoOn;
        }
        if packet.part == Part::Later {
            return Said::Carry;
        }
        if key.protocol != TCP {
            self.mend_claim(packet, &flow);
            return Said::Carry;
        }
        if packet.flags & tcp::RST != 0 {
            self.reset_half(&key);
        } else if packet.flags & (tcp::SYN | tcp::ACK) == tcp::ACK {
            return self.proved(packet, flow);
        }
        Said::Carry
    }

    /// A side gave up before the handshake was done: the flow ends soon.
    pub(super) fn reset_half(&mut self, key: &Tuple) {
        let timeouts = self.listener(key).map(|listener| listener.timeouts);
        let Some(flow) = self.tables.half_flows.get_mut(key) else { return };
        flow.state.reset = true;
        if let Some(timeouts) = timeouts {
            flow.idle_limit = flow.state.timeout(key.protocol, &timeouts);
        }
    }

    /// A SYN sent again: carried, or given to another server.
    fn again(&mut self, packet: &mut Packet, flow: &Flow) -> Said {
        if flow.terms.forwarding.is_dsr() {
            return Said::Carry;
        }
        let state = flow.state;
        let unanswered = !state.replied && self.age(flow.terms.opened) >= RETRY_AFTER;
        if unanswered && !state.refused {
            self.tables.load(flow.terms.server).unanswered += 1;
        }
        if (state.refused || unanswered) && !state.retried && self.elsewhere(packet, flow) {
            return Said::Carry;
        }
        if self.has_lost(&packet.tuple, flow) {
            return Said::GoOn;
        }
        self.mend_claim(packet, flow);
        Said::Carry
    }

    /// Makes a claim anew that is gone: refused, or evicted.
    fn mend_claim(&mut self, packet: &Packet, flow: &Flow) {
        let tables = &self.tables;
        let is_held = tables.half_replies.contains_key(&flow.reply)
            || tables.replies.contains_key(&flow.reply);
        if flow.terms.forwarding.is_dsr() || is_held {
            return;
        }
        let key = packet.tuple;
        let current = self.tables.half_flows.get(&key).unwrap_or(flow);
        let reply = self.reply_anew(packet, &key, current);
        self.tables.half_replies.insert(flow.reply, reply);
    }

    /// Whether another flow has the claim, which was free for a while: then the flow is forgotten.
    fn has_lost(&mut self, key: &Tuple, flow: &Flow) -> bool {
        let tables = &mut self.tables;
        if flow.terms.forwarding.is_dsr() {
            return false;
        }
        let holder = tables.half_replies.get(&flow.reply).or(tables.replies.get(&flow.reply));
        let is_lost = holder.is_some_and(|reply| reply.flow != *key);
        if is_lost {
            tables.half_flows.remove(key);
        }
        is_lost
    }

    /// Removes a claim, if the flow has it.
    fn give_back(&mut self, claim: &Tuple, key: &Tuple) {
        if self.tables.half_replies.get(claim).is_some_and(|reply| reply.flow == *key) {
            self.tables.half_replies.remove(claim);
        }
    }

    /// Gives a half-open flow to another server, if there is one with a port for it.
    fn elsewhere(&mut self, packet: &mut Packet, flow: &Flow) -> bool {
        let listener = self.listener(&packet.tuple).filter(|listener| listener.open).cloned();
        let Some(listener) = listener else { return false };
        let Ok(server) = self.choose(packet, &listener, flow.terms.server) else { return false };
        let retried = State { retried: true, ..State::default() };
        if self.claim(packet, &listener, server, retried) != Said::Carry {
            packet.server = flow.terms.server;
            packet.to = Some(flow.reply.reversed());
            return false;
        }
        // Two servers may be one side.
        let moved = self.tables.half_flows.get(&packet.tuple);
        if moved.is_none_or(|moved| moved.reply != flow.reply) {
            self.give_back(&flow.reply, &packet.tuple);
        }
        true
    }

    /// An ACK, which may prove that the client is there.
    fn proved(&mut self, packet: &Packet, mut flow: Flow) -> Said {
        if flow.terms.forwarding.is_dsr() {
            if packet.seq != flow.next_seq {
                return Said::Carry;
            }
            flow.next_seq = packet.next_seq();
            return self.promote(packet.tuple, flow, None);
        }
        let reply = self.tables.half_replies.get(&flow.reply).cloned();
        let Some(reply) = reply.filter(|_| flow.state.replied) else { return Said::Carry };
        // What the server has sent ends before `next_seq`; at least its SYN has to be acknowledged,
        // and no more than all of it.
        let acknowledged = packet.ack.wrapping_sub(reply.first_seq);
        let sent = reply.next_seq.wrapping_sub(reply.first_seq);
        if acknowledged == 0 || acknowledged > sent {
            return Said::Carry;
        }
        if is_after(packet.next_seq(), flow.next_seq) {
            flow.next_seq = packet.next_seq();
        }
        self.promote(packet.tuple, flow, Some(reply))
    }
}

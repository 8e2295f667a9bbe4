//! Promoted flows: finding them, noting what a client's packet tells, ending them.

use super::balance::{Model, Said};
use super::frame::{Packet, Part};
use super::outcome::Outcome;
use super::phase::{Sender, tcp};
use super::settings::{OnDown, Stand};
use super::tables::Reply;
use super::tuple::{TCP, Tuple};

/// A client that was silent for longer, nanoseconds, is looked at more closely.
const SILENCE: u64 = 1_000_000_000;

/// What becomes of the packets of a server that is down.
enum Fate {
    Carried,
    Reset,
    ChosenAnew,
}

impl Model {
    /// The promoted flow of a client's packet.
    pub(super) fn find(&mut self, packet: &mut Packet) -> Said {
        let key = packet.tuple;
        let Some(flow) = self.tables.flows.get(&key).cloned() else { return Said::GoOn };
        if flow.terms.hook != packet.hook {
            return Said::Stop(Outcome::OtherHook);
        }
        packet.forwarding = flow.terms.forwarding;
        if self.age(flow.seen) > SILENCE {
            if self.is_over(&key) {
                self.end(&key);
                return Said::GoOn;
            }
            if !self.mend_reply(packet, &key) {
                self.end(&key);
                return Said::GoOn;
            }
        }
        if is_syn(packet) && flow.state.is_closed() {
            self.end(&key);
            return Said::GoOn;
        }
        match self.fate(packet, &key) {
            Fate::Carried => {}
            Fate::Reset => {
                self.end(&key);
                return Said::Stop(Outcome::ResetSent);
            }
            Fate::ChosenAnew => {
                self.end(&key);
                return Said::GoOn;
            }
        }
        self.note(packet, &key);
        packet.to = Some(flow.reply.reversed());
        packet.server = flow.terms.server;
        Said::Carry
    }

    /// Notes a client's packet in its promoted flow.
    fn note(&mut self, packet: &Packet, key: &Tuple) {
        let now = self.now();
        let reply =
            self.tables.flows.get(key).and_then(|flow| self.tables.replies.get(&flow.reply));
        let reply = reply.cloned();
        let Some(flow) = self.tables.flows.get_mut(key) else { return };
        flow.seen = now;
        flow.bytes += packet.ip_len as u64;
        if key.protocol != TCP || packet.part == Part::Later {
            return;
        }
        let next = flow.next_seq;
        let before = flow.state;
        let state = &mut flow.state;
        // A server takes a reset for sure that has the next number, if it has acknowledged all
        // before it.
        let taken =
            reply.as_ref().is_some_and(|reply| packet.seq == next && reply.last_ack == next);
        state.learn(TCP, Sender::Client, packet.flags, taken);
        if flow.terms.forwarding.is_dsr() && state.fin_forward && !before.fin_forward {
            // The server's FIN is never seen, and is taken as sent.
            state.fin_reply = true;
        }
        let acknowledges_fin = |reply: &Reply| packet.ack == reply.next_seq;
        if state.fin_forward
            && state.fin_reply
            && packet.flags & tcp::ACK != 0
            && reply.as_ref().is_some_and(acknowledges_fin)
        {
            state.last_ack = true;
        }
        if is_after(packet.next_seq(), next) {
            flow.next_seq = packet.next_seq();
        }
        let news = flow.state != before;
        if news {
            self.advanced(key);
        }
    }

    /// After a promoted flow's state has changed: a closed one gives its slot back, and the idle
    /// limit follows.
    pub(super) fn advanced(&mut self, key: &Tuple) {
        let Some(flow) = self.tables.flows.get_mut(key) else { return };
        if flow.state.is_closed() && !flow.state.released {
            flow.state.released = true;
            let server = flow.terms.server;
            self.release(server);
        }
        self.set_limit(key);
    }

    fn set_limit(&mut self, key: &Tuple) {
        let Some(timeouts) = self.listener(key).map(|listener| listener.timeouts) else { return };
        if let Some(flow) = self.tables.flows.get_mut(key) {
            flow.idle_limit = flow.state.timeout(key.protocol, &timeouts);
        }
    }

    /// What becomes of a packet because of its server's health.
    fn fate(&self, packet: &Packet, key: &Tuple) -> Fate {
        let server = self.tables.flows.get(key).and_then(|flow| self.server(flow.terms.server));
        let Some(server) = server else { return Fate::Carried };
        let anew = key.protocol != TCP || is_syn(packet);
        match (server.stand, server.on_down) {
            (Stand::Unset | Stand::Active | Stand::Draining, _) | (Stand::Down, OnDown::Drain) => {
                Fate::Carried
            }
            // A fragment cannot be turned round.
            (Stand::Down, OnDown::Reset) if key.protocol == TCP && packet.part == Part::Whole => {
                Fate::Reset
            }
            (Stand::Down, OnDown::Reset | OnDown::Rehash) if anew => Fate::ChosenAnew,
            (Stand::Down, OnDown::Reset | OnDown::Rehash) => Fate::Carried,
        }
    }

    /// Whether nothing has moved for longer than a promoted flow's phase allows. Before the
    /// handshake is done a server's packets do not count as life.
    pub(super) fn is_over(&self, key: &Tuple) -> bool {
        let Some(flow) = self.tables.flows.get(key) else { return false };
        let heard = self.tables.replies.get(&flow.reply).map_or(0, |reply| reply.seen);
        let kept_by_replies = key.protocol != TCP || flow.state.established;
        self.age(flow.seen) > flow.idle_limit
            && (!kept_by_replies || self.age(heard) > flow.idle_limit)
    }

    /// Makes the reply entry of a promoted flow anew if it is lost, and takes the port back from a
    /// flow that has claimed it meanwhile. Whether that can be done: one that was promoted keeps it.
    fn mend_reply(&mut self, packet: &Packet, key: &Tuple) -> bool {
        let Some(flow) = self.tables.flows.get(key).cloned() else { return true };
        if flow.terms.forwarding.is_dsr() {
            return true;
        }
        if let Some(reply) = self.tables.replies.get(&flow.reply) {
            return reply.flow == *key;
        }
        let reply = self.reply_anew(packet, key, &flow);
        self.tables.replies.insert(flow.reply, reply);
        self.tables.half_replies.remove(&flow.reply);
        true
    }

    /// Ends a promoted flow.
    pub(super) fn end(&mut self, key: &Tuple) {
        let Some(flow) = self.tables.flows.remove(key) else { return };
        if self.tables.replies.get(&flow.reply).is_some_and(|reply| reply.flow == *key) {
            self.tables.replies.remove(&flow.reply);
        }
        if !flow.state.released {
            self.release(flow.terms.server);
        }
        let load = self.tables.load(flow.terms.server);
        load.entries = load.entries.wrapping_sub(1);
    }

    /// Gives a server's slot back.
    pub(super) fn release(&mut self, server: u16) {
        let load = self.tables.load(server);
        load.in_use = load.in_use.wrapping_sub(1);
    }
}

/// A SYN without ACK.
pub(super) fn is_syn(packet: &Packet) -> bool {
    packet.flags & (tcp::SYN | tcp::ACK) == tcp::SYN
}

/// Whether a sequence number comes after another (RFC 9293, section 3.4).
pub(super) fn is_after(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

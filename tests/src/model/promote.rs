//! Promotion: a flow that has been proved takes one of its server's slots and moves to where nothing
//! is evicted.

use super::balance::{Model, Said};
use super::outcome::Outcome;
use super::tables::{Flow, Reply, Tables};
use super::tuple::Tuple;

impl Model {
    /// Promotes a flow; dsr-* has no reply entry.
    pub(super) fn promote(&mut self, key: Tuple, mut flow: Flow, reply: Option<Reply>) -> Said {
        let server = flow.terms.server;
        let limit = self.server(server).map_or(0, |server| server.max_connections);
        if self.tables.load(server).in_use >= u64::from(limit) {
            return Said::Stop(Outcome::ServersFull);
        }
        if let Some(said) = self.refuses_promotion(&key, &flow, reply.is_some()) {
            return said;
        }
        flow.state.established = true;
        flow.state.replied |= reply.is_some();
        if let Some(timeouts) = self.listener(&key).map(|listener| listener.timeouts) {
            flow.idle_limit = flow.state.timeout(key.protocol, &timeouts);
        }
        let load = self.tables.load(server);
        load.in_use += 1;
        load.entries += 1;
        if let Some(reply) = reply {
            self.tables.half_replies.remove(&flow.reply);
            self.tables.replies.insert(flow.reply, reply);
        }
        self.tables.half_flows.remove(&key);
        self.tables.flows.insert(key, flow);
        Said::Carry
    }

    /// Why the tables take no more, if they do not.
    fn refuses_promotion(&self, key: &Tuple, flow: &Flow, has_reply: bool) -> Option<Said> {
        let is_full = |count| count >= self.capacity;
        if has_reply {
            if let Some(other) = self.tables.replies.get(&flow.reply) {
                let own = other.flow == *key;
                return Some(if own { Said::Carry } else { Said::Stop(Outcome::Raced) });
            }
            if is_full(Tables::count(&self.tables.replies, key.source)) {
                return Some(Said::Stop(Outcome::FlowsFull));
            }
        }
        // An entry that was lost has been made anew meanwhile, from the old flow's reply entry.
        if self.tables.flows.contains_key(key) {
            return Some(Said::Stop(Outcome::Raced));
        }
        is_full(Tables::count(&self.tables.flows, key.source))
            .then_some(Said::Stop(Outcome::FlowsFull))
    }
}

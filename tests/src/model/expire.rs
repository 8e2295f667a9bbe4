//! Ending idle flows that the process has found.

use super::balance::Model;
use super::tuple::Tuple;

impl Model {
    /// What the process sees of an idle flow: when its client and its server were last heard.
    pub fn seen(&self, key: &Tuple) -> Option<(u64, u64)> {
        let flow = self.tables.flows.get(key)?;
        Some((flow.seen, self.tables.replies.get(&flow.reply).map_or(0, |reply| reply.seen)))
    }

    /// Ends a flow that has stood still since the process looked.
    pub fn expire(&mut self, key: &Tuple, seen: (u64, u64)) {
        if self.seen(key) == Some(seen) {
            self.end(key);
        }
    }
}

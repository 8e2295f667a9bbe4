//! Where the program is attached: to every interface that a listener needs, and to no other.
//!
//! A listener needs the interfaces by which its clients' packets come in, for as long as it is open
//! or has flows, and those by which its servers are reached. What is made ready for a reload is
//! needed until the reload is settled, be it applied or refused.

use std::collections::BTreeSet;

use deston_common::listener::ListenerKey;
use deston_common::server::{ServerId, ServerState};

use super::balancer::{Balancer, DatapathError};
use super::host::Link;
use super::plan::Plan;

impl Balancer {
    /// Attaches to the interfaces of a plan and keeps it until `settle`. On an error, what this
    /// call attached is detached.
    pub(super) fn attach(&mut self, key: ListenerKey, plan: Plan) -> Result<(), DatapathError> {
        let before = self.attached.len();
        for link in plan.links() {
            if let Err(error) = self.attach_to(link) {
                for attached in self.attached.split_off(before) {
                    self.kernel()?.detach(attached)?;
                }
                return Err(error);
            }
        }
        self.planned.push((key, plan));
        Ok(())
    }

    fn attach_to(&mut self, link: &Link) -> Result<(), DatapathError> {
        if self.attached.iter().any(|attached| attached.index() == link.index) {
            return Ok(());
        }
        let mode = self.settings.xdp_mode;
        let attached = self.kernel()?.attach(&link.name, mode)?;
        tracing::debug!(interface = link.name, "attached");
        self.attached.push(attached);
        Ok(())
    }

    /// Ends the preparations of a reload, whether it was applied or refused: what was attached for
    /// it and is not needed is detached.
    pub(super) fn settle(&mut self) -> Result<(), DatapathError> {
        self.planned.clear();
        self.detach_unneeded(|_| true)
    }

    /// Detaches from interfaces that nothing needs; `has_flows` may err towards flows.
    pub(super) fn detach_unneeded(
        &mut self,
        has_flows: impl Fn(ServerId) -> bool,
    ) -> Result<(), DatapathError> {
        let needed = self.needed(has_flows);
        let (kept, idle): (Vec<_>, Vec<_>) = std::mem::take(&mut self.attached)
            .into_iter()
            .partition(|attached| needed.contains(&attached.index()));
        self.attached = kept;
        for attached in idle {
            tracing::debug!(interface = attached.interface(), "detached");
            self.kernel()?.detach(attached)?;
        }
        Ok(())
    }

    fn needed(&self, has_flows: impl Fn(ServerId) -> bool) -> BTreeSet<u32> {
        let planned = self.planned.iter().flat_map(|(_, plan)| plan.links());
        let mut needed: BTreeSet<u32> = planned.map(|link| link.index).collect();
        needed.extend(self.listeners.iter().flat_map(|open| &open.interfaces));
        if self.listeners.is_empty() {
            return needed;
        }
        for (id, known) in &self.servers {
            if known.entry.state != ServerState::Draining as u8 || has_flows(*id) {
                needed.extend(&known.interfaces);
            }
        }
        needed
    }
}

//! Where the program is attached: to every interface that a listener needs, and to no other.
//!
//! A listener needs the interfaces by which its clients' packets come in, for as long as it is open
//! or has flows, and those by which its servers are reached. What is made ready for a reload is
//! needed until the reload is settled, be it applied or refused.

use std::collections::{BTreeMap, BTreeSet};

use deston_common::listener::ListenerKey;
use deston_common::server::ServerState;

use super::balancer::{Balancer, DatapathError};
use super::host::Link;
use super::kernel::Hook;
use super::plan::{self, Asked, Plan};

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
        if self.is_attached(link.index) {
            return Ok(());
        }
        let mode = self.settings.xdp_mode;
        let attached = self.kernel()?.attach(&link.name, Hook::Xdp, mode)?;
        tracing::debug!(interface = link.name, "attached");
        self.attached.push(attached);
        Ok(())
    }

    /// Whether packets that come in by an interface, or are sent out by it, are ours to see.
    pub(super) fn is_attached(&self, index: u32) -> bool {
        self.attached.iter().any(|attached| attached.index() == index)
    }

    /// Follows interfaces that went, and came again under the same name, and routes that lead to
    /// servers by other interfaces than before: `ways` are those they lead by.
    pub(super) async fn follow_interfaces(
        &mut self,
        ways: impl Iterator<Item = &Link>,
    ) -> Result<(), DatapathError> {
        let mut here = Vec::new();
        for attached in &self.attached {
            here.push(self.host.link(attached.index()).await?.is_some());
        }
        let mut here = here.into_iter();
        for attached in self.attached.extract_if(.., |_| here.next() == Some(false)) {
            // The kernel has detached the program with the interface; what is left is our record.
            tracing::warn!(interface = attached.interface(), "an interface is gone");
        }

        let mut wanted: BTreeMap<u32, Link> = ways.map(|link| (link.index, link.clone())).collect();
        for open in &mut self.listeners {
            for name in &open.names {
                if let Some(link) = self.host.link_named(name).await? {
                    open.interfaces.insert(link.index);
                    wanted.insert(link.index, link);
                }
            }
        }
        self.refused.retain(|index| wanted.contains_key(index));
        if self.listeners.is_empty() {
            return Ok(());
        }
        for link in wanted.into_values() {
            if self.refused.contains(&link.index) || self.is_attached(link.index) {
                continue;
            }
            match plan::check_link(&link, Asked::Explicitly, self.settings.xdp_mode)
                .map_err(DatapathError::from)
                .and_then(|()| self.attach_to(&link))
            {
                Ok(()) => tracing::info!(interface = link.name, "attached: traffic moved here"),
                Err(error) => {
                    self.refused.insert(link.index);
                    tracing::warn!(
                        interface = link.name,
                        %error,
                        "traffic moved to an interface without our program: servers behind it get \
                         no new connections; mend the route, or the interface and reload"
                    );
                }
            }
        }
        Ok(())
    }

    /// Ends the preparations of a reload, whether it was applied or refused: what was attached for
    /// it and is not needed is detached.
    pub(super) fn settle(&mut self) -> Result<(), DatapathError> {
        self.planned.clear();
        self.refused.clear();
        self.detach_unneeded()
    }

    /// Detaches from interfaces that nothing needs.
    pub(super) fn detach_unneeded(&mut self) -> Result<(), DatapathError> {
        let needed = self.needed()?;
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

    fn needed(&self) -> Result<BTreeSet<u32>, DatapathError> {
        let planned = self.planned.iter().flat_map(|(_, plan)| plan.links());
        let mut needed: BTreeSet<u32> = planned.map(|link| link.index).collect();
        if self.listeners.is_empty() {
            return Ok(needed);
        }
        needed.extend(self.listeners.iter().flat_map(|open| &open.interfaces));
        for (id, known) in &self.servers {
            let draining = known.entry.state == ServerState::Draining as u8;
            if !draining || self.open_flows(*id)? > 0 {
                needed.extend(&known.interfaces);
            }
        }
        Ok(needed)
    }
}

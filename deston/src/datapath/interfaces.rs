//! Where programs are attached: to every interface that a listener needs, and to no other.
//!
//! A listener needs the interfaces by which its clients' packets come in, for as long as it is open
//! or has flows, and those by which its servers are reached, each at its own hook. What is made
//! ready for a reload is needed until the reload is settled, be it applied or refused.

use std::collections::BTreeSet;

use deston_common::server::ServerState;

use super::balancer::{Balancer, DatapathError, PATIENCE};
use super::host::{Link, native_xdp};
use super::kernel::Hook;
use super::plan::{self, Wanted};

impl Balancer {
    /// Attaches to an interface, unless that is done already.
    pub(super) fn attach_to(&mut self, link: &Link, hook: Hook) -> Result<(), DatapathError> {
        if self.is_taken_away {
            return Err(DatapathError::TakenAway);
        }
        if self.is_attached(link.index, hook) {
            return Ok(());
        }
        let mode = self.settings.xdp_mode;
        let attached = self.kernel()?.attach(&link.name, hook, mode)?;
        tracing::debug!(interface = link.name, ?hook, "attached");
        self.attached.push(attached);
        Ok(())
    }

    /// Whether packets that come in by an interface are ours to see at a hook.
    pub(super) fn is_attached(&self, index: u32, hook: Hook) -> bool {
        let is = |attached: &super::Attached| attached.index() == index && attached.hook() == hook;
        self.attached.iter().any(is)
    }

    /// Follows interfaces that went, and came again under the same name, and routes that lead to
    /// servers by other interfaces than before: `ways` are those they lead by, with the pool of the
    /// server.
    pub(super) fn follow_interfaces<'a>(
        &mut self,
        ways: impl Iterator<Item = (&'a Link, &'a str)>,
    ) {
        let network = &self.network;
        for attached in self.attached.extract_if(.., |attached| !network.has(attached.index())) {
            // The kernel has detached the program with the interface; what is left is our record.
            tracing::warn!(interface = attached.interface(), "an interface is gone");
        }

        let mut wanted: Vec<(Link, Hook)> = Vec::new();
        for (link, pool) in ways {
            wanted.extend(self.hooks_of(pool).into_iter().map(|hook| (link.clone(), hook)));
        }
        for open in &mut self.listeners {
            for name in &open.names {
                if let Some(link) = network.link_named(name) {
                    open.interfaces.insert(link.index);
                    wanted.push((link, open.hook));
                }
            }
        }
        let is_wanted = |(index, hook): &(u32, Hook)| {
            wanted.iter().any(|(link, wanted)| link.index == *index && wanted == hook)
        };
        self.refused.retain(is_wanted);
        for (link, hook) in wanted {
            if self.is_attached(link.index, hook) {
                continue;
            }
            match self.attach_later(&link, hook) {
                Ok(()) => {
                    self.refused.remove(&(link.index, hook));
                    tracing::info!(interface = link.name, "attached: traffic moved here");
                }
                // Tried again at the next look, and told of once.
                Err(error) => {
                    if !self.refused.insert((link.index, hook)) {
                        continue;
                    }
                    tracing::warn!(
                        interface = link.name,
                        %error,
                        "traffic moved to an interface without our program: servers behind it get \
                         no new connections until it takes the program; mend the route or the \
                         interface"
                    );
                }
            }
        }
    }

    fn attach_later(&mut self, link: &Link, hook: Hook) -> Result<(), DatapathError> {
        let obstacle = match hook {
            Hook::Xdp => {
                let native = || native_xdp(link.index);
                plan::xdp_obstacle(link, Wanted::Only(hook), self.settings.xdp_mode, native)
            }
            Hook::Tc => plan::tc_obstacle(link),
        };
        obstacle.map_or_else(|| self.attach_to(link, hook), |reason| Err(reason.into()))
    }

    /// Ends the preparations of a reload, whether it was applied or refused: what was attached for
    /// it and is not needed is detached.
    pub(super) fn settle(&mut self) -> Result<(), DatapathError> {
        self.planned.clear();
        self.patience = PATIENCE;
        self.refused.clear();
        self.detach_unneeded()
    }

    /// Detaches from interfaces that nothing needs.
    pub(super) fn detach_unneeded(&mut self) -> Result<(), DatapathError> {
        if self.is_adopting {
            // Nobody knows yet what the process before needed it for.
            return Ok(());
        }
        let needed = self.needed()?;
        let (kept, idle): (Vec<_>, Vec<_>) = std::mem::take(&mut self.attached)
            .into_iter()
            .partition(|attached| needed.contains(&(attached.index(), attached.hook())));
        self.attached = kept;
        for attached in idle {
            tracing::debug!(interface = attached.interface(), hook = ?attached.hook(), "detached");
            self.kernel()?.detach(attached)?;
        }
        Ok(())
    }

    fn needed(&self) -> Result<BTreeSet<(u32, Hook)>, DatapathError> {
        let mut needed = BTreeSet::new();
        for planned in &self.planned {
            let hook = planned.plan.hook;
            needed.extend(planned.plan.links().map(|link| (link.index, hook)));
        }
        for open in &self.listeners {
            needed.extend(open.interfaces.iter().map(|index| (*index, open.hook)));
        }
        for (id, known) in &self.servers {
            let is_active = known.entry.state != ServerState::Draining as u8;
            if is_active || self.open_flows(*id)? > 0 {
                for hook in self.hooks_of(&known.pool) {
                    needed.extend(known.interfaces.iter().map(|index| (*index, hook)));
                }
            }
        }
        Ok(needed)
    }
}

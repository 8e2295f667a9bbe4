//! Looking at every flow: ending what is idle, overdue or denied, and counting the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use deston_common::flow::FlowEntry;
use deston_common::net::Ipv6Be;
use deston_common::server::ServerId;
use tokio::time::Instant;

use super::balancer::{Balancer, DatapathError, Known, l4, protocol};
use super::plan::Role;
use super::ports::{self, Counted, PortUse};
use super::upkeep::now;
use crate::model::Forwarding;

impl Balancer {
    /// Ends idle flows and those of servers that are overdue, and looks at all others on the way.
    pub(super) fn expire(&mut self) -> Result<(), DatapathError> {
        let overdue: BTreeSet<ServerId> =
            self.servers.keys().copied().filter(|id| self.is_overdue(*id)).collect();
        // Every flow's listener is noted: what is not has no flow. One that the sweep ends counts
        // once more, and its listener goes with the next sweep.
        let mut busy: BTreeMap<u32, BTreeSet<IpAddr>> = BTreeMap::new();
        let mut ports = Counted::default();
        let kernel = self.kernel()?;
        let swept = kernel.expire(now(), |flow| {
            busy.entry(flow.listener).or_default().insert(flow.key.destination.into());
            ports.add(flow);
            overdue.contains(&flow.server)
        })?;
        kernel.half_flows().for_each(|flow| ports.add(&flow));
        tracing::debug!(flows = swept.seen, idle = swept.idle, "swept");
        self.note_ports(&ports);
        self.forget_finished(&busy)?;
        self.detach_unneeded()
    }

    /// Keeps the use of SNAT ports, and warns where they come to an end.
    fn note_ports(&mut self, counted: &Counted) {
        self.port_use.clear();
        for known in self.servers.values() {
            let ports = self.ports_towards(known, counted);
            if self.port_warnings.is_due(&known.name, ports) {
                tracing::warn!(
                    server = known.name,
                    used = ports.used,
                    available = ports.available,
                    "the SNAT ports towards a server come to an end: widen `snat_ports`, or add \
                     `snat_ips`"
                );
            }
            if ports.available > 0 {
                self.port_use.insert(known.name.clone(), ports);
            }
        }
    }

    fn ports_towards(&self, known: &Known, counted: &Counted) -> PortUse {
        let own = [IpAddr::from(known.entry.snat_address)];
        let (mut ranges, mut used) = (Vec::new(), 0);
        for open in &self.listeners {
            let is_nat = open.role == Role::Balance(Forwarding::Nat);
            let l4 = l4(&open.listener).filter(|_| is_nat && open.listener.pool == known.pool);
            let Some(l4) = l4 else { continue };
            let addresses = if l4.snat_ips.is_empty() { &own[..] } else { &l4.snat_ips };
            ranges.extend(addresses.iter().map(|address| (*address, l4.snat_ports)));
            let target = (known.entry.address, known.entry.port, protocol(&open.listener));
            used = used.max(counted.of(target));
        }
        PortUse { used, available: ports::available(ranges.into_iter()) }
    }

    /// Ends flows of clients that lists deny since they were changed. One that moves while it is
    /// looked at goes on, and is looked at again in a second.
    pub(super) fn end_denied(&mut self) -> Result<(), DatapathError> {
        let Some(until) = self.recheck else { return Ok(()) };
        if Instant::now() >= until {
            self.recheck = None;
        }
        let Some(kernel) = self.loaded() else { return Ok(()) };
        let denied = |flow: &FlowEntry<Ipv6Be>| {
            let listener = self.listeners.iter().find(|open| open.number == flow.listener);
            listener.is_some_and(|open| !open.listener.guard.admits(flow.key.source.into()))
        };
        let mut ended = 0;
        kernel.expire(now(), |flow| {
            let is_denied = denied(flow);
            ended += usize::from(is_denied);
            is_denied
        })?;
        if ended > 0 {
            tracing::info!(flows = ended, "flows of clients that are denied now are ended");
        }
        Ok(())
    }
}

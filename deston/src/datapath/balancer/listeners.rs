//! Listeners: opened, moved with the host's addresses, closed, forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use deston_common::limits::MAX_LISTENERS;
use tokio::time::Instant;

use super::{Balancer, DatapathError, Open, l4, protocol};
use crate::datapath::former::Former;
use crate::datapath::host::{Link, Network};
use crate::model::{Guard, Listener, SnatPorts};

/// How long it is looked for flows that changed lists deny: those that were half open then may be
/// promoted for as long as handshakes take by default.
const RECHECK: Duration = Duration::from_secs(20);

impl Balancer {
    /// Opens a listener that was made ready, or changes its settings.
    pub(in crate::datapath) async fn open(
        &mut self,
        listener: &Arc<Listener>,
    ) -> Result<(), DatapathError> {
        if !self.listeners.iter().any(|open| open.is(listener) && open.is_open) {
            self.await_next_hops(&listener.pool).await?;
        }
        let planned = self.planned.iter().rev().find(|planned| {
            planned.listener.address == listener.address
                && planned.listener.protocol() == listener.protocol()
        });
        let links: Option<Vec<Link>> = planned.map(|planned| planned.plan.clients.clone());
        let planned = planned.map(|planned| (planned.plan.hook, planned.role));
        let place = self.listeners.iter().position(|open| open.is(listener));
        let before = place.and_then(|place| self.listeners.get(place)).cloned();
        let known = before.as_ref().map(|open| (open.hook, open.role, open.number));
        let (hook, role) = planned
            .or(known.map(|(hook, role, _)| (hook, role)))
            .ok_or_else(|| DatapathError::NotReady(listener.name.clone()))?;
        let former = self.former.as_mut().filter(|_| known.is_none());
        let former = former.and_then(|f| f.claim(listener.address, protocol(listener)));
        let number = match known.map(|(_, _, number)| number).or(former) {
            Some(number) => number,
            None => self.free_number()?,
        };
        let mut open = before.clone().unwrap_or_else(|| Open {
            listener: Arc::clone(listener),
            number,
            hook,
            role,
            is_open: true,
            addresses: BTreeSet::new(),
            former: BTreeSet::new(),
            snat: BTreeSet::new(),
            snat_ports: l4(listener).map_or(SnatPorts { min: 0, max: 0 }, |l4| l4.snat_ports),
            names: BTreeSet::new(),
            interfaces: BTreeSet::new(),
            is_here: self.network.holder(listener.address.ip()).is_some(),
        });
        let lists = |guard: &Guard| (guard.allow.clone(), guard.deny.clone());
        if lists(&open.listener.guard) != lists(&listener.guard) {
            self.recheck = Some(Instant::now() + RECHECK);
        }
        open.listener = Arc::clone(listener);
        (open.hook, open.role, open.is_open) = (hook, role, true);
        if let Some(l4) = l4(listener) {
            open.snat.extend(&l4.snat_ips);
            open.snat_ports.min = open.snat_ports.min.min(l4.snat_ports.min);
            open.snat_ports.max = open.snat_ports.max.max(l4.snat_ports.max);
        }
        if let Some(links) = links {
            open.note_links(&links);
        }
        let addresses = addresses(&open, &self.network);
        open.move_to(addresses);
        let listeners = self.listeners.clone();
        match place.and_then(|place| self.listeners.get_mut(place)) {
            Some(place) => *place = open,
            None => self.listeners.push(open),
        }
        self.fill().inspect_err(|_| self.listeners = listeners)
    }

    /// Takes no new flow for a listener.
    pub(in crate::datapath) fn close(&mut self, listener: &Listener) -> Result<(), DatapathError> {
        self.close_where(|open| open.is(listener))
    }

    /// Closes every listener; their flows go on.
    pub(in crate::datapath) fn close_all(&mut self) -> Result<(), DatapathError> {
        self.close_where(|_| true)
    }

    fn close_where(&mut self, closes: impl Fn(&Open) -> bool) -> Result<(), DatapathError> {
        if self.loaded().is_none() {
            return Ok(());
        }
        for open in self.listeners.iter_mut().filter(|open| closes(open)) {
            open.is_open = false;
        }
        self.fill()
    }

    /// Forgets closed listeners that no flow is left of, and former addresses of the others.
    /// `busy` are the numbers of listeners that have flows, and where.
    pub(in crate::datapath) fn forget_finished(
        &mut self,
        busy: &BTreeMap<u32, BTreeSet<IpAddr>>,
    ) -> Result<(), DatapathError> {
        let nowhere = BTreeSet::new();
        for open in &mut self.listeners {
            let busy = busy.get(&open.number).unwrap_or(&nowhere);
            open.former.retain(|address| busy.contains(address));
        }
        self.listeners.retain(|open| open.is_open || busy.contains_key(&open.number));
        if let Some(former) = &mut self.former {
            former.forget_finished(busy);
        }
        self.fill()
    }

    /// Follows the host's addresses.
    pub(in crate::datapath) fn follow_addresses(&mut self) -> Result<(), DatapathError> {
        if self.listeners.is_empty() {
            return Ok(());
        }
        for open in &mut self.listeners {
            follow_holder(open, &self.network);
            let addresses = addresses(open, &self.network);
            if addresses != open.addresses {
                let listener = &open.listener.name;
                for new in addresses.difference(&open.addresses) {
                    tracing::info!(listener, address = %new, "the listener has a new address");
                }
                for old in open.addresses.difference(&addresses) {
                    tracing::info!(listener, address = %old, "the listener has lost an address");
                }
                open.move_to(addresses);
            }
        }
        self.fill()
    }

    fn free_number(&self) -> Result<u32, DatapathError> {
        let former = self.former.iter().flat_map(Former::numbers);
        let taken: BTreeSet<u32> =
            self.listeners.iter().map(|open| open.number).chain(former).collect();
        let free = (1..=MAX_LISTENERS).find(|number| !taken.contains(number));
        free.ok_or(DatapathError::TooManyListeners)
    }
}

/// Tells when the address that a listener names goes from the host's interfaces, and when it is back.
/// The programs go on carrying what arrives; but the host answers nobody who asks for the address.
fn follow_holder(open: &mut Open, network: &Network) {
    let address = open.listener.address.ip();
    let is_here = network.holder(address).is_some();
    let has_changed = std::mem::replace(&mut open.is_here, is_here) != is_here;
    // A listener on every address has those that there are, and a closed one wants none.
    if !has_changed || address.is_unspecified() || !open.is_open {
        return;
    }
    let listener = &open.listener.name;
    if is_here {
        tracing::info!(listener, %address, "an interface has the listener's address: clients find it");
    } else {
        tracing::warn!(
            listener,
            %address,
            "no interface has the listener's address any more: clients may not find it until one \
             has it again"
        );
    }
}

/// The addresses of a listener: its own, or all that are found on its interfaces.
fn addresses(open: &Open, network: &Network) -> BTreeSet<IpAddr> {
    let address = open.listener.address.ip();
    if !address.is_unspecified() {
        return BTreeSet::from([address]);
    }
    let links: Vec<Link> = open.names.iter().filter_map(|name| network.link_named(name)).collect();
    network.addresses_on(&links, address).collect()
}

//! What the datapath knows of listeners, pools and servers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use deston_common::limits::MAX_POOLS;
use deston_common::net::{TCP, UDP};
use deston_common::server::{OnDown, ServerEntry, ServerState};
use tokio::time::Instant;

use super::DatapathError;
use crate::datapath::contents::Place;
use crate::datapath::host::Link;
use crate::datapath::kernel::Hook;
use crate::datapath::plan::Role;
use crate::model::{self, Layer, Listener, Protocol, SnatPorts};

/// A listener in the kernel; closed while it only finishes flows.
#[derive(Clone, Debug)]
pub(in crate::datapath) struct Open {
    pub(in crate::datapath) listener: Arc<Listener>,
    /// Names it in flows, from 1.
    pub(in crate::datapath) number: u32,
    pub(in crate::datapath) hook: Hook,
    pub(in crate::datapath) role: Role,
    /// Whether it takes new flows.
    pub(in crate::datapath) is_open: bool,
    /// Where clients find it.
    pub(in crate::datapath) addresses: BTreeSet<IpAddr>,
    /// Where they found it before: flows may be left.
    pub(in crate::datapath) former: BTreeSet<IpAddr>,
    /// Addresses of `snat_ips`, now and before.
    pub(in crate::datapath) snat: BTreeSet<IpAddr>,
    /// `snat_ports`, now and before.
    pub(in crate::datapath) snat_ports: SnatPorts,
    /// Interfaces that clients' packets come in by, by name.
    pub(in crate::datapath) names: BTreeSet<String>,
    /// And by index: those that the names have or had, for flows may still use the older ones.
    pub(in crate::datapath) interfaces: BTreeSet<u32>,
    /// Whether an interface had the address that is configured, when it was last looked at.
    pub(in crate::datapath) is_here: bool,
}

impl Open {
    /// What makes it the same one: the address that is configured, and the protocol.
    pub(in crate::datapath) fn is(&self, listener: &Listener) -> bool {
        self.listener.address == listener.address && self.listener.protocol() == listener.protocol()
    }

    /// Where it is found at an address.
    pub(in crate::datapath) fn place(&self, address: IpAddr) -> Place {
        let address = SocketAddr::new(address, self.listener.address.port());
        Place { address, protocol: protocol(&self.listener) }
    }

    /// Follows its interfaces to the indices they have.
    pub(in crate::datapath) fn note_links(&mut self, links: &[Link]) {
        self.names = links.iter().map(|link| link.name.clone()).collect();
        self.interfaces.extend(links.iter().map(|link| link.index));
    }

    /// Is found at `addresses` from here on.
    pub(in crate::datapath) fn move_to(&mut self, addresses: BTreeSet<IpAddr>) {
        self.former.extend(&self.addresses);
        self.former.retain(|address| !addresses.contains(address));
        self.addresses = addresses;
    }
}

/// A server in the kernel.
#[derive(Clone, Debug)]
pub(in crate::datapath) struct Known {
    pub(in crate::datapath) name: String,
    pub(in crate::datapath) address: SocketAddr,
    /// Name of its pool; of a server that only the process before knew: none.
    pub(in crate::datapath) pool: String,
    pub(in crate::datapath) entry: ServerEntry,
    /// Interfaces by which it is or was reached: flows may still use the older ones.
    pub(in crate::datapath) interfaces: BTreeSet<u32>,
    /// Source addresses towards it, now and before.
    pub(in crate::datapath) sources: BTreeSet<IpAddr>,
    /// When flows that it still has are ended.
    pub(in crate::datapath) ends: Option<Instant>,
}

impl Known {
    /// Whether the process before knew the server, and this one does not.
    pub(in crate::datapath) fn is_former(&self) -> bool {
        self.pool.is_empty()
    }

    /// Whether it would get new flows if its next hop were known.
    pub(in crate::datapath) fn is_cold(&self) -> bool {
        self.entry.state == ServerState::Active as u8 && self.entry.reachable == 0
    }
}

/// The pools in the kernel, each with its index in POOL_TABLES and CURSORS.
#[derive(Clone, Debug, Default)]
pub(in crate::datapath) struct Pools {
    by_index: BTreeMap<u32, PoolSettings>,
}

/// What listeners need to know of their pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::datapath) struct PoolSettings {
    name: String,
    /// How long a client that does not connect keeps its server; zero: it keeps none.
    pub(in crate::datapath) sticky: Duration,
    /// SYNs in a row that a server may fail; `None`: as many as it likes.
    pub(in crate::datapath) failures: Option<u32>,
}

impl Pools {
    /// The index and settings of a pool.
    pub(in crate::datapath) fn find(&self, name: &str) -> Option<(u32, &PoolSettings)> {
        let found = self.by_index.iter().find(|(_, pool)| pool.name == name);
        found.map(|(index, pool)| (*index, pool))
    }

    /// Takes note of a pool's settings, and gives its index: the one that it has, or had in the
    /// process before. What is `taken` is another's.
    pub(in crate::datapath) fn put(
        &mut self,
        pool: &model::Pool,
        had: Option<u32>,
        taken: &BTreeSet<u32>,
    ) -> Result<u32, DatapathError> {
        let sticky = pool.sticky.map_or(Duration::ZERO, |sticky| sticky.ttl);
        let model::Outlier { failures, max_ejected, .. } = pool.outlier;
        let failures = (max_ejected > 0).then_some(failures);
        let settings = PoolSettings { name: pool.name.clone(), sticky, failures };
        let index = self.find(&pool.name).map(|(index, _)| index);
        let is_free = |index: &u32| !self.by_index.contains_key(index);
        let free = || (0..MAX_POOLS).find(|index| is_free(index) && !taken.contains(index));
        let index =
            index.or(had.filter(is_free)).or_else(free).ok_or(DatapathError::TooManyPools)?;
        self.by_index.insert(index, settings);
        Ok(index)
    }

    /// Forgets a pool; its index is free.
    pub(in crate::datapath) fn forget(&mut self, name: &str) {
        self.by_index.retain(|_, pool| pool.name != name);
    }
}

/// The IP protocol number of a listener.
pub(in crate::datapath) fn protocol(listener: &Listener) -> u8 {
    match listener.protocol() {
        Protocol::Tcp => TCP,
        Protocol::Udp => UDP,
    }
}

/// As the kernel has it.
pub(in crate::datapath) fn on_down(on_down: model::OnDown) -> OnDown {
    match on_down {
        model::OnDown::Reset => OnDown::Reset,
        model::OnDown::Drain => OnDown::Drain,
        model::OnDown::Rehash => OnDown::Rehash,
    }
}

/// The layer 4 settings of a listener that is balanced in the kernel.
pub(in crate::datapath) fn l4(listener: &Listener) -> Option<&model::L4> {
    match &listener.layer {
        Layer::L4(l4) => Some(l4),
        Layer::L7(_) => None,
    }
}

//! The kernel datapath as `control` uses it: verbs on listeners, pools and servers by name, and the
//! upkeep that the kernel programs cannot do themselves.
//!
//! Write order, so that no packet meets a half-written listener: servers, then the pool's table,
//! then the listener; removal in reverse. A removed listener stays, closed, until its last flow
//! has ended; a removed server stays in SERVERS, since flows still name it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use deston_common::limits::MAX_POOLS;
use deston_common::listener::{FlowTimeouts, ListenerEntry, ListenerKey};
use deston_common::net::{Be16, TCP, UDP};
use deston_common::outcome::Outcome;
use deston_common::server::{Load, ServerEntry, ServerId, ServerState};
use deston_common::table::Table;
use futures_util::{Stream, StreamExt};
use nix::time::{ClockId, clock_gettime};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::host::{Host, HostError, Route};
use super::kernel::{AttachError, Attached, Kernel, KernelError};
use super::plan::{self, Asked, Plan, Reason};
use crate::model::{self, L4, Listener, Protocol, XdpMode};

/// How often idle flows are looked for, and next hops asked for again.
const UPKEEP: Duration = Duration::from_secs(5);

/// Why the kernel datapath cannot do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// The listener cannot be carried.
    #[error(transparent)]
    Reason(#[from] Reason),
    /// The kernel refused a program or a map operation.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// An interface refused the program.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The host could not be asked.
    #[error(transparent)]
    Host(#[from] HostError),
    /// More pools than the kernel has room for.
    #[error("more than {MAX_POOLS} pools")]
    TooManyPools,
}

/// The kernel datapath of this process.
pub struct Balancer {
    kernel: Kernel,
    host: Host,
    changes: Box<dyn Stream<Item = ()> + Unpin>,
    upkeep: Interval,
    mode: XdpMode,
    attached: Vec<Attached>,
    /// Pool names by index.
    pools: Vec<String>,
    servers: BTreeMap<ServerId, Known>,
    listeners: BTreeMap<String, Open>,
    /// Listeners that were removed and still have flows.
    closing: Vec<Open>,
}

struct Known {
    name: String,
    address: SocketAddr,
    entry: ServerEntry,
}

#[derive(Clone, Copy)]
struct Open {
    key: ListenerKey,
    entry: ListenerEntry,
}

/// A server's figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerReport {
    /// Its name.
    pub name: String,
    /// Flows opened and closed.
    pub load: Load,
}

impl Balancer {
    /// Loads the programs; attaches nothing. Runs on a tokio runtime.
    pub fn start(settings: &model::Kernel) -> Result<Self, DatapathError> {
        let kernel = Kernel::load(settings.flows)?;
        let (host, changes) = Host::connect()?;
        let mut upkeep = interval(UPKEEP);
        upkeep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            kernel,
            host,
            changes: Box::new(changes),
            upkeep,
            mode: settings.xdp_mode,
            attached: Vec::new(),
            pools: Vec::new(),
            servers: BTreeMap::new(),
            listeners: BTreeMap::new(),
            closing: Vec::new(),
        })
    }

    /// Whether the kernel can carry a listener. Changes nothing.
    pub async fn plan(
        &self,
        listener: &Listener,
        l4: &L4,
        servers: &[SocketAddr],
        asked: Asked,
    ) -> Result<Plan, Reason> {
        plan::plan(&self.host, listener, l4, servers, asked, self.mode).await
    }

    /// Attaches to the interfaces of a plan. On an error, what this call attached is detached.
    pub fn attach(&mut self, plan: &Plan) -> Result<(), DatapathError> {
        let before = self.attached.len();
        for interface in &plan.interfaces {
            if self.attached.iter().any(|attached| attached.interface() == interface) {
                continue;
            }
            match self.kernel.attach(interface, self.mode) {
                Ok(attached) => self.attached.push(attached),
                Err(error) => {
                    for attached in self.attached.split_off(before) {
                        self.kernel.detach(attached)?;
                    }
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }

    /// Writes a server and keeps the way to it known from here on.
    pub async fn put_server(
        &mut self,
        id: ServerId,
        server: &model::Server,
        state: ServerState,
    ) -> Result<(), DatapathError> {
        let IpAddr::V4(address) = server.address.ip() else {
            return Err(Reason::NotIpv4(server.address.ip()).into());
        };
        let before = self.servers.get(&id).map(|known| known.entry).unwrap_or_default();
        let entry = ServerEntry {
            address: address.into(),
            port: Be16::from_host(server.address.port()),
            state: state as u8,
            max_connections: server.max_connections.get(),
            ..before
        };
        let known = Known { name: server.name.clone(), address: server.address, entry };
        if let Route::Out(path) = self.host.route(address).await? {
            self.host.keep_resolved(&path).await?;
        }
        let entry = self.with_path(&known).await?;
        self.kernel.put_server(id, &entry)?;
        self.servers.insert(id, Known { entry, ..known });
        Ok(())
    }

    /// Takes a server out: it gets no new flow, and its old ones go on.
    pub fn drain_server(&mut self, id: ServerId) -> Result<(), DatapathError> {
        if let Some(known) = self.servers.get_mut(&id) {
            known.entry.state = ServerState::Draining as u8;
            self.kernel.put_server(id, &known.entry)?;
        }
        Ok(())
    }

    /// Whether a server that was taken out still has flows.
    pub fn has_flows(&self, id: ServerId) -> Result<bool, DatapathError> {
        let load = self.kernel.load_of(id)?;
        Ok(load.opened != load.closed)
    }

    /// Swaps a pool's table.
    pub fn put_table(&mut self, pool: &str, table: &Table) -> Result<(), DatapathError> {
        let index = self.pool_index(pool)?;
        Ok(self.kernel.put_table(index, table)?)
    }

    /// Opens a listener or changes its settings; its servers and table must stand already.
    pub fn open(&mut self, listener: &Listener, l4: &L4) -> Result<(), DatapathError> {
        let IpAddr::V4(address) = listener.address.ip() else {
            return Err(Reason::NotIpv4(listener.address.ip()).into());
        };
        let key = ListenerKey {
            address: address.into(),
            port: Be16::from_host(listener.address.port()),
            protocol: protocol(l4.protocol),
            pad: 0,
        };
        let entry = ListenerEntry {
            pool: self.pool_index(&listener.pool)?,
            open: 1,
            snat_port_min: l4.snat_ports.min,
            snat_port_max: l4.snat_ports.max,
            timeouts: timeouts(&l4.flows),
            ..ListenerEntry::default()
        };
        self.kernel.put_listener(&key, &entry)?;
        self.closing.retain(|closing| closing.key != key);
        self.listeners.insert(listener.name.clone(), Open { key, entry });
        Ok(())
    }

    /// Closes a listener: it gets no new flow, and its old ones go on.
    pub fn close(&mut self, name: &str) -> Result<(), DatapathError> {
        if let Some(mut open) = self.listeners.remove(name) {
            open.entry.open = 0;
            self.kernel.put_listener(&open.key, &open.entry)?;
            self.closing.push(open);
        }
        Ok(())
    }

    /// Waits until there is upkeep to do. Cancel safe.
    pub async fn due(&mut self) {
        tokio::select! {
            _ = self.upkeep.tick() => {}
            Some(()) = self.changes.next() => {
                // Changes come in bursts; one look covers all that have come so far.
                while futures_util::FutureExt::now_or_never(self.changes.next()).flatten().is_some() {}
            }
        }
    }

    /// Looks at every next hop again, ends idle flows and forgets listeners that have none left.
    pub async fn upkeep(&mut self) -> Result<(), DatapathError> {
        self.refresh_paths().await?;
        self.expire()
    }

    /// Packets of each outcome.
    pub fn outcomes(&self) -> Result<Vec<(Outcome, u64)>, DatapathError> {
        Ok(Outcome::ALL.into_iter().zip(self.kernel.outcomes()?).collect())
    }

    /// Flows of each server.
    pub fn servers(&self) -> Result<Vec<ServerReport>, DatapathError> {
        self.servers
            .iter()
            .map(|(id, known)| {
                let load = self.kernel.load_of(*id)?;
                Ok(ServerReport { name: known.name.clone(), load })
            })
            .collect()
    }

    async fn refresh_paths(&mut self) -> Result<(), DatapathError> {
        let mut changed = Vec::new();
        for (id, known) in &self.servers {
            let entry = self.with_path(known).await?;
            if entry != known.entry {
                changed.push((*id, entry));
            }
        }
        for (id, entry) in changed {
            self.kernel.put_server(id, &entry)?;
            if let Some(known) = self.servers.get_mut(&id) {
                if known.entry.reachable != entry.reachable {
                    tracing::info!(
                        server = known.name,
                        reachable = entry.reachable == 1,
                        "next hop changed"
                    );
                }
                known.entry = entry;
            }
        }
        Ok(())
    }

    /// The entry of a server with the way to it as it is at the moment. What is not known any more
    /// stays as it was, so that flows go on; new flows wait until it is known again.
    async fn with_path(&self, known: &Known) -> Result<ServerEntry, DatapathError> {
        let mut entry = known.entry;
        entry.reachable = 0;
        let IpAddr::V4(address) = known.address.ip() else { return Ok(entry) };
        if let Route::Out(path) = self.host.route(address).await? {
            entry.ifindex = path.link.index;
            entry.source_mac = path.link.mac;
            entry.snat_address = path.source.into();
            match path.next_hop_mac {
                Some(mac) => {
                    entry.next_hop_mac = mac;
                    entry.reachable = 1;
                }
                None => self.host.keep_resolved(&path).await?,
            }
        }
        Ok(entry)
    }

    fn expire(&mut self) -> Result<(), DatapathError> {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
        let timeouts: BTreeMap<_, _> = self
            .listeners
            .values()
            .chain(&self.closing)
            .map(|open| (bytes(&open.key), open.entry.timeouts))
            .collect();
        let swept = self.kernel.expire(now, |key| timeouts.get(&bytes(key)).copied())?;
        tracing::debug!(flows = swept.seen, idle = swept.idle, "swept");

        let in_use: Vec<ListenerKey> = self
            .kernel
            .flows()
            .map(|flow| super::expiry::listener_of(&flow))
            .filter(|key| self.closing.iter().any(|closing| closing.key == *key))
            .collect();
        let (keep, gone): (Vec<_>, Vec<_>) =
            self.closing.drain(..).partition(|closing| in_use.contains(&closing.key));
        self.closing = keep;
        for open in gone {
            self.kernel.remove_listener(&open.key)?;
        }
        Ok(())
    }

    /// The index of a pool in the kernel's arrays; a name keeps its index for good, and so its
    /// cursor.
    fn pool_index(&mut self, name: &str) -> Result<u32, DatapathError> {
        let place = match self.pools.iter().position(|pool| pool == name) {
            Some(place) => place,
            None => {
                self.pools.push(name.to_owned());
                self.pools.len() - 1
            }
        };
        u32::try_from(place)
            .ok()
            .filter(|index| *index < MAX_POOLS)
            .ok_or(DatapathError::TooManyPools)
    }
}

fn protocol(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => TCP,
        Protocol::Udp => UDP,
    }
}

fn timeouts(flows: &model::FlowTimeouts) -> FlowTimeouts {
    let ns = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    FlowTimeouts {
        tcp_syn_ns: ns(flows.tcp_syn),
        tcp_established_ns: ns(flows.tcp_established),
        tcp_fin_ns: ns(flows.tcp_fin),
        tcp_rst_ns: ns(flows.tcp_rst),
        udp_one_way_ns: ns(flows.udp_one_way),
        udp_two_way_ns: ns(flows.udp_two_way),
    }
}

/// A key that sorts.
fn bytes(key: &ListenerKey) -> ([u8; 4], u16, u8) {
    (key.address.octets(), key.port.to_host(), key.protocol)
}

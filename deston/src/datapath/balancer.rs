//! The kernel datapath as a whole: verbs on listeners, pools and servers by name.
//!
//! Write order, so that no packet meets a half-written listener: servers, then the pool's table,
//! then the listener; removal in reverse. A removed listener stays, closed, until its last flow
//! has ended; a removed server stays in SERVERS while flows name it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use deston_common::conntrack::State;
use deston_common::flow::FlowEntry;
use deston_common::limits::MAX_POOLS;
use deston_common::listener::flags::OPEN;
use deston_common::listener::{FlowTimeouts, ListenerEntry, ListenerKey};
use deston_common::net::{Be16, TCP, UDP};
use deston_common::outcome::Outcome;
use deston_common::server::{Load, ServerEntry, ServerId, ServerState};
use deston_common::table::Table;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::host::{Host, HostError};
use super::kernel::{AttachError, Attached, Kernel, KernelError, Sizes};
use super::plan::{self, Asked, Plan, Reason};
use super::refusals::Refusals;
use crate::model::{self, L4, Layer, Listener, Protocol};

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
    /// The datapath's thread could not be started.
    #[error("starting the datapath's thread: {0}")]
    Thread(io::Error),
    /// The datapath's thread has ended.
    #[error("the datapath's thread has ended")]
    Gone,
}

/// The kernel datapath of this process; dropped, it detaches.
pub(super) struct Balancer {
    pub(super) settings: model::Kernel,
    pub(super) host: Host,
    pub(super) tick: Interval,
    /// Loaded once a listener can be carried.
    kernel: Option<Kernel>,
    pub(super) attached: Vec<Attached>,
    /// Interfaces that took no program when traffic moved to them, until the next reload.
    pub(super) refused: BTreeSet<u32>,
    /// What was made ready since the last reload was settled.
    pub(super) planned: Vec<(ListenerKey, Plan)>,
    /// Pool names by index; a free index has none.
    pools: Vec<Option<String>>,
    pub(super) servers: BTreeMap<ServerId, Known>,
    pub(super) listeners: Vec<Open>,
    pub(super) refusals: Refusals,
}

/// A server in the kernel.
pub(super) struct Known {
    pub(super) name: String,
    pub(super) address: SocketAddr,
    pub(super) entry: ServerEntry,
    /// Interfaces by which it is or was reached: flows may still use the older ones.
    pub(super) interfaces: BTreeSet<u32>,
}

/// A listener in the kernel; closed while it only finishes flows.
#[derive(Clone)]
pub(super) struct Open {
    pub(super) key: ListenerKey,
    pub(super) entry: ListenerEntry,
    /// Interfaces that clients' packets come in by, by name.
    pub(super) names: BTreeSet<String>,
    /// And by index: those that the names have or had, for flows may still use the older ones.
    pub(super) interfaces: BTreeSet<u32>,
}

/// What the kernel has counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Packets of each outcome.
    pub outcomes: Vec<(Outcome, u64)>,
    /// Flows of each server, by name.
    pub servers: Vec<(String, Load)>,
}

impl Balancer {
    /// Connects to the host; loads and attaches nothing.
    pub(super) fn start(settings: model::Kernel) -> Result<Self, DatapathError> {
        let host = Host::connect()?;
        let mut tick = interval(UPKEEP);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            settings,
            host,
            tick,
            kernel: None,
            attached: Vec::new(),
            refused: BTreeSet::new(),
            planned: Vec::new(),
            pools: Vec::new(),
            servers: BTreeMap::new(),
            listeners: Vec::new(),
            refusals: Refusals::default(),
        })
    }

    /// Finds out whether the kernel can carry a listener, loads the programs and attaches them.
    pub(super) async fn carry(
        &mut self,
        listener: &Listener,
        servers: &[SocketAddr],
        asked: Asked,
    ) -> Result<(), DatapathError> {
        let l4 = l4(listener)?;
        let mode = self.settings.xdp_mode;
        let plan = plan::plan(&self.host, listener, l4, servers, asked, mode).await?;
        self.attach(key(listener, l4)?, plan)
    }

    pub(super) async fn put_server(
        &mut self,
        id: ServerId,
        server: &model::Server,
        state: ServerState,
    ) -> Result<(), DatapathError> {
        let IpAddr::V4(address) = server.address.ip() else {
            return Err(Reason::NotIpv4(server.address.ip()).into());
        };
        let known = self.servers.get(&id).filter(|known| known.address == server.address);
        let entry = ServerEntry {
            address: std::net::IpAddr::V4(address).into(),
            port: Be16::from_host(server.address.port()),
            state: state as u8,
            max_connections: server.max_connections.get(),
            ..known.map(|known| known.entry).unwrap_or_default()
        };
        let interfaces = known.map(|known| known.interfaces.clone());
        let is_new = interfaces.is_none();
        let mut known = Known {
            name: server.name.clone(),
            address: server.address,
            entry,
            interfaces: interfaces.unwrap_or_default(),
        };
        let path = self.path_to(&known).await?;
        if let Some(path) = path.as_ref().filter(|_| is_new) {
            self.host.keep_resolved(path).await?;
        }
        known.entry = self.entry_by(&known, path.as_ref()).await?;
        known.interfaces.insert(known.entry.hop.ifindex);
        self.kernel()?.put_server(id, &known.entry)?;
        self.servers.insert(id, known);
        Ok(())
    }

    pub(super) fn drain_server(&mut self, id: ServerId) -> Result<(), DatapathError> {
        let Some(known) = self.servers.get_mut(&id) else { return Ok(()) };
        known.entry.state = ServerState::Draining as u8;
        let entry = known.entry;
        Ok(self.kernel()?.put_server(id, &entry)?)
    }

    pub(super) fn forget_server(&mut self, id: ServerId) -> Result<(), DatapathError> {
        if self.servers.remove(&id).is_some() {
            self.kernel()?.put_server(id, &ServerEntry::default())?;
        }
        Ok(())
    }

    pub(super) fn open_flows(&self, id: ServerId) -> Result<u64, DatapathError> {
        let Some(kernel) = &self.kernel else { return Ok(0) };
        Ok(kernel.load_of(id)?.entries)
    }

    pub(super) fn put_table(&mut self, pool: &str, table: &Table) -> Result<(), DatapathError> {
        let index = self.pool_index(pool)?;
        Ok(self.kernel()?.put_table(index, table)?)
    }

    pub(super) fn forget_pool(&mut self, name: &str) {
        for pool in &mut self.pools {
            if pool.as_deref() == Some(name) {
                *pool = None;
            }
        }
    }

    pub(super) fn open(&mut self, listener: &Listener) -> Result<(), DatapathError> {
        let l4 = l4(listener)?;
        let key = key(listener, l4)?;
        let entry = ListenerEntry {
            pool: self.pool_index(&listener.pool)?,
            flags: OPEN,
            snat_port_min: l4.snat_ports.min,
            snat_port_max: l4.snat_ports.max,
            timeouts: timeouts(&l4.flows),
            ..ListenerEntry::default()
        };
        self.kernel()?.put_listener(
            listener.address.ip(),
            listener.address.port(),
            key.protocol,
            &entry,
        )?;
        let known = self.listeners.iter().find(|open| open.key == key);
        let planned = self.planned.iter().rev().find(|(planned, _)| *planned == key);
        let (names, interfaces) = match (planned, known) {
            (Some((_, plan)), _) => {
                plan.clients().map(|link| (link.name.clone(), link.index)).unzip()
            }
            (None, Some(open)) => (open.names.clone(), open.interfaces.clone()),
            (None, None) => Default::default(),
        };
        self.listeners.retain(|open| open.key != key);
        self.listeners.push(Open { key, entry, names, interfaces });
        Ok(())
    }

    pub(super) fn close(&mut self, listener: &Listener) -> Result<(), DatapathError> {
        let key = key(listener, l4(listener)?)?;
        self.close_where(|open| open.key == key)
    }

    /// Closes every listener; their flows go on.
    pub(super) fn close_all(&mut self) -> Result<(), DatapathError> {
        self.close_where(|_| true)
    }

    /// TCP flows whose server's socket is open.
    pub(super) fn open_tcp_flows(&self) -> Result<u64, DatapathError> {
        let Some(kernel) = &self.kernel else { return Ok(0) };
        let is_open =
            |flow: &FlowEntry<_>| flow.key.protocol == TCP && flow.state & State::RELEASED == 0;
        Ok(kernel.flows().filter(is_open).count() as u64)
    }

    /// Places that flows hold at all servers together, TCP and UDP.
    pub(super) fn places(&self) -> Result<u64, DatapathError> {
        let Some(kernel) = &self.kernel else { return Ok(0) };
        let mut places = 0;
        for id in self.servers.keys() {
            places += kernel.load_of(*id)?.in_use;
        }
        Ok(places)
    }

    /// `None` if nothing was ever loaded.
    pub(super) fn report(&self) -> Result<Option<Report>, DatapathError> {
        let Some(kernel) = &self.kernel else { return Ok(None) };
        let outcomes = Outcome::ALL.into_iter().zip(kernel.outcomes()?).collect();
        let servers = self
            .servers
            .iter()
            .map(|(id, known)| Ok((known.name.clone(), kernel.load_of(*id)?)))
            .collect::<Result<_, KernelError>>()?;
        Ok(Some(Report { outcomes, servers }))
    }

    pub(super) fn kernel(&mut self) -> Result<&mut Kernel, DatapathError> {
        if self.kernel.is_none() {
            self.kernel =
                Some(Kernel::load(Sizes { flows: self.settings.flows, ..Sizes::default() })?);
        }
        self.kernel.as_mut().ok_or(DatapathError::Gone)
    }

    fn close_where(&mut self, closes: impl Fn(&Open) -> bool) -> Result<(), DatapathError> {
        let Some(kernel) = &mut self.kernel else { return Ok(()) };
        for open in
            self.listeners.iter_mut().filter(|open| open.entry.flags & OPEN != 0 && closes(open))
        {
            open.entry.flags &= !OPEN;
            let ListenerKey { address, port, protocol, .. } = open.key;
            let address = Ipv4Addr::from(address).into();
            kernel.put_listener(address, port.to_host(), protocol, &open.entry)?;
        }
        Ok(())
    }

    /// The index of a pool in the kernel's arrays, and so its table and cursor.
    fn pool_index(&mut self, name: &str) -> Result<u32, DatapathError> {
        let named = |pool: &Option<String>| pool.as_deref() == Some(name);
        let place = match self.pools.iter().position(named) {
            Some(place) => place,
            None => {
                let free = self.pools.iter().position(Option::is_none);
                let place = free.unwrap_or(self.pools.len());
                self.pools.resize(self.pools.len().max(place + 1), None);
                if let Some(pool) = self.pools.get_mut(place) {
                    *pool = Some(name.to_owned());
                }
                place
            }
        };
        let index = u32::try_from(place).ok().filter(|index| *index < MAX_POOLS);
        index.ok_or(DatapathError::TooManyPools)
    }
}

fn l4(listener: &Listener) -> Result<&L4, Reason> {
    match &listener.layer {
        Layer::L4(l4) => Ok(l4),
        Layer::L7(_) => Err(Reason::NotLayer4),
    }
}

fn key(listener: &Listener, l4: &L4) -> Result<ListenerKey, Reason> {
    let IpAddr::V4(address) = listener.address.ip() else {
        return Err(Reason::NotIpv4(listener.address.ip()));
    };
    let protocol = match l4.protocol {
        Protocol::Tcp => TCP,
        Protocol::Udp => UDP,
    };
    let port = Be16::from_host(listener.address.port());
    Ok(ListenerKey { address: address.into(), port, protocol, pad: 0 })
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

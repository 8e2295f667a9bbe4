//! Pools and servers: how they are reached, and how they come and go.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use deston_common::net::Be16;
use deston_common::server::{Load, OnDown, ServerEntry, ServerId, ServerState};
use deston_common::table::Table;
use tokio::time::Instant;

use super::known::on_down;
use super::{Balancer, DatapathError, Known, SWEEP};
use crate::datapath::former::Former;
use crate::datapath::host::Path;
use crate::datapath::upkeep::now;
use crate::model;

impl Balancer {
    /// Makes a server known, or changes its settings or state.
    pub(in crate::datapath) async fn put_server(
        &mut self,
        pool: &model::Pool,
        id: ServerId,
        server: &model::Server,
        state: ServerState,
    ) -> Result<(), DatapathError> {
        let address = SocketAddr::new(server.address.ip().to_canonical(), server.address.port());
        let known = self.servers.get(&id).filter(|known| known.address == address);
        let is_new = known.is_none_or(Known::is_former);
        let mut known = known.cloned().unwrap_or_else(|| Known {
            name: String::new(),
            address,
            pool: String::new(),
            entry: ServerEntry::default(),
            interfaces: BTreeSet::new(),
            sources: BTreeSet::new(),
            ends: None,
        });
        known.name.clone_from(&server.name);
        known.pool.clone_from(&pool.name);
        match state {
            ServerState::Active | ServerState::Down => known.ends = None,
            ServerState::Draining => {}
        }
        known.entry = ServerEntry {
            address: address.ip().into(),
            port: Be16::from_host(address.port()),
            state: state as u8,
            on_down: on_down(pool.on_down) as u8,
            weight: server.weight.get(),
            max_connections: server.max_connections.get(),
            ..known.entry
        };
        if is_new {
            self.network = self.host.look().await?;
        }
        let path = self.path_to(&known).await?;
        if let Some(path) = path.as_ref().filter(|_| is_new) {
            self.keep_resolved(path).await?;
        }
        known.entry = self.entry_by(&known, path.as_ref()).await?;
        known.note_way();
        let name = server_name(&pool.name, address);
        let kernel = self.kernel()?;
        kernel.put_server(id, &known.entry)?;
        let failures = failures(&kernel.load_of(id)?);
        if kernel.number(&name) != Some(u32::from(id.0)) {
            kernel.put_number(&name, u32::from(id.0))?;
        }
        self.suspects.note(id, failures, now());
        self.servers.insert(id, known);
        Ok(())
    }

    /// The identifier that a server had in the process before.
    pub(in crate::datapath) fn remembered(
        &self,
        pool: &str,
        address: SocketAddr,
    ) -> Option<ServerId> {
        let number = self.loaded()?.number(&server_name(pool, address))?;
        u16::try_from(number).ok().map(ServerId)
    }

    /// Takes no new flow for a server, and ends those that it has after a time. A server that
    /// drains already keeps its time.
    pub(in crate::datapath) fn drain_server(
        &mut self,
        id: ServerId,
        within: Duration,
    ) -> Result<(), DatapathError> {
        let Some(known) = self.servers.get_mut(&id) else { return Ok(()) };
        let deadline = || Instant::now() + within;
        known.ends.get_or_insert_with(deadline);
        known.entry.state = ServerState::Draining as u8;
        let entry = known.entry;
        Ok(self.kernel()?.put_server(id, &entry)?)
    }

    /// Ends the flows of servers that have drained for long enough: clients that send more are
    /// reset, and the sweep ends what is silent.
    pub(in crate::datapath) fn end_overdue(&mut self) -> Result<(), DatapathError> {
        let now = Instant::now();
        let overdue = |known: &Known| {
            known.entry.state == ServerState::Draining as u8
                && known.ends.is_some_and(|ends| ends <= now)
        };
        let overdue: Vec<ServerId> =
            self.servers.iter().filter(|(_, known)| overdue(known)).map(|(id, _)| *id).collect();
        for id in overdue {
            let left = self.open_flows(id)?;
            let Some(known) = self.servers.get_mut(&id) else { continue };
            known.entry.state = ServerState::Down as u8;
            known.entry.on_down = OnDown::Reset as u8;
            let (entry, server) = (known.entry, known.name.clone());
            self.kernel()?.put_server(id, &entry)?;
            if left > 0 {
                tracing::warn!(
                    server,
                    flows = left,
                    "`drain_timeout` is over: its flows are ended"
                );
            }
        }
        Ok(())
    }

    /// Whether a server's flows are to be ended whatever they do: clients have had the time to be
    /// reset.
    pub(in crate::datapath) fn is_overdue(&self, id: ServerId) -> bool {
        let ends = self.servers.get(&id).and_then(|known| known.ends);
        ends.is_some_and(|ends| ends + SWEEP <= Instant::now())
    }

    /// Tells of servers that leave SYNs unanswered, or refuse them.
    pub(in crate::datapath) fn watch(&mut self, now: Duration) -> Result<(), DatapathError> {
        let Some(kernel) = &self.kernel else { return Ok(()) };
        for id in self.servers.keys() {
            self.suspects.note(*id, failures(&kernel.load_of(*id)?), now);
        }
        let (servers, pools) = (&self.servers, &self.pools);
        let enough = |id| {
            let known: &Known = servers.get(&id)?;
            pools.find(&known.pool).and_then(|(_, pool)| pool.failures)
        };
        let due = self.suspects.due(enough);
        if due.is_empty() {
            return Ok(());
        }
        let mut excused = BTreeSet::new();
        for flow in kernel.flows() {
            let opened = Duration::from_nanos(flow.opened_ns);
            if due.iter().any(|(failing, since)| flow.server == failing.server && opened >= *since)
            {
                excused.insert(flow.server);
            }
        }
        for (failing, _) in due {
            self.suspects.forget(failing.server);
            if !excused.contains(&failing.server) {
                // Who does not listen has enough to do; a server that goes on failing is told again.
                let _ = self.failing.try_send(failing);
            }
        }
        Ok(())
    }

    /// Forgets a server: no table names it and it has no flow.
    pub(in crate::datapath) fn forget_server(&mut self, id: ServerId) -> Result<(), DatapathError> {
        if let Some(known) = self.servers.remove(&id) {
            let servers = &self.servers;
            self.suspects.retain(|id| servers.contains_key(&id));
            self.fill()?;
            let kernel = self.kernel()?;
            kernel.put_server(id, &ServerEntry::default())?;
            let name = server_name(&known.pool, known.address);
            if kernel.number(&name) == Some(u32::from(id.0)) {
                kernel.remove_number(&name)?;
            }
        }
        Ok(())
    }

    /// Flows that name a server.
    pub(in crate::datapath) fn open_flows(&self, id: ServerId) -> Result<u64, DatapathError> {
        let Some(kernel) = self.loaded() else { return Ok(0) };
        Ok(kernel.load_of(id)?.entries)
    }

    /// Replaces a pool's table, or changes its settings. Its servers must stand already.
    pub(in crate::datapath) fn put_table(
        &mut self,
        pool: &model::Pool,
        table: &Table,
    ) -> Result<(), DatapathError> {
        let name = pool_name(&pool.name);
        let had = self.kernel()?.number(&name);
        let taken = self.former.as_ref().map(Former::pools).unwrap_or_default();
        let index = self.pools.put(pool, had, &taken)?;
        // Replies of new servers are known before a packet is sent there.
        self.fill()?;
        let kernel = self.kernel()?;
        kernel.put_table(index, table)?;
        if had != Some(index) {
            kernel.put_number(&name, index)?;
        }
        Ok(())
    }

    /// Forgets a pool that no listener is served by.
    pub(in crate::datapath) fn forget_pool(&mut self, name: &str) -> Result<(), DatapathError> {
        self.pools.forget(name);
        Ok(self.kernel()?.remove_number(&pool_name(name))?)
    }

    /// The way to a server at the moment.
    pub(in crate::datapath) async fn path_to(
        &self,
        known: &Known,
    ) -> Result<Option<Path>, DatapathError> {
        let way = self.host.route(known.address.ip()).await?.way();
        Ok(way.and_then(|way| self.network.path(way)))
    }

    /// Has a path's next hop resolved by the kernel; on loopback there is nothing to resolve.
    pub(in crate::datapath) async fn keep_resolved(
        &self,
        path: &Path,
    ) -> Result<(), DatapathError> {
        if path.needs_neighbour() {
            self.host.keep_resolved(&path.way).await?;
        }
        Ok(())
    }

    /// The entry of a server that is reached by `path`. What is not known any more stays as it was,
    /// so that flows go on; new flows wait until it is known again. By an interface without our
    /// program no reply would be translated, so it is no way for new flows.
    pub(in crate::datapath) async fn entry_by(
        &self,
        known: &Known,
        path: Option<&Path>,
    ) -> Result<ServerEntry, DatapathError> {
        let mut entry = ServerEntry { reachable: 0, ..known.entry };
        let Some(path) = path else { return Ok(entry) };
        entry.snat_address = path.way.source.into();
        match path.hop() {
            Some(hop) => {
                entry.hop = hop;
                let hooks = self.hooks_of(&known.pool);
                let is_seen = hooks.iter().all(|hook| self.is_attached(hop.ifindex, *hook));
                entry.reachable = u8::from(is_seen);
            }
            None => self.keep_resolved(path).await?,
        }
        Ok(entry)
    }
}

impl Known {
    /// Takes note of the interface and source address that its entry has.
    pub(in crate::datapath) fn note_way(&mut self) {
        if self.entry.hop.ifindex != 0 {
            self.interfaces.insert(self.entry.hop.ifindex);
        }
        let source = IpAddr::from(self.entry.snat_address);
        if !source.is_unspecified() {
            self.sources.insert(source);
        }
    }
}

/// SYNs that a server did not take.
fn failures(load: &Load) -> u64 {
    load.unanswered.wrapping_add(load.refused)
}

/// What a pool's index is remembered by.
fn pool_name(pool: &str) -> String {
    format!("pool {pool}")
}

/// What a server's identifier is remembered by.
fn server_name(pool: &str, address: SocketAddr) -> String {
    format!("server {address} of {pool}")
}

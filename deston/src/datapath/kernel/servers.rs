//! Servers, pools, settings and what is counted.

use aya::maps::{Array, MapData, MapError};
use deston_common::event::TraceFilter;
use deston_common::globals::Globals;
use deston_common::outcome::Outcome;
use deston_common::server::{Load, ServerEntry, ServerId};
use deston_common::table::Table;

use super::error::map;
use super::{KernelError, Maps};

impl Maps {
    /// Writes the settings that all packets share.
    pub fn put_globals(&mut self, globals: &Globals) -> Result<(), KernelError> {
        self.shared.globals.set(0, globals, 0).map_err(map("GLOBALS"))
    }

    /// The settings that all packets share.
    pub fn globals(&self) -> Result<Globals, KernelError> {
        self.shared.globals.get(&0, 0).map_err(map("GLOBALS"))
    }

    /// Says which packets are told of, once GLOBALS has `flags::TRACE`.
    pub fn put_trace(&mut self, filter: &TraceFilter) -> Result<(), KernelError> {
        self.shared.trace.set(0, filter, 0).map_err(map("TRACE"))
    }

    /// Which packets are told of, and of how many more.
    pub fn trace(&self) -> Result<TraceFilter, KernelError> {
        self.shared.trace.get(&0, 0).map_err(map("TRACE"))
    }

    /// Says how large an IP packet an interface sends, in bytes: replies that are larger are answered
    /// with Packet Too Big. Flows that are open keep what held when they began.
    pub fn put_mtu(&mut self, ifindex: u32, mtu: u32) -> Result<(), KernelError> {
        self.shared.mtus.insert(ifindex, mtu, 0).map_err(map("MTUS"))
    }

    /// Forgets an interface, whose packets are then not looked at for their size.
    pub fn remove_mtu(&mut self, ifindex: u32) -> Result<(), KernelError> {
        self.shared.mtus.remove(&ifindex).map_err(map("MTUS"))
    }

    /// Writes how a server is reached.
    pub fn put_server(&mut self, id: ServerId, entry: &ServerEntry) -> Result<(), KernelError> {
        self.shared.servers.set(u32::from(id.0), entry, 0).map_err(map("SERVERS"))
    }

    /// How a server is reached, as the kernel sees it.
    pub fn server(&self, id: ServerId) -> Result<ServerEntry, KernelError> {
        self.shared.servers.get(&u32::from(id.0), 0).map_err(map("SERVERS"))
    }

    /// A server's counts of flows.
    pub fn load_of(&self, id: ServerId) -> Result<Load, KernelError> {
        self.shared.loads.get(&u32::from(id.0), 0).map_err(map("LOADS"))
    }

    /// Swaps a pool's table; a packet sees the old one or the new one.
    pub fn put_table(&mut self, pool: u32, table: &Table) -> Result<(), KernelError> {
        let mut inner = Array::<MapData, Table>::create(1, 0).map_err(map("POOL_TABLES"))?;
        inner.set(0, table, 0).map_err(map("POOL_TABLES"))?;
        self.shared.tables.set(pool, &inner, 0).map_err(map("POOL_TABLES"))
    }

    /// The servers that a pool's table names; none if it has no table.
    pub fn members(&self, pool: u32) -> Result<Vec<ServerId>, KernelError> {
        let table = match self.shared.tables.get(&pool, 0) {
            Ok(table) => table.get(&0, 0).map_err(map("POOL_TABLES"))?,
            Err(MapError::KeyNotFound) => return Ok(Vec::new()),
            Err(error) => return Err(map("POOL_TABLES")(error)),
        };
        Ok(table.members.into_iter().take(table.member_count as usize).collect())
    }

    /// Packets of each outcome since the maps were made, in the order of `Outcome::ALL`.
    pub fn outcomes(&self) -> Result<[u64; Outcome::COUNT as usize], KernelError> {
        let mut sums = [0; Outcome::COUNT as usize];
        for (sum, index) in sums.iter_mut().zip(0_u32..) {
            let counts = self.shared.outcomes.get(&index, 0).map_err(map("OUTCOMES"))?;
            *sum = counts.iter().sum();
        }
        Ok(sums)
    }
}

//! What the reconciler tells the kernel datapath.
//!
//! Only pools that a listener in the kernel is served by are told of, each first with its servers,
//! then with its table, then its listener; removal goes the other way.

use std::net::SocketAddr;
use std::time::Duration;

use deston_common::server::{ServerId, ServerState};
use deston_common::table::Table;

use crate::datapath::{Chosen, Datapath, DatapathError};
use crate::model::{Listener, Pool, Server};

/// The kernel did not take a change.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// Of a server.
    #[error("server {name}: {source}")]
    Server {
        /// Its name.
        name: String,
        /// What the kernel says.
        source: Box<DatapathError>,
    },
    /// Of a pool's table.
    #[error("pool {name}: {source}")]
    Pool {
        /// Its name.
        name: String,
        /// What the kernel says.
        source: Box<DatapathError>,
    },
    /// Of a listener.
    #[error("listener {name}: {source}")]
    Listener {
        /// Its name.
        name: String,
        /// What the kernel says.
        source: Box<DatapathError>,
    },
}

/// The kernel datapath. [`Datapath`] is the one there is; tests have one on paper.
pub trait KernelDatapath {
    /// The servers that the process before has left in the kernel. Everything that it left stays in
    /// force until `take_over`.
    fn adopt(&mut self) -> Vec<(ServerId, SocketAddr)>;

    /// The identifier that a server had in the process before.
    fn remembered(&self, pool: &str, address: SocketAddr) -> Option<ServerId>;

    /// Ends the adoption: what is not configured again takes no new flow.
    fn take_over(&mut self);

    /// Whether and where this listener can be carried; `Err` says why not, for a user to read. Makes
    /// ready to carry it, which changes nothing for any packet.
    fn carry(&mut self, listener: &Listener, servers: &[Server]) -> Result<Chosen, DatapathError>;

    /// Makes ready for servers that are new to a listener that is carried.
    fn reach(&mut self, listener: &Listener, servers: &[Server]) -> Result<(), DatapathError>;

    /// Whether and where clients of a listener of userspace can be let in or refused. Makes ready
    /// for it.
    fn guard(&mut self, listener: &Listener) -> Result<Chosen, DatapathError>;

    /// Makes a server of a pool known, or changes its settings or state.
    fn put_server(
        &mut self,
        pool: &Pool,
        id: ServerId,
        server: &Server,
        state: ServerState,
    ) -> Result<(), NotTaken>;

    /// Replaces a pool's table, or changes its settings.
    fn put_table(&mut self, pool: &Pool, table: &Table) -> Result<(), NotTaken>;

    /// Makes a listener known, or changes its settings or pool.
    fn put_listener(&mut self, listener: &Listener) -> Result<(), NotTaken>;

    /// Ends what `carry` made ready, whether it was put to use or not.
    fn settle(&mut self);

    /// Takes no new flow for a listener; those it has are carried on.
    fn close_listener(&mut self, listener: &Listener);

    /// Forgets a pool; no listener is served by it.
    fn forget_pool(&mut self, pool: &str);

    /// Stops new flows to a server; those that it has are carried on, and ended after `within`.
    fn drain_server(&mut self, id: ServerId, within: Duration);

    /// Flows that a server has.
    fn open_flows(&self, id: ServerId) -> u64;

    /// Forgets a server: no table names it and it has no flow.
    fn forget_server(&mut self, id: ServerId);
}

impl KernelDatapath for Datapath {
    fn adopt(&mut self) -> Vec<(ServerId, SocketAddr)> {
        Self::adopt(self).unwrap_or_else(|error| {
            tracing::warn!(%error, "what the process before left in the kernel is not adopted");
            Vec::new()
        })
    }

    fn remembered(&self, pool: &str, address: SocketAddr) -> Option<ServerId> {
        Self::remembered(self, pool, address).ok().flatten()
    }

    fn take_over(&mut self) {
        report(Self::take_over(self));
    }

    fn carry(&mut self, listener: &Listener, servers: &[Server]) -> Result<Chosen, DatapathError> {
        Self::carry(self, listener, &addresses(servers))
    }

    fn reach(&mut self, listener: &Listener, servers: &[Server]) -> Result<(), DatapathError> {
        Self::reach(self, listener, &addresses(servers))
    }

    fn guard(&mut self, listener: &Listener) -> Result<Chosen, DatapathError> {
        Self::guard(self, listener)
    }

    fn put_server(
        &mut self,
        pool: &Pool,
        id: ServerId,
        server: &Server,
        state: ServerState,
    ) -> Result<(), NotTaken> {
        let told = Self::put_server(self, pool, id, server, state);
        told.map_err(|source| NotTaken::Server { name: server.name.clone(), source: source.into() })
    }

    fn put_table(&mut self, pool: &Pool, table: &Table) -> Result<(), NotTaken> {
        let told = Self::put_table(self, pool, table);
        told.map_err(|source| NotTaken::Pool { name: pool.name.clone(), source: source.into() })
    }

    fn put_listener(&mut self, listener: &Listener) -> Result<(), NotTaken> {
        let told = Self::open(self, listener);
        told.map_err(|source| NotTaken::Listener {
            name: listener.name.clone(),
            source: source.into(),
        })
    }

    fn settle(&mut self) {
        report(Self::settle(self));
    }

    fn close_listener(&mut self, listener: &Listener) {
        report(Self::close(self, listener));
    }

    fn forget_pool(&mut self, pool: &str) {
        report(Self::forget_pool(self, pool));
    }

    fn drain_server(&mut self, id: ServerId, within: Duration) {
        report(Self::drain_server(self, id, within));
    }

    fn open_flows(&self, id: ServerId) -> u64 {
        // Unknown is not none: the server is kept until it can be asked about.
        Self::open_flows(self, id).unwrap_or(u64::MAX)
    }

    fn forget_server(&mut self, id: ServerId) {
        report(Self::forget_server(self, id));
    }
}

fn addresses(servers: &[Server]) -> Vec<SocketAddr> {
    servers.iter().map(|server| server.address).collect()
}

/// What removes cannot be refused; a failure leaves something behind that carries nothing new.
fn report(result: Result<(), DatapathError>) {
    if let Err(error) = result {
        tracing::warn!(%error, "the kernel datapath did not forget something");
    }
}

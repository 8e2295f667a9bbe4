//! What the reconciler tells the kernel datapath.
//!
//! Only pools that a listener in the kernel is served by are told of, each first with its servers,
//! then with its table, then its listener; removal goes the other way.

use std::net::SocketAddr;

use deston_common::server::{ServerId, ServerState};
use deston_common::table::Table;

use crate::datapath::{Asked, Datapath, DatapathError};
use crate::model::{Listener, Server};

/// The kernel did not take a change.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct KernelError {
    /// What was tried and what the kernel says.
    pub what: String,
}

/// The kernel datapath. [`Datapath`] is the one there is; tests have one on paper.
pub trait Kernel {
    /// Whether this listener can be carried; `Err` says why not, for a user to read. Makes ready
    /// to carry it, which changes nothing for any packet.
    fn carry(
        &mut self,
        listener: &Listener,
        servers: &[Server],
        asked: Asked,
    ) -> Result<(), String>;

    /// Makes a server known, or changes its limit or state.
    fn put_server(
        &mut self,
        id: ServerId,
        server: &Server,
        state: ServerState,
    ) -> Result<(), KernelError>;

    /// Replaces a pool's table.
    fn put_table(&mut self, pool: &str, table: &Table) -> Result<(), KernelError>;

    /// Makes a listener known, or changes its settings or pool.
    fn put_listener(&mut self, listener: &Listener) -> Result<(), KernelError>;

    /// Ends what `carry` made ready, whether it was put to use or not.
    fn settle(&mut self);

    /// Takes no new flow for a listener; those it has are carried on.
    fn close_listener(&mut self, listener: &Listener);

    /// Forgets a pool; no listener is served by it.
    fn forget_pool(&mut self, pool: &str);

    /// Stops new flows to a removed server; those it has are carried on.
    fn drain_server(&mut self, id: ServerId);

    /// Flows that a server has.
    fn open_flows(&self, id: ServerId) -> u64;

    /// Forgets a server: no table names it and it has no flow.
    fn forget_server(&mut self, id: ServerId);
}

impl Kernel for Datapath {
    fn carry(
        &mut self,
        listener: &Listener,
        servers: &[Server],
        asked: Asked,
    ) -> Result<(), String> {
        let servers: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();
        Self::carry(self, listener, &servers, asked).map_err(|error| error.to_string())
    }

    fn put_server(
        &mut self,
        id: ServerId,
        server: &Server,
        state: ServerState,
    ) -> Result<(), KernelError> {
        let told = Self::put_server(self, id, server, state);
        told.map_err(|error| failed(format_args!("server {}", server.name), &error))
    }

    fn put_table(&mut self, pool: &str, table: &Table) -> Result<(), KernelError> {
        let told = Self::put_table(self, pool, table);
        told.map_err(|error| failed(format_args!("pool {pool}"), &error))
    }

    fn put_listener(&mut self, listener: &Listener) -> Result<(), KernelError> {
        let told = Self::open(self, listener);
        told.map_err(|error| failed(format_args!("listener {}", listener.name), &error))
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

    fn drain_server(&mut self, id: ServerId) {
        report(Self::drain_server(self, id));
    }

    fn open_flows(&self, id: ServerId) -> u64 {
        // Unknown is not none: the server is kept until it can be asked about.
        Self::open_flows(self, id).unwrap_or(u64::MAX)
    }

    fn forget_server(&mut self, id: ServerId) {
        report(Self::forget_server(self, id));
    }
}

fn failed(what: std::fmt::Arguments<'_>, error: &DatapathError) -> KernelError {
    KernelError { what: format!("{what}: {error}") }
}

/// What removes cannot be refused; a failure leaves something behind that carries nothing new.
fn report(result: Result<(), DatapathError>) {
    if let Err(error) = result {
        tracing::warn!(%error, "the kernel datapath did not forget something");
    }
}

//! What the reconciler tells the kernel datapath.
//!
//! Only pools that a listener in the kernel is served by are told of, each first with its servers,
//! then with its table, then its listener; removal goes the other way.

use deston_common::server::{ServerId, ServerState};
use deston_common::table::Table;

use crate::model::{Listener, Server};

/// The kernel did not take a change.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct KernelError {
    /// What was tried and what the kernel says.
    pub what: String,
}

/// The kernel datapath.
pub trait Kernel {
    /// Whether this listener can be carried; `Err` says why not, for a user to read.
    fn can_carry(&self, listener: &Listener, servers: &[Server]) -> Result<(), String>;

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

/// A machine whose kernel carries nothing.
#[derive(Debug, Default)]
pub struct NoKernel;

impl Kernel for NoKernel {
    fn can_carry(&self, _: &Listener, _: &[Server]) -> Result<(), String> {
        Err("this build has no kernel datapath".to_owned())
    }

    fn put_server(&mut self, _: ServerId, _: &Server, _: ServerState) -> Result<(), KernelError> {
        Ok(())
    }

    fn put_table(&mut self, _: &str, _: &Table) -> Result<(), KernelError> {
        Ok(())
    }

    fn put_listener(&mut self, _: &Listener) -> Result<(), KernelError> {
        Ok(())
    }

    fn close_listener(&mut self, _: &Listener) {}

    fn forget_pool(&mut self, _: &str) {}

    fn drain_server(&mut self, _: ServerId) {}

    fn open_flows(&self, _: ServerId) -> u64 {
        0
    }

    fn forget_server(&mut self, _: ServerId) {}
}

//! The valid configuration: what the program runs on.
//!
//! A `Model` is built once, from a `config::File`, and every value in it is usable as it is: names
//! resolve, addresses are resolved, weights are in range, every listener's pool exists. Nothing
//! behind this module checks any of it again, and nothing behind it sees the file.

mod diff;
mod listener;
mod pool;

pub use diff::{AtStart, Change, ServerChange, diff, is_same};
pub use listener::{
    DatapathChoice, FlowTimeouts, Forwarding, HttpTimeouts, L4, L7, Layer, Listener, Protocol,
    SnatPorts,
};
pub use pool::{Algorithm, Health, Pool, PoolTimeouts, Server};

use std::sync::Arc;
use std::time::Duration;

/// A whole valid configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// In file order; names are unique.
    pub listeners: Vec<Arc<Listener>>,
    /// In file order; names are unique; every listener's pool is among them.
    pub pools: Vec<Arc<Pool>>,
    /// The process.
    pub runtime: Runtime,
    /// What all listeners in the kernel share.
    pub kernel: Kernel,
}

impl Model {
    /// The pool of a name.
    pub fn pool(&self, name: &str) -> Option<&Arc<Pool>> {
        self.pools.iter().find(|pool| pool.name == name)
    }
}

/// `[runtime]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// Worker threads, at least 1.
    pub workers: usize,
    /// How long connections may take to finish when the process stops.
    pub drain_timeout: Duration,
    /// Keys all hashing.
    pub hash_seed: String,
}

/// `[kernel]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// How XDP programs attach.
    pub xdp_mode: XdpMode,
    /// Flows the kernel can hold.
    pub flows: u32,
}

/// How XDP programs attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver.
    Native,
    /// In the network stack: any interface, slower than TC, for trying things out.
    Generic,
}

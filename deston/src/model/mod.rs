//! The valid configuration: what the program runs on.
//!
//! A `Model` is built once, from a `config::File`, and every value in it is usable as it is: names
//! resolve, addresses are resolved, weights are in range, every listener's pool exists. Nothing
//! behind this module checks any of it again, and nothing behind it sees the file.

mod auth;
mod diff;
mod edits;
mod guard;
mod hash_key;
mod http;
mod identity;
mod limits;
mod listener;
mod log;
mod notes;
mod origin;
mod pages;
mod pool;
mod requests;
pub mod route;
mod rules;
mod speech;
mod time;
mod tls;
mod treatment;

pub use auth::{Auth, AuthError};
pub use diff::{AtStart, Change, ServerChange, diff, is_same};
pub use edits::{Edits, MessageEdits};
pub use guard::{Guard, Prefixes, RateLimit};
pub use hash_key::HashKey;
pub use http::{HttpTimeouts, L7};
pub use identity::Identity;
pub use limits::{DEFAULT_HEADERS, Limits};
pub use listener::{
    DatapathChoice, FlowTimeouts, Forwarding, KernelOnly, L4, Layer, Listener, MAX_SNAT_IPS, Ports,
    Protocol, SnatPorts, UserspaceOnly,
};
pub use log::{Access, Log, LogField, Part, Template, TemplateError};
pub use notes::{HostPorts, Note, notes};
pub use origin::{AcceptProxyProtocol, ForwardedFields, Origin, ProxyProtocol};
pub use pages::{ErrorPages, Page};
pub use pool::{
    Algorithm, Checks, HashOn, Health, HttpCheck, OnDown, Outlier, Pool, PoolTimeouts, Server,
    ServerPort, Sticky, StickyCookie,
};
pub use route::Route;
pub use rules::{Mode, Rules, Underscores};
pub use treatment::{Overflow, Queue, Retry, Treatment};

pub use requests::{LimitKey, RequestLimit};
pub use speech::{ServerProtocol, ServerTls, ServerTlsError, ServerTlsSettings, Speech};
pub use time::nanoseconds;
pub use tls::{Alpn, Certificate, ClientAuth, Tls, TlsError, TlsSettings, TlsVersion, is_for};

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
    /// What is written of traffic.
    pub log: Log,
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
    /// Name of this instance: its maps and links are pinned in a directory of this name. One path
    /// component of letters, digits, `_` and `-`. Default `default`.
    pub instance: String,
    /// Whether maps and links are pinned, so that they outlive the process. Default: yes.
    pub pin: bool,
    /// What becomes of the datapath when the process is told to stop.
    pub on_stop: OnStop,
    /// How XDP programs attach.
    pub xdp_mode: XdpMode,
    /// Established flows that the kernel can hold, of each address family.
    pub flows: u32,
    /// Flows whose handshake is not finished that the kernel can hold, of each address family.
    /// Default 65,536.
    pub half_open: u32,
    /// New flows per second and CPU above which they are shed; 0: never. Default 125,000.
    pub flood_gate: u32,
}

/// What becomes of the kernel datapath when the process is told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStop {
    /// Flows may finish, then it is detached.
    Detach,
    /// It goes on forwarding until the next start.
    Keep,
}

/// How XDP programs attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver.
    Native,
    /// In the network stack: any interface, slower than TC, for trying things out.
    Generic,
}

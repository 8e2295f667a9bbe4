//! Pools and their servers.

use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

/// A set of servers with one algorithm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Unique name.
    pub name: String,
    /// How a server is chosen.
    pub algorithm: Algorithm,
    /// At least one, at most `deston_common::limits::MAX_POOL_SERVERS`, in file order; addresses
    /// are unique within the pool.
    pub servers: Vec<Server>,
    /// Server side deadlines.
    pub timeouts: PoolTimeouts,
    /// Active checks.
    pub health: Health,
}

/// How a pool chooses a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Each in turn.
    RoundRobin,
    /// Each in turn, as often as its weight says.
    WeightedRoundRobin,
    /// Maglev on the client's address.
    IpHashing,
}

/// A server of a pool. Its address is its identity: across a reload a server with the same pool
/// and address is the same server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Name for logs; by default the address.
    pub name: String,
    /// Address and port, resolved.
    pub address: SocketAddr,
    /// Share of traffic, read by weighted algorithms.
    pub weight: NonZeroU16,
    /// Hard limit of concurrent connections.
    pub max_connections: NonZeroU32,
}

/// `[pool.timeouts]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolTimeouts {
    /// TCP connect to a server. Default 3 s; never zero.
    pub connect: Duration,
    /// Request sent to end of the response head. Default 60 s; zero: no deadline.
    pub response_head: Duration,
    /// An unused pooled connection. Default 4 s; zero: connections are not reused.
    pub server_idle: Duration,
}

/// `[pool.health]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// No checks: every server counts as up.
    Off,
    /// A TCP connection is opened and closed.
    Tcp {
        /// Between probes. Default 5 s.
        interval: Duration,
        /// One probe. Default 2 s.
        timeout: Duration,
        /// Successes in a row that bring a server back, at least 1. Default 2.
        rise: u32,
        /// Failures in a row that take a server out, at least 1. Default 3.
        fall: u32,
    },
}

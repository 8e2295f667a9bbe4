//! Pools and their servers.

use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::{HashKey, Speech, Treatment};

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
    /// Passive checks.
    pub outlier: Outlier,
    /// Whether a client keeps its server, and for how long; `None`: the algorithm alone decides.
    pub sticky: Option<Sticky>,
    /// Layer 7: the same by cookie. Never both.
    pub cookie: Option<StickyCookie>,
    /// What becomes of the connections of a server that went down.
    pub on_down: OnDown,
    /// How much trouble is taken when servers are full or fail.
    pub treatment: Treatment,
    /// Layer 7, Maglev: what is hashed of a request; the address that the algorithm names is hashed
    /// of those without it.
    pub hash_key: Option<HashKey>,
}

/// How a pool chooses a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Each in turn.
    RoundRobin,
    /// Each in turn, as often as its weight says.
    WeightedRoundRobin,
    /// Maglev on the client's address, weights ignored.
    IpHashing,
    /// Maglev, weighted.
    Maglev(HashOn),
    /// The one with the fewest open connections for its weight.
    LeastConnections,
    /// The one of two, drawn at random, with fewer open connections for its weight.
    P2c,
    /// Layer 7: the one of two, drawn at random, that takes less time to respond, times the requests it
    /// has, for its weight.
    PeakEwma,
    /// Drawn at random, weighted.
    Random,
}

impl Algorithm {
    /// As it is written in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::WeightedRoundRobin => "weighted_round_robin",
            Self::IpHashing => "ip_hashing",
            Self::Maglev(_) => "maglev",
            Self::LeastConnections => "least_connections",
            Self::P2c => "p2c",
            Self::PeakEwma => "peak_ewma",
            Self::Random => "random",
        }
    }
}

/// `hash_on`: what Maglev hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashOn {
    /// Protocol and both addresses and ports.
    Flow,
    /// The client's address.
    Ip,
    /// The client's address and port.
    IpPort,
}

/// `[pool.sticky]`: a client's address keeps the server it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sticky {
    /// How long a client that does not connect is remembered. Default 3 h; never zero.
    pub ttl: Duration,
}

/// `[pool.sticky]` by cookie: a client brings what says which server it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StickyCookie {
    /// Name of the cookie, a token. Default `deston`.
    pub name: String,
    /// How long a client that does not come back is known. Default 3 h; at least 1 s.
    pub ttl: Duration,
}

/// What becomes of the connections of a server that went down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDown {
    /// TCP connections are reset; flows of UDP go on with another server.
    Reset,
    /// They go on for as long as they can. Default where only TCP is served.
    Drain,
    /// Flows of UDP go on with another server; TCP connections, which cannot, go on as with `Drain`.
    /// Default for a pool that a UDP listener uses.
    Rehash,
}

/// `[pool.outlier]`: connections that fail take a server out, probes aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlier {
    /// Failures in a row that eject, at least 1. Default 3.
    pub failures: u32,
    /// The first ejection; each further one is longer. Default 10 s; never zero.
    pub eject: Duration,
    /// Servers that may be ejected at once, in percent of the pool's, 0 to 100. Default 50.
    pub max_ejected: u8,
}

impl Default for Outlier {
    fn default() -> Self {
        Self { failures: 3, eject: Duration::from_secs(10), max_ejected: 50 }
    }
}

/// A server of a pool. Its address is its identity: across a reload a server with the same pool
/// and address is the same server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Name for logs; by default the address.
    pub name: String,
    /// Address and port, resolved. Port 0 is the one that the client asked for; see [`ServerPort`].
    pub address: SocketAddr,
    /// Share of traffic, read by weighted algorithms.
    pub weight: NonZeroU16,
    /// Hard limit of concurrent connections.
    pub max_connections: NonZeroU32,
    /// Takes no new connections; those it has go on, and it is still probed.
    pub drain: bool,
    /// Takes connections only while no other server of the pool does, backups aside.
    pub backup: bool,
    /// How it is spoken to.
    pub speech: Speech,
}

/// The port of a server that a client's packets are sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerPort {
    /// Always this one.
    One(u16),
    /// The one that the client asked for; only in pools of listeners on any port.
    Kept,
}

impl Server {
    /// The port that a client's packets are sent to.
    pub fn port(&self) -> ServerPort {
        match self.address.port() {
            0 => ServerPort::Kept,
            port => ServerPort::One(port),
        }
    }
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
    /// The end of a request's head to the end of its response's, however often it is sent. Default
    /// 0: no deadline.
    pub total: Duration,
}

impl Default for PoolTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            response_head: Duration::from_secs(60),
            server_idle: Duration::from_secs(4),
            total: Duration::ZERO,
        }
    }
}

/// `[pool.health]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// No checks: every server counts as up.
    Off,
    /// A TCP connection is opened and closed.
    Tcp(Checks),
    /// A request is sent over a connection of its own.
    Http(HttpCheck, Checks),
}

impl Health {
    /// What all kinds of checks have; `None` if there are none.
    pub fn checks(&self) -> Option<&Checks> {
        match self {
            Self::Off => None,
            Self::Tcp(checks) | Self::Http(_, checks) => Some(checks),
        }
    }
}

/// When servers are probed, and what probes conclude.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checks {
    /// Port that is probed; `None`: the server's.
    pub port: Option<NonZeroU16>,
    /// Between probes. Default 5 s.
    pub interval: Duration,
    /// One probe. Default 2 s.
    pub timeout: Duration,
    /// Successes in a row that bring a server back, at least 1. Default 2.
    pub rise: u32,
    /// Failures in a row that take a server out, at least 1. Default 3.
    pub fall: u32,
}

/// What an HTTP probe asks and what it takes for an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpCheck {
    /// Target of the GET request, in origin form. Default `/`.
    pub path: String,
    /// `Host` of the request; `None`: the server's address.
    pub host: Option<String>,
    /// Statuses of a server that is up, at least one range. Default 200 to 399.
    pub expect: Vec<RangeInclusive<u16>>,
}

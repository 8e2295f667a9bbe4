//! Live listeners and pools, made without a configuration file.

use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::time::Duration;

use deston::live::{self, Serving, View};
use deston::model::{
    Algorithm, DatapathChoice, HashOn, L4, L7, Layer, Listener, PoolTimeouts, Protocol,
};
use deston_common::hash::{Seed, siphash13};
use deston_common::limits::MAX_SAMPLES;
use deston_common::server::ServerId;
use deston_common::table::{Index, Member, Table};
use deston_common::{maglev, sequence};

/// Deadlines long enough to play no part.
pub const TIMEOUTS: PoolTimeouts = PoolTimeouts {
    connect: Duration::from_secs(10),
    response_head: Duration::from_secs(10),
    server_idle: Duration::from_secs(10),
    total: Duration::ZERO,
};

/// A server of a test's pool.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    address: SocketAddr,
    weight: NonZeroU16,
    max_connections: NonZeroU32,
}

/// A server with weight 1 and room for every test.
pub fn server(address: SocketAddr) -> Spec {
    let max_connections = NonZeroU32::new(10_000).expect("not zero");
    Spec { address, weight: NonZeroU16::MIN, max_connections }
}

impl Spec {
    /// With another weight.
    pub fn weight(self, weight: u16) -> Self {
        Self { weight: weight.try_into().expect("a weight is not zero"), ..self }
    }

    /// With another limit.
    pub fn max_connections(self, limit: u32) -> Self {
        Self { max_connections: limit.try_into().expect("a limit is not zero"), ..self }
    }
}

/// A live pool of `servers`, which are named by their place: "0", "1", ...
pub fn live_pool(algorithm: Algorithm, servers: impl IntoIterator<Item = Spec>) -> Arc<live::Pool> {
    live_pool_with(algorithm, TIMEOUTS, servers)
}

/// A live pool with other deadlines.
pub fn live_pool_with(
    algorithm: Algorithm,
    timeouts: PoolTimeouts,
    servers: impl IntoIterator<Item = Spec>,
) -> Arc<live::Pool> {
    let seed = Seed::from_text("test");
    let specs: Vec<(ServerId, Spec)> = (1..).map(ServerId).zip(servers).collect();
    let members: Vec<Member> = specs
        .iter()
        .map(|&(id, spec)| Member {
            id,
            identity: siphash13(seed, id.0.into(), 0),
            weight: spec.weight.get(),
        })
        .collect();
    let mut table = Box::new(Table::EMPTY);
    match algorithm {
        Algorithm::RoundRobin => sequence::fill(&mut table, &members),
        Algorithm::WeightedRoundRobin => sequence::fill_weighted(&mut table, &members),
        Algorithm::IpHashing => maglev::fill(&mut table, &members, seed),
        Algorithm::LeastConnections => sequence::fill_least(&mut table, &members, MAX_SAMPLES),
        Algorithm::Random => sequence::fill_random(&mut table, &members),
        Algorithm::P2c | Algorithm::PeakEwma => sequence::fill_least(&mut table, &members, 2),
        Algorithm::Maglev(HashOn::Flow) => {
            maglev::fill_weighted(&mut table, &members, seed, Index::Flow)
        }
        Algorithm::Maglev(HashOn::Ip) => {
            maglev::fill_weighted(&mut table, &members, seed, Index::Client)
        }
        Algorithm::Maglev(HashOn::IpPort) => {
            maglev::fill_weighted(&mut table, &members, seed, Index::ClientPort)
        }
    }
    .expect("a test's servers make a table");
    let servers = specs
        .iter()
        .zip(0..)
        .map(|(&(id, spec), place)| {
            let name = format!("{place}");
            let limit = spec.max_connections.get();
            let server = live::Server::new(id, name, spec.address, limit);
            server.set_weight(spec.weight);
            Arc::new(server)
        })
        .collect();
    Arc::new(live::Pool::new("test".to_owned(), View::new(table, servers, timeouts)))
}

/// A layer 4 listener.
pub fn l4(protocol: Protocol) -> Layer {
    Layer::L4(L4 { protocol, datapath: DatapathChoice::Userspace, ..L4::default() })
}

/// A layer 7 listener.
pub fn l7() -> Layer {
    Layer::L7(L7::default())
}

/// A listener of that name and address.
pub fn listener(name: &str, address: SocketAddr, layer: Layer) -> Arc<Listener> {
    Arc::new(Listener::new(name.to_owned(), address, "test".to_owned(), layer))
}

/// A live listener, served by `pool`.
pub fn live_listener(listener: Arc<Listener>, pool: &Arc<live::Pool>) -> Arc<live::Listener> {
    Arc::new(live::Listener::new(Serving::new(listener, Arc::clone(pool))))
}

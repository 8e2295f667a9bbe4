//! A proxy with one HTTP listener and one pool.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use deston::live;
use deston::model::{self, HttpTimeouts, PoolTimeouts};
use deston::proxy::{Drained, Proxy};
use deston_common::sequence;
use deston_common::server::ServerId;
use deston_common::table::{Member, Table};

use super::Peer;

/// What a lab is made of.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Worker threads.
    pub workers: usize,
    /// Of each server.
    pub max_connections: u32,
    /// Client side deadlines.
    pub timeouts: HttpTimeouts,
    /// Server side deadlines.
    pub pool: PoolTimeouts,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            workers: 1,
            max_connections: 1_000,
            timeouts: HttpTimeouts {
                request_head: Duration::from_secs(10),
                client_idle: Duration::from_secs(60),
                stream_idle: Duration::from_secs(60),
                tunnel_idle: Duration::from_secs(60),
            },
            pool: PoolTimeouts {
                connect: Duration::from_secs(3),
                response_head: Duration::from_secs(60),
                server_idle: Duration::from_secs(60),
            },
        }
    }
}

/// A running proxy.
pub struct Lab {
    proxy: Proxy,
    /// Where clients connect.
    pub address: SocketAddr,
    /// The servers' live state, in order.
    pub servers: Vec<Arc<live::Server>>,
    pool: Arc<live::Pool>,
    listener: Arc<live::Listener>,
    setup: Setup,
}

impl Setup {
    /// Starts a proxy in front of `servers`, balanced round robin.
    pub fn start(self, servers: &[SocketAddr]) -> Lab {
        let servers: Vec<_> = (1..)
            .zip(servers)
            .map(|(id, &address)| {
                let name = format!("server {id}");
                Arc::new(live::Server::new(ServerId(id), name, address, self.max_connections))
            })
            .collect();
        let pool = live::Pool::new("pool".to_owned(), view(&servers, self.pool));
        let pool = Arc::new(pool);
        let proxy = Proxy::start(self.workers).unwrap_or_else(|error| panic!("{error}"));
        let listener = Arc::new(self.listener());
        let bound = proxy.bind(&listener).unwrap_or_else(|error| panic!("{error}"));
        let address = bound.address();
        let serving = live::Serving { listener, pool: Arc::clone(&pool) };
        let listener = Arc::new(live::Listener::new(serving));
        proxy.open(bound, Arc::clone(&listener));
        Lab { proxy, address, servers, pool, listener, setup: self }
    }

    fn listener(&self) -> model::Listener {
        model::Listener {
            name: "web".to_owned(),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            pool: "pool".to_owned(),
            layer: model::Layer::L7(model::L7 { timeouts: self.timeouts }),
        }
    }
}

impl Lab {
    /// A client's connection.
    pub async fn client(&self) -> Peer {
        Peer::connect(self.address).await
    }

    /// Reloads: the pool's eligible servers are `servers`.
    pub fn use_servers(&self, servers: &[Arc<live::Server>]) {
        self.pool.publish(view(servers, self.setup.pool));
    }

    /// Reloads: the listener is served by another pool, of one server.
    pub fn use_another_pool(&self, server: SocketAddr) {
        let id = ServerId(100);
        let server = live::Server::new(id, "other".to_owned(), server, self.setup.max_connections);
        let view = view(&[Arc::new(server)], self.setup.pool);
        let pool = Arc::new(live::Pool::new("other".to_owned(), view));
        let listener = Arc::new(self.setup.listener());
        self.listener.publish(live::Serving { listener, pool });
    }

    /// Stops, letting connections finish.
    pub async fn drain(self, deadline: Duration) -> Drained {
        super::soon("the proxy to drain", self.proxy.drain(deadline)).await
    }

    /// Closes the listener.
    pub fn close(&self) {
        self.proxy.close("web");
    }
}

fn view(servers: &[Arc<live::Server>], timeouts: PoolTimeouts) -> live::View {
    let members: Vec<Member> = servers
        .iter()
        .map(|server| Member { id: server.id(), identity: server.id().0.into(), weight: 1 })
        .collect();
    let mut table = Box::new(Table::EMPTY);
    sequence::fill(&mut table, &members).unwrap_or_else(|error| panic!("{error:?}"));
    live::View { table, servers: servers.to_vec(), timeouts }
}

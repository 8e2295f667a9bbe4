//! A proxy with one HTTP listener and one pool.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use deston::live;
use deston::model::{
    self, Algorithm, DatapathChoice, HttpTimeouts, L7, Layer, Limits, Listener, PoolTimeouts,
    Rules, Treatment,
};
use deston::proxy::{Drained, Proxy};
use deston_common::sequence;
use deston_common::table::{Member, Table};

use super::{Peer, Records};
use crate::live::{listener, live_listener, live_pool_with, server};
use crate::proxied::{ANY_PORT, NAME};

/// What a lab is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Worker threads.
    pub workers: usize,
    /// Of each server.
    pub max_connections: u32,
    /// Client side deadlines.
    pub timeouts: HttpTimeouts,
    /// Which requests are taken.
    pub rules: Rules,
    /// How much a client may ask for.
    pub limits: Limits,
    /// Server side deadlines.
    pub pool: PoolTimeouts,
    /// What requests may count on.
    pub treatment: Treatment,
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
                tls_handshake: Duration::from_secs(5),
            },
            rules: Rules::default(),
            limits: Limits::default(),
            pool: PoolTimeouts {
                connect: Duration::from_secs(3),
                response_head: Duration::from_secs(60),
                server_idle: Duration::from_secs(60),
                total: Duration::ZERO,
            },
            treatment: Treatment::NONE,
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
        self.start_as(|_| {}, servers)
    }

    /// As `start`, with further settings of the listener.
    pub fn start_as(self, set: impl FnOnce(&mut L7), servers: &[SocketAddr]) -> Lab {
        let mut l7 = L7 {
            datapath: DatapathChoice::Userspace,
            timeouts: self.timeouts,
            rules: self.rules.clone(),
            limits: self.limits,
            ..L7::default()
        };
        set(&mut l7);
        let proxy = Proxy::start(self.workers).expect("workers start");
        self.start_on(proxy, l7, servers)
    }

    /// As `start_as`, with an access log.
    pub fn start_logging(
        self,
        log: &model::Log,
        set: impl FnOnce(&mut L7),
        servers: &[SocketAddr],
    ) -> (Lab, Records) {
        let (records, lanes) = Records::start(log, self.workers);
        let mut l7 =
            L7 { datapath: DatapathChoice::Userspace, timeouts: self.timeouts, ..L7::default() };
        set(&mut l7);
        let proxy = Proxy::start_logging(self.workers, lanes).expect("workers start");
        (self.start_on(proxy, l7, servers), records)
    }

    fn start_on(self, proxy: Proxy, l7: L7, servers: &[SocketAddr]) -> Lab {
        let pool = self.pool(servers);
        let listener = listener(NAME, ANY_PORT, Layer::L7(l7));
        let bound = proxy.bind(&listener).expect("the address is free");
        let address = bound.address();
        let listener = live_listener(listener, &pool);
        proxy.open(bound, Arc::clone(&listener));
        let servers = pool.view().servers.clone();
        Lab { proxy, address, servers, pool, listener, setup: self }
    }

    fn pool(&self, servers: &[SocketAddr]) -> Arc<live::Pool> {
        let limited = |&address: &SocketAddr| server(address).max_connections(self.max_connections);
        let pool = live_pool_with(Algorithm::RoundRobin, self.pool, servers.iter().map(limited));
        let servers = pool.view().servers.clone();
        pool.publish(view(&servers, self));
        pool
    }
}

impl Lab {
    /// A client's connection.
    pub async fn client(&self) -> Peer {
        Peer::connect(self.address).await
    }

    /// How many wait for a slot.
    pub fn waiting(&self) -> usize {
        self.pool.line().len()
    }

    /// Reloads: the pool's eligible servers are `servers`.
    pub fn use_servers(&self, servers: &[Arc<live::Server>]) {
        self.pool.publish(view(servers, &self.setup));
    }

    /// Reloads: the listener is served by another pool, of one server.
    pub fn use_another_pool(&self, server: SocketAddr) {
        let listener = Arc::clone(&self.listener.serving().listener);
        self.listener.publish(live::Serving::new(listener, self.setup.pool(&[server])));
    }

    /// Reloads: the listener has other settings of layer 7.
    pub fn set(&self, set: impl FnOnce(&mut L7)) {
        self.set_listener(|listener| {
            if let Layer::L7(l7) = &mut listener.layer {
                set(l7);
            }
        });
    }

    /// The listener's live state.
    pub fn listener(&self) -> &live::Listener {
        &self.listener
    }

    /// Reloads: the listener has other settings.
    pub fn set_listener(&self, set: impl FnOnce(&mut Listener)) {
        let serving = self.listener.serving();
        let mut listener = Listener::clone(&serving.listener);
        set(&mut listener);
        self.listener.publish(live::Serving::new(listener.into(), Arc::clone(&serving.pool)));
    }

    /// What was refused at accept.
    pub fn refusals(&self) -> live::Refusals {
        self.listener.refusals()
    }

    /// Clients' connections there are.
    pub fn open_connections(&self) -> u32 {
        self.listener.open_connections()
    }

    /// Stops, letting connections finish.
    pub async fn drain(self, deadline: Duration) -> Drained {
        crate::wait::soon(self.proxy.drain(deadline)).await
    }

    /// Closes the listener.
    pub fn close(&self) {
        self.proxy.close(NAME);
    }
}

/// What a pool's choices are made from: servers in turn.
pub(super) fn view(servers: &[Arc<live::Server>], setup: &Setup) -> live::View {
    let members: Vec<Member> = servers
        .iter()
        .map(|server| Member { id: server.id(), identity: server.id().0.into(), weight: 1 })
        .collect();
    let mut table = Box::new(Table::EMPTY);
    sequence::fill(&mut table, &members).expect("a pool's servers make a table");
    live::View {
        treatment: setup.treatment,
        ..live::View::new(table, servers.to_vec(), setup.pool)
    }
}

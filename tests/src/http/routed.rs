//! A proxy whose one HTTP listener has routes, as a configuration file says them.

use std::net::SocketAddr;
use std::sync::Arc;

use deston::live::{self, Serving};
use deston::model::Listener;
use deston::{config, proxy::Proxy};

use deston_common::server::ServerId;

use super::lab::{Setup, view};
use super::{Answering, Peer, Server};
use crate::proxied::{ANY_PORT, NAME};

/// A running proxy.
pub struct Routed {
    _proxy: Proxy,
    /// Where clients connect.
    pub address: SocketAddr,
    listener: Arc<live::Listener>,
    /// Of pools of the same names as the configuration's.
    pools: Vec<(String, Arc<live::Pool>)>,
}

/// A server that answers with its name and, on the lines behind it, the head that it got.
pub async fn naming(name: &'static str) -> Answering {
    Server::start().await.answering(move |request| {
        let body = format!("{name}\n{}", request.head);
        format!("HTTP/1.1 200 OK\r\nserver: {name}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    })
}

impl Routed {
    /// Starts a proxy in front of pools of one server each; the first is the listener's. `text` is
    /// what the file has of routes, and of the listener before that.
    pub fn start(text: &str, servers: &[(&str, SocketAddr)]) -> Self {
        let proxy = Proxy::start(1).expect("workers start");
        let pools: Vec<_> = servers
            .iter()
            // Identifiers are unique among all pools.
            .zip((1..).map(ServerId))
            .map(|((name, address), id)| {
                let server = live::Server::new(id, (*name).to_owned(), *address, 1_000);
                let view = view(&[Arc::new(server)], &Setup::default());
                let pool = Arc::new(live::Pool::new((*name).to_owned(), view));
                ((*name).to_owned(), pool)
            })
            .collect();
        let serving = serving(text, &pools);
        let bound = proxy.bind(&serving.listener).expect("the address is free");
        let address = bound.address();
        let listener = Arc::new(live::Listener::new(serving));
        proxy.open(bound, Arc::clone(&listener));
        Self { _proxy: proxy, address, listener, pools }
    }

    /// Reloads: the listener has these routes.
    pub fn reload(&self, text: &str) {
        self.listener.publish(serving(text, &self.pools));
    }

    /// A client's connection.
    pub async fn client(&self) -> Peer {
        Peer::connect(self.address).await
    }
}

/// The listener of a file with these pools.
fn serving(text: &str, pools: &[(String, Arc<live::Pool>)]) -> Serving {
    let first = pools.first().map_or("", |(name, _)| name);
    let mut file = format!("[[listener]]\nname = \"{NAME}\"\nlayer = \"L7\"\npool = \"{first}\"\n");
    file.push_str(text);
    for (name, pool) in pools {
        let address = pool.view().servers[0].address();
        let (ip, port) = (address.ip(), address.port());
        file.push_str(&format!(
            "\n[[pool]]\nname = \"{name}\"\n[[server]]\npool = \"{name}\"\naddress = \"{ip}\"\n\
             port = {port}\n"
        ));
    }
    let model = config::parse("config.toml", &file).unwrap_or_else(|report| panic!("{report}"));
    let listener = Listener { address: ANY_PORT, ..Listener::clone(&model.listeners[0]) };
    let find = |wanted: &str| {
        let found = pools.iter().find(|(name, _)| name == wanted);
        found.map(|(_, pool)| Arc::clone(pool))
    };
    Serving::with_routes(Arc::new(listener), find).expect("every pool is there")
}

//! Live state for tests of this module: one pool, one listener.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use deston_common::sequence;
use deston_common::server::ServerId;
use deston_common::table::{Member, Table};
use ipnet::IpNet;

use crate::live::{self, Server, Serving, View};
use crate::model::{
    DatapathChoice, FlowTimeouts, Guard, L4, Layer, Listener, PoolTimeouts, Protocol,
};

/// Idle time of a UDP flow without a reply.
pub(super) const ONE_WAY: Duration = Duration::from_secs(30);

/// Idle time of a UDP flow with replies.
pub(super) const TWO_WAY: Duration = Duration::from_secs(180);

/// What a pool's choices are made from: servers in turn, each with room for 100.
pub(super) fn view(addresses: &[SocketAddr]) -> View {
    let ids = || (1..).map(ServerId);
    let members: Vec<_> = ids()
        .zip(addresses)
        .map(|(id, _)| Member { id, identity: id.0.into(), weight: 1 })
        .collect();
    let mut table = Box::new(Table::EMPTY);
    sequence::fill(&mut table, &members).unwrap();
    let servers = ids()
        .zip(addresses)
        .map(|(id, &address)| Arc::new(Server::new(id, address.to_string(), address, 100)))
        .collect();
    let second = Duration::from_secs(1);
    let timeouts = PoolTimeouts {
        connect: second,
        response_head: second,
        server_idle: second,
        total: Duration::ZERO,
    };
    View::new(table, servers, timeouts)
}

/// A UDP listener whose pool has one server.
pub(super) fn udp_listener(address: SocketAddr, server: SocketAddr) -> Arc<live::Listener> {
    l4_listener(Protocol::Udp, address, server)
}

/// A layer 4 listener whose pool has one server.
pub(super) fn l4_listener(
    protocol: Protocol,
    address: SocketAddr,
    server: SocketAddr,
) -> Arc<live::Listener> {
    let name = "test".to_owned();
    let layer = Layer::L4(L4 {
        protocol,
        datapath: DatapathChoice::Userspace,
        flows: FlowTimeouts {
            udp_one_way: ONE_WAY,
            udp_two_way: TWO_WAY,
            ..FlowTimeouts::default()
        },
        tunnel_idle: Duration::ZERO,
        ..L4::default()
    });
    let listener = Arc::new(Listener::new(name.clone(), address, name.clone(), layer));
    let pool = Arc::new(live::Pool::new(name, view(&[server])));
    Arc::new(live::Listener::new(Serving::new(listener, pool)))
}

/// Serves a listener on with another guard.
pub(super) fn guard(live: &live::Listener, guard: Guard) {
    let serving = live.serving();
    let listener = Arc::new(Listener { guard, ..Listener::clone(&serving.listener) });
    live.publish(Serving::new(listener, Arc::clone(&serving.pool)));
}

/// A guard that refuses the clients of tests.
pub(super) fn denying() -> Guard {
    let loopback = IpNet::new(Ipv4Addr::LOCALHOST.into(), 8).unwrap();
    Guard { deny: [loopback].into_iter().collect(), ..Guard::default() }
}

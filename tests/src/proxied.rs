//! A proxy with one listener, in the test's process.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use deston::live;
use deston::model::{Layer, Listener, Protocol};
use deston::proxy::Proxy;

use crate::live::{l4, listener, live_listener};

/// 127.0.0.1 and a port of the kernel's choice.
pub const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The name of the listener.
pub const NAME: &str = "test";

/// A proxy with an open listener; dropping it ends both.
#[derive(Debug)]
pub struct Proxied {
    /// The workers.
    pub proxy: Proxy,
    /// Where clients connect.
    pub address: SocketAddr,
}

impl Proxied {
    /// Layer 4 TCP with several workers.
    pub fn tcp(pool: &Arc<live::Pool>) -> Self {
        Self::start(3, ANY_PORT, l4(Protocol::Tcp), pool)
    }

    /// Layer 4 UDP with several workers.
    pub fn udp(pool: &Arc<live::Pool>) -> Self {
        Self::start(3, ANY_PORT, l4(Protocol::Udp), pool)
    }

    /// Any listener.
    pub fn start(
        workers: usize,
        address: SocketAddr,
        layer: Layer,
        pool: &Arc<live::Pool>,
    ) -> Self {
        Self::start_as(workers, listener(NAME, address, layer), pool).0
    }

    /// A listener as it is, and its live state.
    pub fn start_as(
        workers: usize,
        listener: Arc<Listener>,
        pool: &Arc<live::Pool>,
    ) -> (Self, Arc<live::Listener>) {
        let proxy = Proxy::start(workers).expect("workers start");
        let bound = proxy.bind(&listener).expect("the address is free");
        let address = bound.address();
        let live = live_listener(listener, pool);
        proxy.open(bound, Arc::clone(&live));
        (Self { proxy, address }, live)
    }
}

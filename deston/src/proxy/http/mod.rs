//! Layer 7: HTTP connections of clients.

use std::marker::PhantomData;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::TcpStream;

use super::worker::Worker;
use crate::live;

/// A worker's pooled connections to servers.
#[derive(Debug, Default)]
pub(crate) struct Upstreams {
    _one_thread: PhantomData<Rc<()>>,
}

/// Serves one client's connection.
pub(super) async fn serve(
    stream: TcpStream,
    _peer: SocketAddr,
    _listener: Arc<live::Listener>,
    worker: Rc<Worker>,
) {
    let mut closing = worker.closing.clone();
    tracing::trace!(stage = ?closing.stage(), upstreams = ?worker.upstreams, "no HTTP yet");
    worker.spawn_background(async move {
        closing.draining().await;
        drop(stream);
    });
}

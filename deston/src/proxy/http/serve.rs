//! One client's connection, from accept to close.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::downstream::{Client, Downstream};
use super::negotiate::{Negotiated, Version, negotiate};
use super::{http1, http2, respond, upgrade};
use crate::live;
use crate::model::{HttpTimeouts, Layer};
use crate::proxy::stream::Stream;
use crate::proxy::worker::Worker;
use crate::proxy::{close, origin};

/// How a connection's life with hyper ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// All requests are answered, or hyper has answered one that is no HTTP.
    Finished,
    /// Nothing was asked for long enough.
    Idle,
    /// A head took too long.
    HeadOverdue,
    /// The client is gone, or a body broke off or stood still: what was sent must not look whole.
    Broken,
    /// The worker gives up.
    Aborted,
}

/// Serves one client's connection.
pub(in crate::proxy) async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    listener: Arc<live::Listener>,
    worker: Rc<Worker>,
) {
    let serving = listener.serving();
    let Layer::L7(l7) = &serving.listener.layer else { return };
    let timeouts = l7.timeouts;
    let Some(ends) = origin::find(&stream, peer, &listener, &serving, &worker).await else {
        return;
    };
    let negotiated = negotiate(stream, l7, &worker).await;
    drop(serving);
    let Some(Negotiated { stream, version, presented }) = negotiated else { return };
    let client = Rc::new(Client::new(ends.client, ends.reached, presented, listener, worker));
    match version {
        Version::Http1 => serve_http1(stream, &client, timeouts).await,
        Version::Http2 => {
            let mut stream = stream;
            let end = http2::requests(&mut stream, &client, timeouts).await;
            finish(stream, end, false, &client.worker).await;
        }
    }
}

async fn serve_http1(stream: Stream, client: &Rc<Client>, timeouts: HttpTimeouts) {
    let downstream = Rc::new(Downstream::connection(client, timeouts));
    let (end, stream) = http1::requests(stream, &downstream).await;
    match (end, downstream.tunnel.take()) {
        (End::Finished, Some(tunnel)) => upgrade::run(stream, tunnel, &client.worker).await,
        (end, _) => {
            let has_finished = downstream.clock.client_has_finished();
            finish(stream, end, has_finished, &client.worker).await;
        }
    }
}

/// Closes a client's socket in the way its end asks for.
async fn finish(mut stream: Stream, end: End, client_has_finished: bool, worker: &Worker) {
    match end {
        // Under TLS, close_notify tells the client that nothing was cut off (RFC 8446 6.1).
        End::Idle => drop(stream.shutdown().await),
        End::Finished if client_has_finished => drop(stream.shutdown().await),
        End::Finished => {
            let mut closing = worker.closing.clone();
            close::linger(&mut stream, &worker.buffers, &mut closing).await;
        }
        End::HeadOverdue => {
            // As much as fits now: a client this slow is owed no more.
            let _ = stream.write_now(respond::REQUEST_TIMEOUT);
            let _ = stream.shutdown().await;
        }
        // A reset cannot be taken for the end of a body, as a FIN can.
        End::Broken | End::Aborted => close::reset(&stream),
    }
}

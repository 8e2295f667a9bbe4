//! One client's connection, from accept to close.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::answer::answer;
use super::body::ReplyBody;
use super::clock::Phase;
use super::downstream::{Downstream, Socket};
use super::timer::Timer;
use super::validate::HEADER_BYTES;
use super::{respond, upgrade};
use crate::live;
use crate::model::Layer;
use crate::proxy::worker::Worker;
use crate::proxy::{close, listen};

/// How a connection's life with hyper ended.
#[derive(Debug)]
enum End {
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

/// What woke a connection.
enum Event {
    End(End),
    /// The worker's closing signal.
    Signal,
}

/// Serves one client's connection.
pub(in crate::proxy) async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    listener: Arc<live::Listener>,
    worker: Rc<Worker>,
) {
    let serving = listener.serving();
    let timeouts = match &serving.listener.layer {
        Layer::L7(l7) => l7.timeouts,
        Layer::L4(_) => return,
    };
    let reached = listen::reached(&stream, &serving.listener);
    drop(serving);
    let downstream = Rc::new(Downstream::new(peer, reached, timeouts, listener, worker));
    let mut timer = Timer::default();
    if !first_byte(&stream, &downstream, &mut timer).await {
        return;
    }
    let (end, stream, early) = requests(stream, &downstream, &mut timer).await;
    drop(timer);
    match (end, downstream.tunnel.take()) {
        (End::Finished, Some(tunnel)) => {
            upgrade::run(stream, early, tunnel, &downstream.worker).await
        }
        (end, _) => finish(stream, end, &downstream).await,
    }
}

/// Waits until the client says something: before that, hyper's buffers are not worth having.
async fn first_byte(stream: &TcpStream, downstream: &Downstream, timer: &mut Timer) -> bool {
    let mut closing = downstream.worker.closing.clone();
    // Looked at, not asked for: a fresh socket counts as readable until a read has failed.
    let mut byte = [0];
    tokio::select! {
        biased;
        peeked = stream.peek(&mut byte) => peeked.is_ok_and(|bytes| bytes > 0),
        () = closing.draining() => false,
        () = poll_fn(|cx| timer.poll(downstream.clock.deadline(), cx)) => false,
    }
}

/// Answers requests until the connection is over; gives the socket back, with what was read
/// beyond the last request.
async fn requests(
    stream: TcpStream,
    downstream: &Rc<Downstream>,
    timer: &mut Timer,
) -> (End, TcpStream, Bytes) {
    let socket = Socket::new(stream, Rc::clone(downstream));
    let service = service_fn(|request| answer(Rc::clone(downstream), request));
    let mut connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_header_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(socket), service);

    let mut draining = downstream.worker.closing.clone();
    let mut event = run(&mut connection, downstream, timer, draining.draining()).await;
    if let Event::Signal = event {
        // The response under way says `Connection: close`; without one, this is the end.
        Pin::new(&mut connection).graceful_shutdown();
        let mut aborting = downstream.worker.closing.clone();
        event = run(&mut connection, downstream, timer, aborting.aborting()).await;
    }
    let end = match event {
        Event::End(end) => end,
        Event::Signal => End::Aborted,
    };
    let parts = connection.into_parts();
    (end, parts.io.into_inner().into_stream(), parts.read_buf)
}

/// Lets hyper work until it is done, a deadline passes or `signal` comes.
async fn run<S>(
    connection: &mut http1::Connection<TokioIo<Socket>, S>,
    downstream: &Downstream,
    timer: &mut Timer,
    signal: impl Future<Output = ()>,
) -> Event
where
    S: HttpService<Incoming, ResBody = ReplyBody>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut signal = pin!(signal);
    let before = downstream.worker.closing.stage();
    let mut registered = false;
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(ended) = Pin::new(&mut *connection).poll(cx) {
                return Poll::Ready(Event::End(how(ended)));
            }
            // The task is always the same, so that one poll is enough to be woken.
            if !registered || downstream.worker.closing.stage() != before {
                registered = true;
                if signal.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Event::Signal);
                }
            }
            match overdue(downstream, timer, cx) {
                Poll::Ready(Some(end)) => return Poll::Ready(Event::End(end)),
                Poll::Ready(None) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}

/// Ready once the clock's deadline has passed: with the end that means, or none if the request is
/// to be answered.
fn overdue(downstream: &Downstream, timer: &mut Timer, cx: &mut Context<'_>) -> Poll<Option<End>> {
    timer.poll(downstream.clock.deadline(), cx).map(|()| match downstream.clock.phase() {
        Phase::Idle => Some(End::Idle),
        Phase::Head => Some(End::HeadOverdue),
        Phase::Replying => Some(End::Broken),
        Phase::Uploading if downstream.clock.awaits_client() => Some(End::Broken),
        // The server is late: with its answer, or in taking the request's body.
        Phase::Uploading | Phase::Routing | Phase::Awaiting => {
            downstream.clock.expire();
            None
        }
    })
}

fn how(ended: hyper::Result<()>) -> End {
    match ended {
        Ok(()) => End::Finished,
        // hyper has answered 400, 414 or 431.
        Err(error) if error.is_parse() => End::Finished,
        Err(error) => {
            tracing::debug!(%error, "a client's connection broke");
            End::Broken
        }
    }
}

/// Closes a client's socket in the way its end asks for.
async fn finish(mut stream: TcpStream, end: End, downstream: &Downstream) {
    match end {
        End::Idle => {}
        End::Finished if downstream.clock.client_has_finished() => {}
        End::Finished => {
            let mut closing = downstream.worker.closing.clone();
            close::linger(&mut stream, &downstream.worker.buffers, &mut closing).await;
        }
        End::HeadOverdue => {
            // As much as fits now: a client this slow is owed no more.
            let _ = stream.try_write(respond::REQUEST_TIMEOUT);
            let _ = stream.shutdown().await;
        }
        // A reset cannot be taken for the end of a body, as a FIN can.
        End::Broken | End::Aborted => {
            close::reset(&stream);
        }
    }
}

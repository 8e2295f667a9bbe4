//! A client's connection that speaks HTTP/1: one request after the other.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use http::StatusCode;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::TokioIo;

use super::access;
use super::answer::answer;
use super::clock::Phase;
use super::downstream::{Downstream, Socket};
use super::logged::Logged;
use super::serve::End;
use super::timer::Timer;
use crate::model::DEFAULT_HEADERS;
use crate::proxy::stream::Stream;

/// What woke a connection.
enum Event {
    End(End),
    /// The worker's closing signal.
    Signal,
}

/// Answers requests until the connection is over; gives the socket back, with what was read
/// beyond the last request put back.
pub(super) async fn requests(stream: Stream, downstream: &Rc<Downstream>) -> (End, Stream) {
    let mut timer = Timer::default();
    let socket = Socket::new(stream, Rc::clone(downstream));
    let service = service_fn(|request| answer(Rc::clone(downstream), request));
    let limits = downstream.client.limits();
    let mut builder = http1::Builder::new();
    builder.header_read_timeout(None).max_header_size(limits.header_bytes as usize);
    if limits.headers > DEFAULT_HEADERS {
        // Told, hyper allocates their places for each request.
        builder.max_headers(limits.headers.into());
    }
    let mut connection = builder.serve_connection(TokioIo::new(socket), service);

    let mut draining = downstream.client.worker.closing.clone();
    let mut event = run(&mut connection, downstream, &mut timer, draining.draining()).await;
    if let Event::Signal = event {
        // The response under way says `Connection: close`; without one, this is the end.
        Pin::new(&mut connection).graceful_shutdown();
        let mut aborting = downstream.client.worker.closing.clone();
        event = run(&mut connection, downstream, &mut timer, aborting.aborting()).await;
    }
    let end = match event {
        Event::End(end) => end,
        Event::Signal => End::Aborted,
    };
    let parts = connection.into_parts();
    let mut stream = parts.io.into_inner().into_stream();
    stream.put_back(parts.read_buf);
    (end, stream)
}

/// Lets hyper work until it is done, a deadline passes or `signal` comes.
async fn run<S>(
    connection: &mut http1::Connection<TokioIo<Socket>, S>,
    downstream: &Downstream,
    timer: &mut Timer,
    signal: impl Future<Output = ()>,
) -> Event
where
    S: HttpService<Incoming, ResBody = Logged>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut signal = pin!(signal);
    let before = downstream.client.worker.closing.stage();
    let mut registered = false;
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(ended) = Pin::new(&mut *connection).poll(cx) {
                return Poll::Ready(Event::End(how(ended, downstream)));
            }
            // The task is always the same, so that one poll is enough to be woken.
            if !registered || downstream.client.worker.closing.stage() != before {
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
        Phase::Head => {
            access::unread(&downstream.client, StatusCode::REQUEST_TIMEOUT, "head_overdue");
            Some(End::HeadOverdue)
        }
        Phase::Replying => Some(End::Broken),
        Phase::Uploading if downstream.clock.awaits_client() => Some(End::Broken),
        // The server is late: with its answer, or in taking the request's body.
        Phase::Uploading | Phase::Routing | Phase::Awaiting => {
            downstream.clock.expire();
            None
        }
    })
}

fn how(ended: hyper::Result<()>, downstream: &Downstream) -> End {
    match ended {
        Ok(()) => End::Finished,
        // hyper has answered 400, 414 or 431.
        Err(error) if error.is_parse() => {
            let status = if error.is_parse_too_large() {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            } else {
                StatusCode::BAD_REQUEST
            };
            access::unread(&downstream.client, status, "malformed");
            End::Finished
        }
        Err(error) => {
            tracing::debug!(%error, "a client's connection broke");
            End::Broken
        }
    }
}

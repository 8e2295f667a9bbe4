//! A client's connection that speaks HTTP/2: each request is a stream with a task and deadlines of
//! its own, and the connection has one for standing idle.

use std::cell::{Cell, RefCell};
use std::error::Error as _;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::answer::answer;
use super::clock::Phase;
use super::downstream::{Client, Downstream};
use super::flood::Guarded;
use super::logged::Logged;
use super::serve::End;
use super::timer::Timer;
use crate::model::HttpTimeouts;
use crate::proxy::stream::Stream;

/// Requests that a client may have under way at once: RFC 9113 6.5.2 advises at least 100.
const STREAMS: u32 = 128;

/// How long a client may take to end a connection that it was told to end.
const LEAVE: Duration = Duration::from_secs(5);

/// Bytes of responses that one stream holds for a client that does not take them.
const SEND_BUFFER: usize = 128 * 1024;

/// Answers requests until the connection is over.
pub(super) async fn requests(
    stream: &mut Stream,
    client: &Rc<Client>,
    timeouts: HttpTimeouts,
) -> End {
    let streams = Rc::new(Streams::new(timeouts));
    let service = {
        let (client, streams) = (Rc::clone(client), Rc::clone(&streams));
        service_fn(move |request: Request<Incoming>| {
            let open = Open::new(&streams);
            let downstream = Rc::new(Downstream::stream(&client, streams.timeouts, open));
            streams.opens(&downstream);
            answer(downstream, request)
        })
    };
    let mut connection = http2::Builder::new(Streams::executor(&streams))
        .max_header_list_size(client.limits().header_bytes)
        .max_concurrent_streams(STREAMS)
        .max_send_buf_size(SEND_BUFFER)
        .enable_connect_protocol()
        .serve_connection(TokioIo::new(Guarded::new(stream)), service);

    let mut draining = client.worker.closing.clone();
    let end = match run(&mut connection, &streams, draining.draining()).await {
        Some(end @ (End::Finished | End::Broken | End::HeadOverdue | End::Aborted)) => return end,
        Some(End::Idle) => End::Idle,
        None => End::Finished,
    };
    // Streams under way finish, and a request that crosses the GOAWAY is not lost: it names the last
    // stream that was taken (RFC 9113 6.8).
    Pin::new(&mut connection).graceful_shutdown();
    if let End::Idle = end {
        streams.leave();
    }
    let mut aborting = client.worker.closing.clone();
    run(&mut connection, &streams, aborting.aborting()).await.unwrap_or(End::Aborted)
}

/// Lets hyper work until it is done or nothing has been asked for long enough; `None` once `signal`
/// has come.
async fn run<S>(
    connection: &mut http2::Connection<TokioIo<Guarded<'_, Stream>>, S, Spawn>,
    streams: &Streams,
    signal: impl Future<Output = ()>,
) -> Option<End>
where
    S: HttpService<Incoming, ResBody = Logged>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::Future: 'static,
{
    let mut signal = pin!(signal);
    let mut timer = Timer::default();
    poll_fn(|cx| {
        if let Poll::Ready(ended) = Pin::new(&mut *connection).poll(cx) {
            return Poll::Ready(Some(how(ended)));
        }
        if signal.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        timer.poll(streams.deadline(), cx).map(|()| Some(End::Idle))
    })
    .await
}

fn how(ended: hyper::Result<()>) -> End {
    match ended {
        Ok(()) => End::Finished,
        Err(error) => {
            tracing::debug!(%error, "a client's connection broke");
            // A reset could overtake the GOAWAY that says what the client did. No stream can look
            // whole for it: each has an end of its own.
            let is_lost = error.source().is_some_and(|source| source.is::<io::Error>());
            if is_lost { End::Broken } else { End::Finished }
        }
    }
}

/// The streams of one connection.
struct Streams {
    timeouts: HttpTimeouts,
    open: Cell<u32>,
    /// When the last one ended.
    quiet_since: Cell<Instant>,
    /// When the connection is given up, once it has been told to end.
    leaving: Cell<Option<Instant>>,
    /// The one whose task has not begun.
    newest: RefCell<Option<Rc<Downstream>>>,
}

impl Streams {
    fn new(timeouts: HttpTimeouts) -> Self {
        Self {
            timeouts,
            open: Cell::new(0),
            quiet_since: Cell::new(Instant::now()),
            leaving: Cell::new(None),
            newest: RefCell::new(None),
        }
    }

    fn executor(streams: &Rc<Self>) -> Spawn {
        Spawn(Rc::clone(streams))
    }

    /// A stream has been opened; hyper gives its task to the executor next.
    fn opens(&self, downstream: &Rc<Downstream>) {
        *self.newest.borrow_mut() = Some(Rc::clone(downstream));
    }

    /// The connection has been told to end.
    fn leave(&self) {
        self.leaving.set(Some(Instant::now() + LEAVE));
    }

    /// When the connection has stood idle for too long.
    fn deadline(&self) -> Option<Instant> {
        if self.leaving.get().is_some() {
            return self.leaving.get();
        }
        let idle = self.timeouts.client_idle;
        let counts = self.open.get() == 0 && !idle.is_zero();
        if counts { self.quiet_since.get().checked_add(idle) } else { None }
    }
}

/// Runs hyper's tasks on the worker's thread.
#[derive(Clone)]
struct Spawn(Rc<Streams>);

impl<F> Executor<F> for Spawn
where
    F: Future + 'static,
{
    fn execute(&self, task: F) {
        match self.0.newest.take() {
            Some(downstream) => drop(tokio::task::spawn_local(in_time(task, downstream))),
            None => drop(tokio::task::spawn_local(async move { drop(task.await) })),
        }
    }
}

/// Counts a stream for as long as somebody has to do with it.
pub(super) struct Open(Rc<Streams>);

impl Open {
    fn new(streams: &Rc<Streams>) -> Self {
        streams.open.set(streams.open.get() + 1);
        Self(Rc::clone(streams))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get().saturating_sub(1));
        self.0.quiet_since.set(Instant::now());
    }
}

/// Runs a stream's task, and gives it up when the client is late. Dropped before its end, the stream
/// is reset (RST_STREAM), so that what was sent cannot look whole.
async fn in_time(task: impl Future, downstream: Rc<Downstream>) {
    let mut task = pin!(task);
    let mut timer = Timer::default();
    poll_fn(|cx| {
        loop {
            if task.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            if timer.poll(downstream.clock.deadline(), cx).is_pending() {
                return Poll::Pending;
            }
            match downstream.clock.phase() {
                Phase::Idle | Phase::Head | Phase::Replying => return Poll::Ready(()),
                Phase::Uploading if downstream.clock.awaits_client() => return Poll::Ready(()),
                // The server is late: the request is to be answered.
                Phase::Uploading | Phase::Routing | Phase::Awaiting => downstream.clock.expire(),
            }
        }
    })
    .await;
}

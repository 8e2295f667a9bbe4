//! Where a client's connection stands, and until when it may stand there.
//!
//! The connection's socket and its request report what happens; `serve` waits for the one deadline
//! that results. So a request sets no timer of its own, and hyper's, which cannot tell an idle
//! connection from a slow head, is off.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

use super::timer::after;
use crate::model::HttpTimeouts;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No request, no byte of one: `client_idle`.
    Idle,
    /// A head has begun: `request_head`.
    Head,
    /// A server is being chosen and connected to, under that step's own deadlines.
    Routing,
    /// The body is on its way to the server: `stream_idle`.
    Uploading,
    /// The request is with the server: `response_head`.
    Awaiting,
    /// The response is on its way to the client: `stream_idle`.
    Replying,
}

/// The phase and deadline of one client connection.
#[derive(Debug)]
pub(super) struct Clock {
    phase: Cell<Phase>,
    deadline: Cell<Option<Instant>>,
    timeouts: Cell<HttpTimeouts>,
    response_head: Cell<Duration>,
    /// When the whole request was on its way to a server.
    sent: Cell<Instant>,
    overdue: Cell<bool>,
    /// Bytes came in while a request was under way: the next head has begun.
    read_ahead: Cell<bool>,
    /// The client will send no more.
    finished: Cell<bool>,
    /// The server has taken all of the body that there is: the client is to go on.
    awaits_client: Cell<bool>,
}

impl Clock {
    /// The clock of a connection that has just been accepted.
    pub(super) fn new(timeouts: HttpTimeouts) -> Self {
        Self {
            phase: Cell::new(Phase::Idle),
            deadline: Cell::new(after(timeouts.client_idle)),
            timeouts: Cell::new(timeouts),
            response_head: Cell::new(Duration::ZERO),
            sent: Cell::new(Instant::now()),
            overdue: Cell::new(false),
            read_ahead: Cell::new(false),
            finished: Cell::new(false),
            awaits_client: Cell::new(false),
        }
    }

    /// The limits of the request under way.
    pub(super) fn timeouts(&self) -> HttpTimeouts {
        self.timeouts.get()
    }

    /// Where the connection stands.
    pub(super) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// When that is to be over.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline.get()
    }

    /// The deadline has passed; what waits for a response sees it in `is_overdue`.
    pub(super) fn expire(&self) {
        self.overdue.set(true);
        self.deadline.set(None);
    }

    /// Whether the response's head is overdue.
    pub(super) fn is_overdue(&self) -> bool {
        self.overdue.get()
    }

    /// Whether the client has closed its side.
    pub(super) fn client_has_finished(&self) -> bool {
        self.finished.get()
    }

    /// Bytes came from the client; none means that no more will.
    pub(super) fn read(&self, bytes: usize) {
        if bytes == 0 {
            self.finished.set(true);
            return;
        }
        match self.phase.get() {
            Phase::Idle => self.enter(Phase::Head, self.timeouts.get().request_head),
            Phase::Uploading => self.enter(Phase::Uploading, self.timeouts.get().stream_idle),
            Phase::Routing | Phase::Awaiting | Phase::Replying => self.read_ahead.set(true),
            Phase::Head => {}
        }
    }

    /// Bytes went to the client.
    pub(super) fn wrote(&self) {
        match self.phase.get() {
            Phase::Replying => self.enter(Phase::Replying, self.timeouts.get().stream_idle),
            Phase::Idle => self.enter(Phase::Idle, self.timeouts.get().client_idle),
            Phase::Head | Phase::Routing | Phase::Uploading | Phase::Awaiting => {}
        }
    }

    /// A request's head is complete.
    pub(super) fn request_begins(&self, timeouts: HttpTimeouts) {
        self.timeouts.set(timeouts);
        self.read_ahead.set(false);
        self.overdue.set(false);
        self.routing();
    }

    /// A server is being chosen, for the first time or again.
    pub(super) fn routing(&self) {
        self.enter(Phase::Routing, Duration::ZERO);
    }

    /// The request's head is on its way to a server, its body still to come.
    pub(super) fn uploading(&self, response_head: Duration) {
        self.response_head.set(response_head);
        self.awaits_client.set(false);
        self.enter(Phase::Uploading, self.timeouts.get().stream_idle);
    }

    /// Whether the request's body waits for the client, not for the server to take it.
    pub(super) fn awaits_client(&self) -> bool {
        self.awaits_client.get()
    }

    /// The body is asked for more, and has none or some.
    pub(super) fn uploads(&self, more: bool) {
        self.awaits_client.set(!more);
    }

    /// The request's body is complete.
    pub(super) fn upload_ended(&self) {
        if self.phase.get() == Phase::Uploading {
            self.awaiting(self.response_head.get());
        }
    }

    /// The whole request is on its way to a server.
    pub(super) fn awaiting(&self, response_head: Duration) {
        self.sent.set(Instant::now());
        self.enter(Phase::Awaiting, response_head);
    }

    /// How long the response's head has been awaited, if it is.
    pub(super) fn awaited(&self) -> Option<Duration> {
        (self.phase.get() == Phase::Awaiting).then(|| self.sent.get().elapsed())
    }

    /// The response's head is there.
    pub(super) fn replying(&self) {
        self.enter(Phase::Replying, self.timeouts.get().stream_idle);
    }

    /// The response is complete, but perhaps for what is still to be written.
    pub(super) fn response_ended(&self) {
        if self.read_ahead.get() {
            self.enter(Phase::Head, self.timeouts.get().request_head);
        } else {
            self.enter(Phase::Idle, self.timeouts.get().client_idle);
        }
    }

    fn enter(&self, phase: Phase, limit: Duration) {
        self.phase.set(phase);
        self.deadline.set(after(limit));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUTS: HttpTimeouts = HttpTimeouts {
        request_head: Duration::from_secs(10),
        client_idle: Duration::from_secs(60),
        stream_idle: Duration::from_secs(300),
        tunnel_idle: Duration::from_secs(3600),
        tls_handshake: Duration::from_secs(5),
    };

    #[track_caller]
    fn stands(clock: &Clock, phase: Phase, left: u64) {
        let left = (left > 0).then(|| Instant::now() + Duration::from_secs(left));
        assert_eq!((clock.phase(), clock.deadline()), (phase, left));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_passes_its_phases_in_order() {
        let clock = Clock::new(TIMEOUTS);
        stands(&clock, Phase::Idle, 60);
        clock.read(1);
        stands(&clock, Phase::Head, 10);
        clock.request_begins(TIMEOUTS);
        stands(&clock, Phase::Routing, 0);
        clock.uploading(Duration::from_secs(20));
        stands(&clock, Phase::Uploading, 300);
        clock.upload_ended();
        stands(&clock, Phase::Awaiting, 20);
        clock.replying();
        stands(&clock, Phase::Replying, 300);
        clock.response_ended();
        stands(&clock, Phase::Idle, 60);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_drips_in_gains_no_time() {
        let clock = Clock::new(TIMEOUTS);
        clock.read(1);
        tokio::time::advance(Duration::from_secs(9)).await;
        clock.read(1);
        stands(&clock, Phase::Head, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_of_a_body_give_it_time() {
        let clock = Clock::new(TIMEOUTS);
        clock.request_begins(TIMEOUTS);
        clock.replying();
        tokio::time::advance(Duration::from_secs(200)).await;
        clock.wrote();
        stands(&clock, Phase::Replying, 300);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_read_ahead_is_timed_once_the_response_has_ended() {
        let clock = Clock::new(TIMEOUTS);
        clock.request_begins(TIMEOUTS);
        clock.awaiting(Duration::from_secs(20));
        clock.read(5);
        stands(&clock, Phase::Awaiting, 20);
        clock.replying();
        clock.response_ended();
        stands(&clock, Phase::Head, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_is_awaited_from_the_end_of_the_request_on() {
        let clock = Clock::new(TIMEOUTS);
        clock.request_begins(TIMEOUTS);
        clock.uploading(Duration::ZERO);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(clock.awaited(), None);
        clock.upload_ended();
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(clock.awaited(), Some(Duration::from_secs(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_zero_limit_is_none() {
        let clock = Clock::new(HttpTimeouts { client_idle: Duration::ZERO, ..TIMEOUTS });
        stands(&clock, Phase::Idle, 0);
    }
}

//! The relay: bytes between a client and a server, both ways, until both have ended.
//!
//! Carries layer 4 connections and upgraded HTTP connections alike. It shuts down, but never closes:
//! what an end means for the sockets is the caller's to decide. An idle relay holds no buffer.

mod direction;

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until};

use self::direction::{Broken, Direction, End as Of};
use super::buffers::Buffers;

/// What a relay has carried, and why it is over.
#[derive(Debug)]
pub(crate) struct Relayed {
    /// Bytes from client to server.
    pub(crate) forward_bytes: u64,
    /// Bytes from server to client.
    pub(crate) reply_bytes: u64,
    /// Why it is over.
    pub(crate) end: End,
}

/// Why a relay is over.
#[derive(Debug)]
pub(crate) enum End {
    /// Both sides have ended, and each was told of the other's end.
    Finished,
    /// No byte went either way for the idle time.
    Idle,
    /// The worker aborts, or the server is down and its connections are to be reset.
    Aborted,
    /// A side has ended, and went without taking what the other still sends. The other was told
    /// of the end, and may still be reading what came before it.
    Left {
        /// Which side.
        side: Side,
    },
    /// A side failed; what it had sent before was passed on.
    Broken {
        /// Which side.
        side: Side,
        /// How.
        error: io::Error,
    },
}

/// A side of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The client's.
    Downstream,
    /// The server's.
    Upstream,
}

/// Relays until both sides have ended, one fails, nothing moves for `idle` (zero: however long),
/// or `abort` says so. Half-closed connections go on in the other direction.
pub(crate) async fn relay<D, U>(
    downstream: &mut D,
    upstream: &mut U,
    buffers: &Buffers,
    idle: Duration,
    abort: impl Future<Output = ()>,
) -> Relayed
where
    D: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let mut pair =
        Pair { downstream, upstream, forward: Direction::new(), reply: Direction::new() };
    let end = tokio::select! {
        biased;
        end = run(&mut pair, buffers, idle) => end,
        () = abort => End::Aborted,
    };
    Relayed { forward_bytes: pair.forward.bytes(), reply_bytes: pair.reply.bytes(), end }
}

/// Both sides and both directions.
struct Pair<'a, D, U> {
    downstream: &'a mut D,
    upstream: &'a mut U,
    forward: Direction,
    reply: Direction,
}

async fn run<D, U>(pair: &mut Pair<'_, D, U>, buffers: &Buffers, idle: Duration) -> End
where
    D: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    if idle.is_zero() {
        return poll_fn(|cx| pair.poll(cx, buffers)).await;
    }
    // The timer is set again only when it fires: a relay in full flow just notes the time.
    let mut moved = Instant::now();
    let mut timer = pin!(sleep_until(moved + idle));
    poll_fn(|cx| {
        let before = pair.bytes();
        if let Poll::Ready(end) = pair.poll(cx, buffers) {
            return Poll::Ready(end);
        }
        if pair.bytes() != before {
            moved = Instant::now();
        }
        while timer.as_mut().poll(cx).is_ready() {
            let over = moved + idle;
            if over <= Instant::now() {
                return Poll::Ready(End::Idle);
            }
            timer.as_mut().reset(over);
        }
        Poll::Pending
    })
    .await
}

impl<D, U> Pair<'_, D, U>
where
    D: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    fn bytes(&self) -> u64 {
        self.forward.bytes().wrapping_add(self.reply.bytes())
    }

    fn poll(&mut self, cx: &mut Context<'_>, buffers: &Buffers) -> Poll<End> {
        let (downstream, upstream) =
            (Pin::new(&mut *self.downstream), Pin::new(&mut *self.upstream));
        let forward = self.forward.poll(cx, buffers, downstream, upstream);
        let (downstream, upstream) =
            (Pin::new(&mut *self.downstream), Pin::new(&mut *self.upstream));
        let reply = self.reply.poll(cx, buffers, upstream, downstream);
        match (forward, reply) {
            (Poll::Ready(Of::Ended), Poll::Ready(Of::Ended)) => Poll::Ready(End::Finished),
            (Poll::Ready(Of::Failed), reply) => {
                failed(&mut self.forward, Side::Downstream, Side::Upstream, reply)
            }
            (forward, Poll::Ready(Of::Failed)) => {
                failed(&mut self.reply, Side::Upstream, Side::Downstream, forward)
            }
            (Poll::Ready(Of::Ended) | Poll::Pending, Poll::Pending)
            | (Poll::Pending, Poll::Ready(Of::Ended)) => Poll::Pending,
        }
    }
}

/// One direction has failed. When its receiver has gone, what that receiver had sent before is
/// passed on first: a server may answer and leave a client that still sends.
fn failed(direction: &mut Direction, from: Side, to: Side, other: Poll<Of>) -> Poll<End> {
    if direction.receiver_has_gone() && other.is_pending() {
        return Poll::Pending;
    }
    match direction.take_failure() {
        // Linux says so where a FIN came first. After a reset without one it is ECONNRESET, and
        // the end that is read then is none.
        Some(Broken::Writing(error))
            if error.kind() == io::ErrorKind::BrokenPipe && other == Poll::Ready(Of::Ended) =>
        {
            Poll::Ready(End::Left { side: to })
        }
        Some(Broken::Reading(error)) => Poll::Ready(End::Broken { side: from, error }),
        Some(Broken::Writing(error)) => Poll::Ready(End::Broken { side: to, error }),
        None => Poll::Pending,
    }
}

#[cfg(test)]
mod tests;

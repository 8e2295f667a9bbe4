//! One direction of a relay, as a state machine.
//!
//! Holds a buffer only while it has bytes that the receiver has not taken.

use std::io;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::proxy::buffers::{Buffer, Buffers};

/// Bytes from one side to the other.
#[derive(Debug)]
pub(super) struct Direction {
    state: State,
    bytes: u64,
}

/// How a direction is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The sender has ended and the receiver was told.
    Ended,
    /// See `take_failure`.
    Failed,
}

/// What failed.
#[derive(Debug)]
pub(super) enum Broken {
    /// The sender.
    Reading(io::Error),
    /// The receiver.
    Writing(io::Error),
}

#[derive(Debug)]
enum State {
    /// Nothing at hand.
    Reading {
        flushed: bool,
    },
    /// Bytes `from..to` of the buffer are the receiver's.
    Writing {
        buffer: Buffer,
        from: usize,
        to: usize,
    },
    /// The sender has ended; the receiver is being told.
    Ending,
    Ended,
    Failed(Broken),
}

impl Direction {
    pub(super) fn new() -> Self {
        Self { state: State::Reading { flushed: true }, bytes: 0 }
    }

    /// Bytes the receiver has taken.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether it failed because the receiver's connection is gone.
    pub(super) fn receiver_has_gone(&self) -> bool {
        let State::Failed(Broken::Writing(error)) = &self.state else { return false };
        matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
    }

    /// The failure, once.
    pub(super) fn take_failure(&mut self) -> Option<Broken> {
        match mem::replace(&mut self.state, State::Ended) {
            State::Failed(broken) => Some(broken),
            state @ (State::Reading { .. }
            | State::Writing { .. }
            | State::Ending
            | State::Ended) => {
                self.state = state;
                None
            }
        }
    }

    /// Moves what can be moved. May be polled after its end.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &Buffers,
        mut sender: Pin<&mut impl AsyncRead>,
        mut receiver: Pin<&mut impl AsyncWrite>,
    ) -> Poll<End> {
        loop {
            let next = match &mut self.state {
                State::Reading { flushed } => {
                    let read = read(cx, buffers, sender.as_mut());
                    if read.is_pending() && !*flushed {
                        match ready!(receiver.as_mut().poll_flush(cx)) {
                            Ok(()) => *flushed = true,
                            Err(error) => {
                                self.state = State::Failed(Broken::Writing(error));
                                return Poll::Ready(End::Failed);
                            }
                        }
                    }
                    ready!(read)
                }
                State::Writing { buffer, from, to } if *from < *to => {
                    let rest = buffer.get(*from..*to).unwrap_or_default();
                    match ready!(receiver.as_mut().poll_write(cx, rest)) {
                        Ok(0) => State::Failed(Broken::Writing(io::ErrorKind::WriteZero.into())),
                        Ok(taken) => {
                            *from += taken;
                            self.bytes = self.bytes.saturating_add(taken as u64);
                            continue;
                        }
                        Err(error) => State::Failed(Broken::Writing(error)),
                    }
                }
                State::Writing { .. } => State::Reading { flushed: false },
                State::Ending => match ready!(receiver.as_mut().poll_shutdown(cx)) {
                    Ok(()) => State::Ended,
                    Err(error) => State::Failed(Broken::Writing(error)),
                },
                State::Ended => return Poll::Ready(End::Ended),
                State::Failed(_) => return Poll::Ready(End::Failed),
            };
            self.state = next;
        }
    }
}

/// Reads once, into a buffer that goes back at once if there is nothing to read.
fn read(cx: &mut Context<'_>, buffers: &Buffers, sender: Pin<&mut impl AsyncRead>) -> Poll<State> {
    let mut buffer = buffers.borrow();
    let mut room = ReadBuf::new(&mut buffer);
    let read = ready!(sender.poll_read(cx, &mut room));
    let to = room.filled().len();
    Poll::Ready(match read {
        Ok(()) if to == 0 => State::Ending,
        Ok(()) => State::Writing { buffer, from: 0, to },
        Err(error) => State::Failed(Broken::Reading(error)),
    })
}

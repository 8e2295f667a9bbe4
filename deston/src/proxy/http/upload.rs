//! A request's body as the client sends it: no longer than it may be, and without trailers that must
//! not come late.

use std::error::Error as _;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::downstream::Downstream;
use super::trailers;

/// What a client sends.
pub(super) struct Upload {
    incoming: Incoming,
    downstream: Rc<Downstream>,
    /// How many bytes may still come; `None`: any number.
    room: Option<u64>,
}

/// Why a request's body has no end.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// It broke off or is malformed.
    #[error(transparent)]
    Broken(#[from] hyper::Error),
    /// hyper reads on after a bare LF that ends a chunked body, and finds no trailer there.
    #[error("the end of the body is malformed")]
    Malformed,
    /// Over `body_bytes`.
    #[error("the body is too large")]
    TooLarge,
}

/// Whether a request failed for its body's size.
pub(super) fn is_too_large(error: &hyper::Error) -> bool {
    let body = error.source().and_then(|source| source.downcast_ref());
    matches!(body, Some(BodyError::TooLarge))
}

impl Upload {
    /// A body of at most `limit` bytes; 0: of any length.
    pub(super) fn new(incoming: Incoming, downstream: &Rc<Downstream>, limit: u64) -> Self {
        let room = (limit > 0).then_some(limit);
        Self { incoming, downstream: Rc::clone(downstream), room }
    }

    /// Whose it is.
    pub(super) fn downstream(&self) -> &Rc<Downstream> {
        &self.downstream
    }

    /// The next piece.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        if polled.is_none() || self.incoming.is_end_stream() {
            self.downstream.heads.body_ended();
        }
        Poll::Ready(polled.map(|polled| polled.map_err(BodyError::from).and_then(|f| self.take(f))))
    }

    /// Takes a piece, and drops trailers that must not come late.
    fn take(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, BodyError> {
        if let Some(data) = frame.data_ref() {
            self.downstream.received(data.len());
            self.downstream.log.note(|record| record.bytes_in += data.len() as u64);
            if let Some(left) = &mut self.room {
                *left = left.checked_sub(data.len() as u64).ok_or(BodyError::TooLarge)?;
            }
        }
        if frame.trailers_ref().is_some_and(HeaderMap::is_empty) {
            return Err(BodyError::Malformed);
        }
        Ok(trailers::filtered(frame))
    }

    /// Whether nothing is left.
    pub(super) fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    /// How much is left.
    pub(super) fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

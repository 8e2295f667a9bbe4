//! Bodies on their way: never collected, never boxed, at the pace of whoever reads.

use std::error::Error as _;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::downstream::Downstream;
use super::trailers;
use super::wire::Upstream;

/// A request's body, on its way to a server.
pub(super) enum RequestBody {
    /// There is none.
    None,
    /// As the client sends it.
    Streamed {
        /// hyper's end of it.
        incoming: Incoming,
        /// Whose clock runs.
        downstream: Rc<Downstream>,
        /// How many bytes may still come; `None`: any number.
        room: Option<u64>,
    },
}

impl RequestBody {
    /// Forwards what the client sends.
    pub(super) fn new(incoming: Incoming, downstream: &Rc<Downstream>, limit: u64) -> Self {
        if incoming.is_end_stream() {
            return Self::None;
        }
        let room = (limit > 0).then_some(limit);
        Self::Streamed { incoming, downstream: Rc::clone(downstream), room }
    }

    /// Whether there is no body.
    pub(super) fn is_none(&self) -> bool {
        match self {
            Self::None => true,
            Self::Streamed { .. } => false,
        }
    }
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

/// Takes a piece of a request's body, and drops trailers that must not come late.
fn take(frame: Frame<Bytes>, room: &mut Option<u64>) -> Result<Frame<Bytes>, BodyError> {
    if let (Some(left), Some(data)) = (room, frame.data_ref()) {
        *left = left.checked_sub(data.len() as u64).ok_or(BodyError::TooLarge)?;
    }
    if frame.trailers_ref().is_some_and(HeaderMap::is_empty) {
        return Err(BodyError::Malformed);
    }
    Ok(trailers::filtered(frame))
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::None => Poll::Ready(None),
            Self::Streamed { incoming, downstream, room } => {
                let polled = Pin::new(&mut *incoming).poll_frame(cx);
                downstream.clock.uploads(polled.is_ready());
                if let Poll::Ready(Some(Ok(frame))) = &polled {
                    downstream.received(frame.data_ref().map_or(0, Bytes::len));
                }
                if matches!(polled, Poll::Ready(None)) || incoming.is_end_stream() {
                    downstream.heads.body_ended();
                    downstream.clock.upload_ended();
                }
                polled.map(|polled| {
                    Some(polled?.map_err(BodyError::from).and_then(|f| take(f, room)))
                })
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::None => true,
            Self::Streamed { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::None => SizeHint::with_exact(0),
            Self::Streamed { incoming, .. } => incoming.size_hint(),
        }
    }
}

/// A response's body, on its way to a client.
pub(super) enum ReplyBody {
    /// There is none.
    None,
    /// There is none, but `Content-Length` says how long it would be (RFC 9110 8.6: 304).
    Withheld(u64),
    /// Bytes of our own.
    Whole(Bytes),
    /// As the server sends it.
    Streamed(Streamed),
}

/// A server's body together with the connection it comes on, which is polled for it.
pub(super) struct Streamed {
    incoming: Incoming,
    /// `None` once the connection has ended or gone back to the pool.
    upstream: Option<Upstream>,
    downstream: Rc<Downstream>,
}

impl ReplyBody {
    /// A body of our own.
    pub(super) fn whole(bytes: Bytes) -> Self {
        Self::Whole(bytes)
    }

    /// Forwards what the server sends; the connection goes back to the pool at the end.
    pub(super) fn streamed(
        incoming: Incoming,
        upstream: Upstream,
        downstream: Rc<Downstream>,
    ) -> Self {
        Self::Streamed(Streamed { incoming, upstream: Some(upstream), downstream })
    }
}

impl Streamed {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(upstream) = &mut self.upstream
            && upstream.poll(cx).is_ready()
        {
            self.upstream = None;
        }
        // Only polling the connection brings frames, so that they have nobody to wake.
        let mut unwoken = Context::from_waker(Waker::noop());
        let polled = Pin::new(&mut self.incoming).poll_frame(&mut unwoken);
        match &polled {
            Poll::Ready(Some(Ok(_))) if !self.incoming.is_end_stream() => self.downstream.sent(),
            Poll::Ready(Some(Ok(_)) | None) => self.end(),
            Poll::Ready(Some(Err(_))) => self.upstream = None,
            Poll::Pending => {}
        }
        polled.map_ok(trailers::filtered)
    }

    fn end(&mut self) {
        if let Some(upstream) = self.upstream.take() {
            self.downstream.client.worker.upstreams.park(upstream);
        }
        self.downstream.clock.response_ended();
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::None | Self::Withheld(_) => Poll::Ready(None),
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Streamed(streamed) => streamed.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::None => true,
            // hyper drops the Content-Length of a body that has ended.
            Self::Withheld(_) => false,
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Streamed(streamed) => streamed.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::None => SizeHint::with_exact(0),
            Self::Withheld(length) => SizeHint::with_exact(*length),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Streamed(streamed) => streamed.incoming.size_hint(),
        }
    }
}

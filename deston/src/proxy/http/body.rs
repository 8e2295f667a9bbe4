//! Bodies on their way: never collected, never boxed, at the pace of whoever reads.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::downstream::Downstream;
use super::replay::Kept;
use super::trailers;
use super::upload::{BodyError, Upload};
use super::upstream::{Upstream, unwoken};

/// A request's body, on its way to a server.
pub(super) enum RequestBody {
    /// There is none.
    None,
    /// As the client sends it.
    Streamed(Upload),
    /// The same, to be sent again if need be.
    Kept(Kept),
}

impl RequestBody {
    /// Forwards what the client sends, `limit` bytes at most; 0: any number.
    pub(super) fn new(incoming: Incoming, downstream: &Rc<Downstream>, limit: u64) -> Self {
        if incoming.is_end_stream() {
            Self::None
        } else {
            Self::Streamed(Upload::new(incoming, downstream, limit))
        }
    }

    /// Whether there is no body.
    pub(super) fn is_none(&self) -> bool {
        match self {
            Self::None => true,
            Self::Streamed(_) | Self::Kept(_) => false,
        }
    }
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
            Self::Kept(kept) => kept.poll_frame(cx),
            Self::Streamed(upload) => {
                let polled = upload.poll_frame(cx);
                let clock = &upload.downstream().clock;
                clock.uploads(polled.is_ready());
                if matches!(polled, Poll::Ready(None)) || upload.is_end_stream() {
                    clock.upload_ended();
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::None => true,
            Self::Streamed(upload) => upload.is_end_stream(),
            Self::Kept(kept) => kept.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::None => SizeHint::with_exact(0),
            Self::Streamed(upload) => upload.size_hint(),
            Self::Kept(kept) => kept.size_hint(),
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
    /// Whether all of it has been handed on.
    finished: bool,
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
        Self::Streamed(Streamed { incoming, upstream: Some(upstream), downstream, finished: false })
    }

    /// Whether there is more of a server's body than was handed on.
    pub(super) fn is_unfinished(&self) -> bool {
        match self {
            Self::None | Self::Withheld(_) | Self::Whole(_) => false,
            Self::Streamed(streamed) => !streamed.finished,
        }
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
        // Where only polling the connection brings frames, they have nobody to wake.
        let polled = match &self.upstream {
            Some(upstream) if !upstream.is_polled_by_its_reader() => {
                Pin::new(&mut self.incoming).poll_frame(cx)
            }
            Some(_) | None => Pin::new(&mut self.incoming).poll_frame(&mut unwoken()),
        };
        match &polled {
            Poll::Ready(Some(Ok(_))) if !self.incoming.is_end_stream() => self.downstream.sent(),
            Poll::Ready(Some(Ok(_)) | None) => self.end(),
            Poll::Ready(Some(Err(_))) => self.upstream = None,
            Poll::Pending => {}
        }
        polled.map_ok(trailers::filtered)
    }

    fn end(&mut self) {
        self.finished = true;
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

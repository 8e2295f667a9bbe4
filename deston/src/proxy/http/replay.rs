//! A request that may have to be sent again: its head, and what was read of its body.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body::{Frame, SizeHint};

use super::body::RequestBody;
use super::upload::{BodyError, Upload};

/// A body that the attempts to send a request share, one after the other.
struct Source {
    upload: Upload,
    /// The attempt that reads.
    attempt: u32,
    /// What was read, as long as all of it is kept.
    kept: Vec<u8>,
    /// How much is kept.
    limit: usize,
    /// More was read than is kept.
    spoilt: bool,
    trailers: Option<HeaderMap>,
    ended: bool,
    length: Option<u64>,
}

/// The body as one attempt sends it.
pub(super) struct Kept {
    source: Rc<RefCell<Source>>,
    attempt: u32,
    /// How much of what is kept it has sent.
    replayed: usize,
    sent: u64,
    trailers_sent: bool,
}

/// A copy of a request, to be sent if the first is lost.
pub(super) struct Spare {
    head: Request<()>,
    source: Option<Rc<RefCell<Source>>>,
}

/// Keeps up to `limit` bytes of a request's body.
pub(super) fn keep(request: Request<RequestBody>, limit: usize) -> Request<RequestBody> {
    request.map(|body| match body {
        RequestBody::Streamed(upload) => RequestBody::Kept(Kept::new(upload, limit)),
        RequestBody::None | RequestBody::Kept(_) => body,
    })
}

impl Spare {
    /// A copy of a request that is not yet sent; `None` if its body cannot be sent twice.
    pub(super) fn of(request: &Request<RequestBody>) -> Option<Self> {
        let source = match request.body() {
            RequestBody::None => None,
            RequestBody::Kept(kept) => Some(Rc::clone(&kept.source)),
            RequestBody::Streamed(_) => return None,
        };
        let mut head = Request::new(());
        *head.method_mut() = request.method().clone();
        *head.uri_mut() = request.uri().clone();
        *head.version_mut() = request.version();
        *head.headers_mut() = request.headers().clone();
        Some(Self { head, source })
    }

    /// Whether all of the body can still be sent.
    pub(super) fn is_whole(&self) -> bool {
        self.source.as_ref().is_none_or(|source| !source.borrow().spoilt)
    }

    /// The request from its beginning; whoever sent it before gets no more of its body.
    pub(super) fn request(self) -> Request<RequestBody> {
        let body =
            self.source.map_or(RequestBody::None, |source| RequestBody::Kept(Kept::again(source)));
        self.head.map(|()| body)
    }
}

impl Kept {
    fn new(upload: Upload, limit: usize) -> Self {
        let length = upload.size_hint().exact();
        let source = Source {
            upload,
            attempt: 0,
            kept: Vec::new(),
            limit,
            spoilt: false,
            trailers: None,
            ended: false,
            length,
        };
        let source = Rc::new(RefCell::new(source));
        Self { source, attempt: 0, replayed: 0, sent: 0, trailers_sent: false }
    }

    fn again(source: Rc<RefCell<Source>>) -> Self {
        let attempt = {
            let mut source = source.borrow_mut();
            source.attempt += 1;
            source.attempt
        };
        Self { source, attempt, replayed: 0, sent: 0, trailers_sent: false }
    }

    /// The next piece, from what is kept or from the client.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let source = &mut *self.source.borrow_mut();
        if source.attempt != self.attempt {
            // Another attempt reads. An end here could be taken for that of the body.
            return Poll::Pending;
        }
        let polled = if let Some(rest) = source.kept.get(self.replayed..)
            && !rest.is_empty()
        {
            self.replayed += rest.len();
            Some(Ok(Frame::data(Bytes::copy_from_slice(rest))))
        } else if source.ended {
            let trailers = source.trailers.clone().filter(|_| !self.trailers_sent);
            self.trailers_sent = true;
            trailers.map(|trailers| Ok(Frame::trailers(trailers)))
        } else {
            let polled = source.poll(cx);
            source.upload.downstream().clock.uploads(polled.is_ready());
            let read = ready!(polled);
            self.replayed = source.kept.len();
            self.trailers_sent = source.trailers.is_some();
            read
        };
        if let Some(Ok(frame)) = &polled {
            self.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        if polled.is_none() || source.is_read() && self.replayed == source.kept.len() {
            source.upload.downstream().clock.upload_ended();
        }
        Poll::Ready(polled)
    }

    /// Whether nothing is left to send.
    pub(super) fn is_end_stream(&self) -> bool {
        let source = self.source.borrow();
        let trailers_left = source.trailers.is_some() && !self.trailers_sent;
        source.is_read() && self.replayed == source.kept.len() && !trailers_left
    }

    /// How much is left to send.
    pub(super) fn size_hint(&self) -> SizeHint {
        let left = self.source.borrow().length.and_then(|length| length.checked_sub(self.sent));
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Source {
    fn is_read(&self) -> bool {
        self.ended || self.upload.is_end_stream()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let read = ready!(self.upload.poll_frame(cx));
        match &read {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.keep(data);
                } else if let Some(trailers) = frame.trailers_ref() {
                    self.trailers = Some(trailers.clone());
                    self.ended = true;
                }
            }
            Some(Err(_)) => self.spoilt = true,
            None => self.ended = true,
        }
        Poll::Ready(read)
    }

    fn keep(&mut self, data: &Bytes) {
        if self.spoilt || self.kept.len() + data.len() > self.limit {
            self.spoilt = true;
            self.kept = Vec::new();
        } else {
            self.kept.extend_from_slice(data);
        }
    }
}

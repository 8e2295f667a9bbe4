//! A response's body on its way to the client, which the access log counts.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::body::ReplyBody;
use super::downstream::Downstream;

/// A response's body. Once hyper has no more to do with it, the record of its request is told.
pub(super) struct Logged {
    body: ReplyBody,
    /// Where the record is; `None`: there is none, or it is complete.
    downstream: Option<Rc<Downstream>>,
}

impl Logged {
    /// The body of the answer to the request under way.
    pub(super) fn new(body: ReplyBody, downstream: &Rc<Downstream>) -> Self {
        let downstream = downstream.log.is_on().then(|| Rc::clone(downstream));
        Self { body, downstream }
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        let Some(downstream) = self.downstream.take() else { return };
        if self.body.is_unfinished() {
            downstream.log.fail("client_left");
        }
        drop(downstream.log.take());
    }
}

impl Body for Logged {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Some(downstream) = &self.downstream {
            match &polled {
                Poll::Ready(Some(Ok(frame))) => {
                    let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                    downstream.log.note(|record| record.bytes_out += bytes);
                }
                Poll::Ready(Some(Err(_))) => downstream.log.fail("response_broken"),
                Poll::Ready(None) | Poll::Pending => {}
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

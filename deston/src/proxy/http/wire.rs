//! One HTTP/1 connection to a server, polled by whoever holds it.

use std::cell::Cell;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::body::RequestBody;
use super::clock::Clock;
use super::upstream::{Failure, unwoken};
use crate::model::{DEFAULT_HEADERS, Limits};
use crate::proxy::stream::Stream;

/// hyper's two ends of a connection, joined again: neither does anything unless `Wire` is polled.
pub(super) struct Wire {
    sender: SendRequest<RequestBody>,
    connection: Option<http1::Connection<TokioIo<Socket>, RequestBody>>,
    heard: Rc<Cell<bool>>,
    /// hyper is done with it; it must not be polled again.
    ended: bool,
}

impl Wire {
    /// Speaks HTTP/1 on a connected socket.
    pub(super) async fn new(stream: Stream, limits: &Limits) -> Result<Self, hyper::Error> {
        let heard = Rc::new(Cell::new(false));
        let socket = Socket { stream, heard: Rc::clone(&heard) };
        let mut builder = http1::Builder::new();
        builder.max_header_size(limits.header_bytes as usize);
        if limits.headers > DEFAULT_HEADERS {
            builder.max_headers(limits.headers.into());
        }
        let (sender, connection) = builder.handshake(TokioIo::new(socket)).await?;
        Ok(Self { sender, connection: Some(connection), heard, ended: false })
    }

    /// Sends a request; returns once the response's head is there.
    pub(super) async fn send(
        &mut self,
        request: Request<RequestBody>,
        clock: &Clock,
    ) -> Result<Response<Incoming>, Failure> {
        self.heard.set(false);
        let mut response = pin!(self.sender.try_send_request(request));
        let connection = &mut self.connection;
        let ended = &mut self.ended;
        let outcome = std::future::poll_fn(|cx| {
            let over = drive(connection, ended, cx).is_ready();
            if let Poll::Ready(outcome) = response.as_mut().poll(&mut unwoken()) {
                return Poll::Ready(Some(outcome));
            }
            if over {
                // A request that hyper has not begun to write comes back when hyper is gone.
                *connection = None;
                return response.as_mut().poll(&mut unwoken()).map(Some);
            }
            if clock.is_overdue() { Poll::Ready(None) } else { Poll::Pending }
        })
        .await;
        match outcome {
            Some(Ok(response)) => Ok(response),
            Some(Err(mut failure)) => Err(match failure.take_message() {
                Some(request) => Failure::NotSent(request, failure.into_error()),
                None => {
                    let heard = self.heard.get();
                    Failure::Lost { error: failure.into_error(), heard }
                }
            }),
            None => Err(Failure::Overdue),
        }
    }

    /// Moves bytes both ways. Ready once the connection has ended.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        drive(&mut self.connection, &mut self.ended, cx)
    }

    /// Lets hyper notice what has arrived, a FIN above all, then asks it. Nobody is to be woken.
    pub(super) fn is_reusable(&mut self) -> bool {
        self.poll(&mut unwoken()).is_pending() && self.sender.is_ready()
    }

    /// Takes the socket back after a 101, with what came after that put back. `None` if the server
    /// has closed it meanwhile.
    pub(super) fn switch(mut self) -> Option<Stream> {
        // hyper lets go of the socket when polled next, without waiting for anything.
        self.poll(&mut unwoken()).is_ready().then_some(())?;
        let parts = self.connection?.into_parts();
        let mut stream = parts.io.into_inner().stream;
        stream.put_back(parts.read_buf);
        Some(stream)
    }
}

fn drive(
    connection: &mut Option<http1::Connection<TokioIo<Socket>, RequestBody>>,
    ended: &mut bool,
    cx: &mut Context<'_>,
) -> Poll<()> {
    if let Some(connection) = connection
        && !*ended
    {
        // How it ended is told to the request, or to the reader of its response's body.
        let _ = ready!(Pin::new(connection).poll(cx));
        *ended = true;
    }
    Poll::Ready(())
}

/// A server's socket, which remembers whether anything came.
struct Socket {
    stream: Stream,
    heard: Rc<Cell<bool>>,
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.heard.set(true);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Dropping the socket closes it, without a half-closed moment.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

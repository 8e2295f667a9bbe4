//! A connected socket, in clear or under TLS, with what was read of it too early.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// A connection's bytes, as both sides of the proxy read and write them.
#[derive(Debug)]
pub(crate) struct Stream {
    /// Read before anything else.
    early: Bytes,
    io: Io,
}

#[derive(Debug)]
enum Io {
    Plain(TcpStream),
    // Boxed: its state is about a kilobyte, which connections in clear shall not pay.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// A socket in clear.
    pub(crate) fn plain(stream: TcpStream) -> Self {
        Self { early: Bytes::new(), io: Io::Plain(stream) }
    }

    /// A socket under TLS, its handshake done.
    pub(crate) fn tls(stream: impl Into<TlsStream<TcpStream>>) -> Self {
        Self { early: Bytes::new(), io: Io::Tls(Box::new(stream.into())) }
    }

    /// Puts back what was read too early; it is read next.
    pub(crate) fn put_back(&mut self, early: Bytes) {
        if self.early.is_empty() {
            self.early = early;
        } else if !early.is_empty() {
            self.early = [early, self.early.split_off(0)].concat().into();
        }
    }

    /// Writes what can be written without waiting.
    pub(crate) fn write_now(&mut self, bytes: &[u8]) -> Option<io::Result<usize>> {
        self.write(bytes).now_or_never()
    }

    /// The socket below.
    pub(crate) fn tcp(&self) -> &TcpStream {
        match &self.io {
            Io::Plain(stream) => stream,
            Io::Tls(stream) => stream.get_ref().0,
        }
    }
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self::plain(stream)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return match &mut self.io {
                Io::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
                Io::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
            };
        }
        let take = self.early.len().min(buffer.remaining());
        buffer.put_slice(self.early.get(..take).unwrap_or_default());
        self.early.advance(take);
        if self.early.is_empty() {
            // Not to hold the buffer it came in for as long as the connection lives.
            self.early = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Io::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Io::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(stream) => stream.is_write_vectored(),
            Io::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Io::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

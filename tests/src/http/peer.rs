//! One end of a connection, client or server.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::wait::soon;

/// A socket with what was read beyond the last message.
#[derive(Debug)]
pub struct Peer {
    stream: Stream,
    buffer: Vec<u8>,
}

/// In clear or under TLS.
#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }

    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes).await,
            Self::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes).await,
            Self::Tls(stream) => stream.write(bytes).await,
        }
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.shutdown().await,
            Self::Tls(stream) => stream.shutdown().await,
        }
    }

    async fn read_buf(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read_buf(buffer).await,
            Self::Tls(stream) => stream.read_buf(buffer).await,
        }
    }

    async fn read_to_end(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read_to_end(buffer).await,
            Self::Tls(stream) => stream.read_to_end(buffer).await,
        }
    }
}

/// A message as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Start line and fields, without the empty line.
    pub head: String,
    /// The content; chunks joined.
    pub body: Vec<u8>,
    /// What followed the last chunk.
    pub trailers: String,
}

impl Peer {
    /// A socket that was accepted.
    pub fn new(stream: TcpStream) -> Self {
        Self { stream: Stream::Plain(stream), buffer: Vec::new() }
    }

    /// A client's end under TLS.
    pub fn tls(stream: TlsStream<TcpStream>) -> Self {
        Self { stream: Stream::Tls(Box::new(stream)), buffer: Vec::new() }
    }

    /// Connects.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = soon(TcpStream::connect(address)).await;
        let stream = stream.unwrap_or_else(|error| panic!("connecting to {address}: {error}"));
        stream.set_nodelay(true).unwrap_or_else(|error| panic!("TCP_NODELAY: {error}"));
        Self::new(stream)
    }

    /// This end's address.
    pub fn address(&self) -> SocketAddr {
        self.stream.tcp().local_addr().unwrap_or_else(|error| panic!("own address: {error}"))
    }

    /// Sends bytes.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let sent = soon(self.stream.write_all(bytes.as_ref())).await;
        sent.unwrap_or_else(|error| panic!("sending: {error}"));
    }

    /// Sends bytes, which may fail when the other end has gone.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        soon(self.stream.write_all(bytes.as_ref())).await
    }

    /// Sends until nobody makes room; returns how much was sent.
    ///
    /// The one place that goes by time: that nothing happens has no event.
    pub async fn fill_until_blocked(&mut self) -> usize {
        let chunk = vec![b'x'; 64 * 1024];
        let mut sent = 0;
        loop {
            let writing = self.stream.write(&chunk);
            match tokio::time::timeout(Duration::from_millis(300), writing).await {
                Ok(Ok(written)) => sent += written,
                Ok(Err(error)) => panic!("sending: {error}"),
                Err(_) => return sent,
            }
            assert!(sent < 512 * 1024 * 1024, "nothing holds the sender back");
        }
    }

    /// Ends this direction.
    pub async fn finish(&mut self) {
        soon(self.stream.shutdown()).await.unwrap_or_else(|error| panic!("FIN: {error}"));
    }

    /// Closes with a reset.
    pub fn reset(self) {
        self.stream.tcp().set_zero_linger().unwrap_or_else(|error| panic!("SO_LINGER: {error}"));
    }

    /// Sends a request and reads its response.
    pub async fn ask(&mut self, request: impl AsRef<[u8]>) -> Message {
        self.send(&request).await;
        if request.as_ref().starts_with(b"HEAD ") {
            return Message { head: self.head().await, body: Vec::new(), trailers: String::new() };
        }
        self.message().await
    }

    /// Reads a head, without its empty line.
    pub async fn head(&mut self) -> String {
        self.until(b"\r\n\r\n").await
    }

    /// Reads a message: a head and the body it announces.
    pub async fn message(&mut self) -> Message {
        let head = self.head().await;
        let mut message = Message { head, body: Vec::new(), trailers: String::new() };
        if message.field("transfer-encoding").is_some() {
            self.chunks(&mut message).await;
        } else if let Some(length) = message.field("content-length") {
            let length = length.parse().unwrap_or_else(|_| panic!("length {length}"));
            if !message.head.starts_with("HTTP/1.1 304") {
                message.body = self.exactly(length).await;
            }
        } else if message.head.starts_with("HTTP/1.0 200") {
            message.body = self.rest().await.unwrap_or_else(|error| panic!("body: {error}"));
        }
        message
    }

    async fn chunks(&mut self, message: &mut Message) {
        loop {
            let size = self.until(b"\r\n").await;
            let size = usize::from_str_radix(&size, 16).unwrap_or_else(|_| panic!("chunk {size}"));
            if size == 0 {
                break;
            }
            message.body.extend(self.exactly(size).await);
            assert_eq!(self.exactly(2).await, b"\r\n");
        }
        loop {
            let line = self.until(b"\r\n").await;
            if line.is_empty() {
                return;
            }
            message.trailers.push_str(&line);
            message.trailers.push('\n');
        }
    }

    /// Reads exactly `length` bytes.
    pub async fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length {
            assert!(self.more().await > 0, "ended within {length} bytes");
        }
        self.buffer.drain(..length).collect()
    }

    /// Reads what is left; an error if the end is a reset.
    pub async fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = std::mem::take(&mut self.buffer);
        soon(self.stream.read_to_end(&mut rest)).await?;
        Ok(rest)
    }

    /// Waits for a FIN, with nothing before it.
    pub async fn ended(&mut self) {
        let rest = self.rest().await.unwrap_or_else(|error| panic!("a FIN, not {error}"));
        assert_eq!(String::from_utf8_lossy(&rest), "");
    }

    async fn until(&mut self, end: &[u8]) -> String {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|bytes| bytes == end) {
                let mut text: Vec<u8> = self.buffer.drain(..at + end.len()).collect();
                text.truncate(at);
                return String::from_utf8_lossy(&text).into_owned();
            }
            let seen = String::from_utf8_lossy(&self.buffer).into_owned();
            assert!(self.more().await > 0, "ended after {seen:?}");
        }
    }

    async fn more(&mut self) -> usize {
        soon(self.stream.read_buf(&mut self.buffer))
            .await
            .unwrap_or_else(|error| panic!("reading after {:?}: {error}", self.buffer))
    }

    /// The next message, or none at the end of the connection.
    pub async fn next(&mut self) -> Option<Message> {
        if self.buffer.is_empty()
            && !self.stream.read_buf(&mut self.buffer).await.is_ok_and(|read| read > 0)
        {
            return None;
        }
        Some(self.message().await)
    }
}

impl Message {
    /// The status of a response.
    pub fn status(&self) -> u16 {
        let status = self.head.split(' ').nth(1).and_then(|status| status.parse().ok());
        status.unwrap_or_else(|| panic!("no status in {:?}", self.head))
    }

    /// The first line.
    pub fn start(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    /// A field's value; repeated fields joined.
    pub fn field(&self, name: &str) -> Option<String> {
        let values: Vec<&str> = self
            .head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .filter(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect();
        if values.is_empty() { None } else { Some(values.join(", ")) }
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

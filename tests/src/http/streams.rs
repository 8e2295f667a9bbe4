//! A client of HTTP/2 that is not ours: hyper's.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::wait::soon;

/// A connection whose requests are streams.
pub struct Streams<B = Full<Bytes>> {
    sender: SendRequest<B>,
    end: watch::Receiver<Option<Result<(), String>>>,
}

impl<B> Clone for Streams<B> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), end: self.end.clone() }
    }
}

/// A whole response.
#[derive(Debug)]
pub struct Reply {
    /// Status and fields.
    pub head: response::Parts,
    /// The content.
    pub body: Bytes,
    /// What followed it.
    pub trailers: Option<HeaderMap>,
}

impl<B> Streams<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Connects in clear, with prior knowledge.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = soon(TcpStream::connect(address)).await;
        Self::over(stream.unwrap_or_else(|error| panic!("connecting: {error}"))).await
    }

    /// Speaks on a connected socket.
    pub async fn over(io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        let shaken = http2::handshake(TokioExecutor::new(), TokioIo::new(io));
        let (sender, connection) =
            soon(shaken).await.unwrap_or_else(|error| panic!("shaking hands: {error}"));
        let (told, end) = watch::channel(None);
        tokio::spawn(async move {
            let ended = connection.await.map_err(|error| format!("{error:?}"));
            // Nobody may wait for it.
            let _ = told.send(Some(ended));
        });
        Self { sender, end }
    }

    /// Sends a request; gives its response's head once it is there.
    pub async fn send(&mut self, request: Request<B>) -> hyper::Result<Response<Incoming>> {
        soon(self.sender.ready()).await?;
        soon(self.sender.send_request(request)).await
    }

    /// Sends a request; gives its whole response.
    pub async fn ask(&mut self, request: Request<B>) -> Reply {
        let response = self.send(request).await.unwrap_or_else(|error| panic!("{error:?}"));
        Reply::of(response).await
    }

    /// Waits until the other end has ended the connection.
    pub async fn ended_by_the_other(mut self) -> Result<(), String> {
        let ended = soon(self.end.wait_for(Option::is_some)).await;
        ended.map_or(Ok(()), |ended| ended.clone().unwrap_or(Ok(())))
    }
}

impl Reply {
    /// The rest of a response.
    pub async fn of(response: Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        let collected = soon(body.collect()).await.unwrap_or_else(|error| panic!("{error:?}"));
        let trailers = collected.trailers().cloned();
        Self { head, body: collected.to_bytes(), trailers }
    }

    /// The status.
    pub fn status(&self) -> u16 {
        self.head.status.as_u16()
    }
}

/// A request without a body, for `uri`, which names the scheme and the authority.
pub fn get(uri: &str) -> Request<Full<Bytes>> {
    request("GET", uri, "")
}

/// A request with a body; an empty one is none.
pub fn request(method: &str, uri: &str, body: &str) -> Request<Full<Bytes>> {
    let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
    Request::builder().method(method).uri(uri).body(body).expect("a valid request")
}

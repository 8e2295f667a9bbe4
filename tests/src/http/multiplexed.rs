//! A server of HTTP/2, or of whatever ALPN chooses, that is not ours: hyper's.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use deston::model::Tls;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::proxied::ANY_PORT;

/// A response.
pub type Answer = Response<BoxBody<Bytes, hyper::Error>>;

/// A server that answers by itself, until dropped.
#[derive(Debug)]
pub struct Multiplexed {
    /// Where it listens.
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    leave: watch::Sender<u32>,
    _tasks: JoinSet<()>,
}

impl Multiplexed {
    /// Answers requests, under TLS or by prior knowledge.
    pub async fn start<F>(
        tls: Option<Tls>,
        answer: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let listener = TcpListener::bind(ANY_PORT).await;
        let listener = listener.unwrap_or_else(|error| panic!("binding: {error}"));
        let address = listener.local_addr().unwrap_or_else(|error| panic!("address: {error}"));
        let connections = Arc::new(AtomicUsize::new(0));
        let (leave, left) = watch::channel(0);
        let mut tasks = JoinSet::new();
        let count = Arc::clone(&connections);
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let (tls, answer, left) = (tls.clone(), answer.clone(), left.clone());
                open.spawn(async move {
                    let Some(tls) = tls else { return serve(stream, true, answer, left).await };
                    let acceptor = TlsAcceptor::from(Arc::clone(tls.config()));
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    serve(stream, is_h2, answer, left).await;
                });
                while open.try_join_next().is_some() {}
            }
        });
        Self { address, connections, leave, _tasks: tasks }
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Ends the connections there are in order: GOAWAY, and streams finish.
    pub fn leave(&self) {
        self.leave.send_modify(|times| *times += 1);
    }
}

async fn serve<F>(
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    is_h2: bool,
    answer: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    mut left: watch::Receiver<u32>,
) where
    F: Future<Output = Answer> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answered = answer(request);
        async move { Ok::<_, Infallible>(answered.await) }
    });
    left.mark_unchanged();
    let io = TokioIo::new(io);
    // How a connection ends is the proxy's matter.
    if is_h2 {
        let connection = http2::Builder::new(TokioExecutor::new()).serve_connection(io, service);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            _ = connection.as_mut() => return,
            _ = left.changed() => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    } else {
        let _ = http1::Builder::new().serve_connection(io, service).await;
    }
}

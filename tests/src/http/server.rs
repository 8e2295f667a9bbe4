//! Servers behind the proxy.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::{Message, Peer};
use crate::proxied::ANY_PORT;
use crate::wait::soon;

/// A server that the test plays.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Server {
    /// Listens on a port of the kernel's choice.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(ANY_PORT).await;
        let listener = listener.unwrap_or_else(|error| panic!("binding: {error}"));
        let address = listener.local_addr().unwrap_or_else(|error| panic!("address: {error}"));
        Self { listener, address }
    }

    /// The next connection.
    pub async fn accept(&self) -> Peer {
        let accepted = soon(self.listener.accept()).await;
        let (stream, _) = accepted.unwrap_or_else(|error| panic!("accepting: {error}"));
        stream.set_nodelay(true).unwrap_or_else(|error| panic!("TCP_NODELAY: {error}"));
        Peer::new(stream)
    }

    /// Answers every request by itself.
    pub fn answering(
        self,
        answer: impl Fn(&Message) -> String + Send + Sync + 'static,
    ) -> Answering {
        let address = self.address;
        let counts = Arc::new(Counts::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(self, Arc::new(answer), Arc::clone(&counts)));
        Answering { address, counts, _tasks: tasks }
    }
}

/// A server that answers by itself, until dropped.
#[derive(Debug)]
pub struct Answering {
    /// Where it listens.
    pub address: SocketAddr,
    counts: Arc<Counts>,
    _tasks: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Counts {
    connections: AtomicUsize,
    requests: AtomicUsize,
}

impl Answering {
    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.counts.connections.load(Ordering::SeqCst)
    }

    /// Requests answered so far.
    pub fn requests(&self) -> usize {
        self.counts.requests.load(Ordering::SeqCst)
    }
}

async fn serve<A>(server: Server, answer: Arc<A>, counts: Arc<Counts>)
where
    A: Fn(&Message) -> String + Send + Sync + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = server.listener.accept().await else { return };
        counts.connections.fetch_add(1, Ordering::SeqCst);
        let (answer, counts) = (Arc::clone(&answer), Arc::clone(&counts));
        connections.spawn(async move {
            let mut peer = Peer::new(stream);
            while let Some(request) = peer.next().await {
                counts.requests.fetch_add(1, Ordering::SeqCst);
                if peer.try_send(answer(&request)).await.is_err() {
                    return;
                }
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

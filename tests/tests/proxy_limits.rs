//! `max_connections` as the server sees it, under concurrent clients of several workers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use deston::model::Algorithm;
use deston_tests::live::{live_pool, server};
use deston_tests::proxied::Proxied;
use deston_tests::server::Server;
use deston_tests::wait::{soon, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const LIMIT: usize = 4;
const CLIENTS: usize = 16;
const CONNECTIONS: usize = 100;

/// What a server counts of its connections.
#[derive(Default)]
struct Count {
    open: AtomicUsize,
    most: AtomicUsize,
    total: AtomicUsize,
}

/// A server that greets, and counts a connection until the client has ended.
async fn counting(count: &Arc<Count>) -> Server {
    let count = Arc::clone(count);
    Server::tcp(move |mut stream| {
        let count = Arc::clone(&count);
        async move {
            let open = count.open.fetch_add(1, Ordering::SeqCst) + 1;
            count.most.fetch_max(open, Ordering::SeqCst);
            count.total.fetch_add(1, Ordering::SeqCst);
            let _ = stream.write_all(b"!").await;
            let _ = stream.read_u8().await;
            // Before this end closes, and thus before the proxy can know of it.
            count.open.fetch_sub(1, Ordering::SeqCst);
        }
    })
    .await
}

/// Connects again and again; how often a server greeted.
async fn client(address: SocketAddr) -> usize {
    let mut served = 0;
    for _ in 0..CONNECTIONS {
        served += usize::from(soon(greeted(address)).await.is_ok());
    }
    served
}

/// One connection, until its greeting. A reset may come while it is still being made.
async fn greeted(address: SocketAddr) -> std::io::Result<()> {
    TcpStream::connect(address).await?.read_u8().await?;
    Ok(())
}

#[tokio::test]
async fn a_server_never_has_more_connections_than_its_limit() {
    let count = Arc::new(Count::default());
    let counting = counting(&count).await;
    let limited = server(counting.address).max_connections(LIMIT as u32);
    let pool = live_pool(Algorithm::RoundRobin, [limited]);
    let proxied = Proxied::tcp(&pool);
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(client(proxied.address));
    }
    let served: usize = clients.join_all().await.into_iter().sum();
    until("slots are free", || pool.view().servers[0].open() == 0).await;
    assert!(count.most.load(Ordering::SeqCst) <= LIMIT);
    assert_eq!(count.total.load(Ordering::SeqCst), served);
    assert!((CONNECTIONS..CLIENTS * CONNECTIONS).contains(&served), "{served} were served");
}

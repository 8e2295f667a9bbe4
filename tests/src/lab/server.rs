//! A TCP server that says who it is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::{Namespace, server_of};
use crate::kernel::Family;

/// A TCP server that greets each connection with its number as one byte and then echoes. One
/// thread serves all connections.
pub struct TcpServer {
    address: SocketAddr,
    counts: Arc<Counts>,
    stage: watch::Sender<Stage>,
    serving: Option<JoinHandle<()>>,
}

/// How far a server has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Listening,
    /// It finishes what it has.
    Closed,
    Dead,
}

#[derive(Default)]
struct Counts {
    /// Connections that sent at least one byte, so that health probes do not count.
    served: AtomicU64,
    open: AtomicU32,
    most_open: AtomicU32,
}

impl TcpServer {
    /// Starts the `n`th server of a lab on `port` (0: any).
    pub fn start(host: &Namespace, n: u8, port: u16) -> Self {
        Self::start_at(host, n, (server_of(Family::V4, n), port).into())
    }

    /// Starts a server with a number at an address.
    pub fn start_at(host: &Namespace, n: u8, address: SocketAddr) -> Self {
        let counts = Arc::new(Counts::default());
        let (stage, stages) = watch::channel(Stage::Listening);
        let (bound, is_bound) = std::sync::mpsc::channel();
        let counted = Arc::clone(&counts);
        let serving = host.spawn_async(move || async move {
            let socket = TcpListener::bind(address).await.expect("the server's address is free");
            bound.send(socket.local_addr().unwrap()).unwrap();
            serve(socket, n, &counted, stages).await;
        });
        let address = is_bound.recv().expect("the server listens");
        Self { address, counts, stage, serving: Some(serving) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections that sent something.
    pub fn served(&self) -> u64 {
        self.counts.served.load(Ordering::SeqCst)
    }

    /// Connections that are open and have sent something.
    pub fn open(&self) -> u32 {
        self.counts.open.load(Ordering::SeqCst)
    }

    /// The most connections that were open at once and had sent something.
    pub fn most_open(&self) -> u32 {
        self.counts.most_open.load(Ordering::SeqCst)
    }

    /// Closes the listening socket; connections go on.
    pub fn close(&self) {
        self.stage.send_replace(Stage::Closed);
    }

    /// Closes the listening socket and every connection, as the kernel does for a process that is
    /// killed, and returns when that is done.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stage.send_replace(Stage::Dead);
        if let Some(serving) = self.serving.take() {
            let _ = serving.join();
        }
    }
}

impl Drop for TcpServer {
    fn drop(&mut self) {
        self.end();
    }
}

async fn serve(
    socket: TcpListener,
    n: u8,
    counts: &Arc<Counts>,
    mut stages: watch::Receiver<Stage>,
) {
    loop {
        tokio::select! {
            _ = stages.wait_for(|stage| *stage != Stage::Listening) => break,
            accepted = socket.accept() => match accepted {
                Ok((stream, _)) => drop(tokio::spawn(echo(stream, n, Arc::clone(counts)))),
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            },
        }
    }
    drop(socket);
    // The runtime goes with the thread, and every connection with it.
    let _ = stages.wait_for(|stage| *stage == Stage::Dead).await;
}

async fn echo(mut stream: TcpStream, n: u8, counts: Arc<Counts>) {
    // Small: a lab has thousands of connections.
    let mut first = [0; 1];
    if !matches!(stream.read(&mut first).await, Ok(1)) {
        return;
    }
    let open = counts.open.fetch_add(1, Ordering::SeqCst) + 1;
    counts.most_open.fetch_max(open, Ordering::SeqCst);
    counts.served.fetch_add(1, Ordering::SeqCst);
    if stream.write_all(&[n, first[0]]).await.is_ok() {
        let (mut from, mut to) = stream.split();
        let _ = tokio::io::copy(&mut from, &mut to).await;
    }
    counts.open.fetch_sub(1, Ordering::SeqCst);
}

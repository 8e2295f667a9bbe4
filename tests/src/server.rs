//! Servers of tests.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::task::JoinSet;

use crate::proxied::ANY_PORT;

/// A server on 127.0.0.1; dropping it ends it and its connections.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Server {
    /// A TCP server that runs `handle` for each connection.
    pub async fn tcp<H, F>(handle: H) -> Self
    where
        H: Fn(TcpStream) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let socket = TcpListener::bind(ANY_PORT).await.expect("a free port");
        let address = socket.local_addr().expect("a bound socket");
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = socket.accept().await {
                connections.spawn(handle(stream));
            }
        });
        Self { address, _tasks: tasks }
    }

    /// A TCP server that says its name and closes.
    pub async fn named(name: &'static str) -> Self {
        Self::tcp(move |mut stream| async move {
            // The client may be gone; that is its test's business.
            let _ = stream.write_all(name.as_bytes()).await;
        })
        .await
    }

    /// A TCP server that returns what it gets until the client ends, and then ends.
    pub async fn echo() -> Self {
        Self::tcp(|mut stream| async move {
            let (mut reader, mut writer) = stream.split();
            let _ = tokio::io::copy(&mut reader, &mut writer).await;
            let _ = writer.shutdown().await;
        })
        .await
    }

    /// A UDP server that returns each datagram with its name before it.
    pub async fn udp(name: &'static str) -> Self {
        let socket = UdpSocket::bind(ANY_PORT).await.expect("a free port");
        let address = socket.local_addr().expect("a bound socket");
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut buffer = vec![0; 65_536];
            while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
                let answer = [name.as_bytes(), &buffer[..length]].concat();
                let _ = socket.send_to(&answer, client).await;
            }
        });
        Self { address, _tasks: tasks }
    }
}

/// An address where nothing listens for TCP; its port stays taken while the guard lives.
pub fn refusing_tcp() -> (SocketAddr, impl Sized) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(ANY_PORT).expect("a free port");
    (socket.local_addr().expect("a bound socket"), socket)
}

/// An address where nothing listens for UDP; its port stays taken while the guard lives.
pub fn refusing_udp() -> (SocketAddr, impl Sized) {
    let socket = std::net::UdpSocket::bind(ANY_PORT).expect("a free port");
    let address = socket.local_addr().expect("a bound socket");
    // Connected, it takes datagrams from there alone; the kernel refuses the others.
    socket.connect((Ipv4Addr::LOCALHOST, 9)).expect("a route to loopback");
    (address, socket)
}

/// What a server says to a client that says nothing.
pub async fn answer(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

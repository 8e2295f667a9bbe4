//! Servers that say who they are.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;

use super::{Namespace, server_address};

/// A TCP server that greets each connection with its number as one byte and then echoes.
pub struct TcpServer {
    address: SocketAddr,
    counts: Arc<Counts>,
    accepting: Option<JoinHandle<()>>,
    namespace: String,
}

#[derive(Default)]
struct Counts {
    /// Connections that sent at least one byte, so that health probes do not count.
    served: AtomicU64,
    open: AtomicU32,
    most_open: AtomicU32,
    stop: AtomicBool,
}

impl TcpServer {
    /// Starts the `n`th server of a lab on `port` (0: any).
    pub fn start(host: &Namespace, n: u8, port: u16) -> Self {
        Self::start_at(host, n, SocketAddr::new(server_address(n).into(), port))
    }

    /// Starts a server of number `n` at an address of its host.
    pub fn start_at(host: &Namespace, n: u8, address: SocketAddr) -> Self {
        let bound =
            host.within(move || TcpListener::bind(address)).expect("the server's address is free");
        let address = bound.local_addr().unwrap();
        let counts = Arc::new(Counts::default());
        let accepting = {
            let counts = Arc::clone(&counts);
            std::thread::spawn(move || accept(&bound, n, &counts))
        };
        Self { address, counts, accepting: Some(accepting), namespace: host.name().to_owned() }
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

    /// Closes the listening socket.
    pub fn stop(mut self) {
        self.close();
    }

    fn close(&mut self) {
        let Some(accepting) = self.accepting.take() else { return };
        self.counts.stop.store(true, Ordering::SeqCst);
        // A last connection wakes the accepting thread.
        let (path, address) = (format!("/run/netns/{}", self.namespace), self.address);
        let _ = std::thread::spawn(move || {
            if let Ok(namespace) = std::fs::File::open(path) {
                let _ = nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET);
                let _ = TcpStream::connect(address);
            }
        })
        .join();
        let _ = accepting.join();
    }
}

impl Drop for TcpServer {
    fn drop(&mut self) {
        self.close();
    }
}

fn accept(bound: &TcpListener, n: u8, counts: &Arc<Counts>) {
    for stream in bound.incoming() {
        if counts.stop.load(Ordering::SeqCst) {
            break;
        }
        let Ok(stream) = stream else { continue };
        let counts = Arc::clone(counts);
        std::thread::Builder::new()
            .stack_size(128 * 1024)
            .spawn(move || serve(stream, n, &counts))
            .expect("a thread for a connection");
    }
}

fn serve(mut stream: TcpStream, n: u8, counts: &Counts) {
    let mut buffer = [0; 16 * 1024];
    let Ok(mut len @ 1..) = stream.read(&mut buffer) else { return };
    let open = counts.open.fetch_add(1, Ordering::SeqCst) + 1;
    counts.most_open.fetch_max(open, Ordering::SeqCst);
    counts.served.fetch_add(1, Ordering::SeqCst);
    let mut ok = stream.write_all(&[n]).is_ok();
    while ok && len > 0 {
        ok = stream.write_all(&buffer[..len]).is_ok();
        if ok {
            len = stream.read(&mut buffer).unwrap_or(0);
        }
    }
    counts.open.fetch_sub(1, Ordering::SeqCst);
}

/// A UDP server that answers each datagram with its number and the datagram.
pub struct UdpServer {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    answering: Option<JoinHandle<()>>,
}

impl UdpServer {
    /// Starts the `n`th server of a lab on `port` (0: any).
    pub fn start(host: &Namespace, n: u8, port: u16) -> Self {
        let socket = host
            .within(move || UdpSocket::bind((server_address(n), port)))
            .expect("the server's address is free");
        let address = socket.local_addr().unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_millis(100))).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let answering = {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                let mut buffer = [0; 2_048];
                while !stop.load(Ordering::SeqCst) {
                    let Ok((len, from)) = socket.recv_from(&mut buffer[1..]) else { continue };
                    buffer[0] = n;
                    let _ = socket.send_to(&buffer[..=len], from);
                }
            })
        };
        Self { address, stop, answering: Some(answering) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for UdpServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(answering) = self.answering.take() {
            let _ = answering.join();
        }
    }
}

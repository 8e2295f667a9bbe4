//! A UDP server that says who it is.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Namespace, server_of};
use crate::kernel::Family;

/// A UDP server that answers each datagram with its number and the datagram.
pub struct UdpServer {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    answering: Option<JoinHandle<()>>,
}

impl UdpServer {
    /// Starts the `n`th server of a lab on `port` (0: any).
    pub fn start(host: &Namespace, n: u8, port: u16) -> Self {
        Self::start_at(host, n, (server_of(Family::V4, n), port).into())
    }

    /// Starts a server with a number at an address.
    pub fn start_at(host: &Namespace, n: u8, address: SocketAddr) -> Self {
        let socket =
            host.within(move || UdpSocket::bind(address)).expect("the server's address is free");
        let address = socket.local_addr().unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let answering = {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                let mut buffer = vec![0; 65_536];
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

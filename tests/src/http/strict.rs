//! A server that knows exactly how many connections are open.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use socket2::SockRef;

use crate::proxied::ANY_PORT;

/// Counts the open connections at each accept, in the kernel's order of events: what has sent its
/// FIN by then is no longer open.
#[derive(Debug)]
pub struct Strict {
    /// Where it listens.
    pub address: SocketAddr,
    most: Arc<AtomicUsize>,
}

impl Strict {
    /// Listens, and answers every GET with 200. It ends with the process.
    pub fn start(expected: usize) -> Self {
        let listener = TcpListener::bind(ANY_PORT);
        let listener = listener.unwrap_or_else(|error| panic!("binding: {error}"));
        let address = listener.local_addr().unwrap_or_else(|error| panic!("address: {error}"));
        let most = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&most);
        std::thread::spawn(move || {
            let mut open: Vec<TcpStream> = Vec::with_capacity(expected);
            for stream in listener.incoming().flatten() {
                open.retain(is_open);
                if let Ok(stream) = stream.try_clone() {
                    open.push(stream);
                }
                counted.fetch_max(open.len(), Ordering::SeqCst);
                std::thread::spawn(move || answer(stream));
            }
        });
        Self { address, most }
    }

    /// The most connections that were open at once.
    pub fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

/// Whether the other end has neither closed nor reset. Never waits, though the socket blocks.
fn is_open(stream: &TcpStream) -> bool {
    // MSG_PEEK | MSG_DONTWAIT of recv(2) on Linux.
    const LOOK: i32 = 0x02 | 0x40;
    let mut byte = [std::mem::MaybeUninit::uninit()];
    match SockRef::from(stream).recv_with_flags(&mut byte, LOOK) {
        Ok(read) => read > 0,
        Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
    }
}

fn answer(mut stream: TcpStream) {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read) = stream.read(&mut buffer) {
        if read == 0 {
            // The clone kept for counting would keep the connection half open.
            let _ = stream.shutdown(std::net::Shutdown::Both);
            return;
        }
        seen.extend_from_slice(&buffer[..read]);
        if seen.ends_with(b"\r\n\r\n") {
            seen.clear();
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            if stream.write_all(answer).is_err() {
                return;
            }
        }
    }
}

//! Bodies: bytes that are sent, echoed and compared.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};

use std::time::Duration;

use super::visit::LIMIT;

/// Bytes among which a piece that is lost, repeated or moved leaves a trace: their period is a prime.
pub fn bytes(length: usize, seed: u32) -> Vec<u8> {
    const PERIOD: usize = 999_983;
    let mut state = seed | 1;
    let words = std::iter::repeat_with(|| {
        // Marsaglia's xorshift.
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()
    });
    let period: Vec<u8> = words.flatten().take(length.min(PERIOD)).collect();
    let mut bytes = period.repeat(length.div_ceil(PERIOD));
    bytes.truncate(length);
    bytes
}

/// Sends `body` over a connection of its own while reading what comes back, to the end; returns
/// the number of the server.
pub fn echoed(to: SocketAddr, body: &[u8]) -> std::io::Result<u8> {
    echoed_within(to, body, LIMIT)
}

/// The same; fails if nothing comes for `limit`.
pub fn echoed_within(to: SocketAddr, body: &[u8], limit: Duration) -> std::io::Result<u8> {
    let mut stream = TcpStream::connect_timeout(&to, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(b"x")?;
    let mut greeting = [0; 2];
    stream.read_exact(&mut greeting)?;
    let mut sending = stream.try_clone()?;
    let mut received = Vec::with_capacity(body.len());
    std::thread::scope(|scope| {
        let sent = scope.spawn(move || {
            sending.write_all(body)?;
            sending.shutdown(Shutdown::Write)
        });
        let read = stream.read_to_end(&mut received);
        if read.is_err() {
            // The sender may wait for a peer that hears nothing.
            let _ = stream.shutdown(Shutdown::Both);
        }
        let sent = sent.join().expect("the sender does not panic");
        read.and(sent)
    })?;
    assert!(received == body, "{} bytes of {} came back", received.len(), body.len());
    Ok(greeting[0])
}

/// Sends a datagram from a port of its own and returns the number of the server that echoed it.
pub fn datagram_echoed(to: SocketAddr, body: &[u8]) -> std::io::Result<u8> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(LIMIT))?;
    // Connected: the socket takes datagrams of the listener's address alone.
    socket.connect(to)?;
    socket.send(body)?;
    let mut answer = vec![0; body.len() + 2];
    let length = socket.recv(&mut answer)?;
    assert!(answer[1..length] == *body, "another datagram came back");
    Ok(answer[0])
}

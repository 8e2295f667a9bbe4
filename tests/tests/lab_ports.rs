//! SNAT ports towards a server: how many connections they carry, and how their use is told.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use deston_common::outcome::Outcome;
use deston_tests::lab::visit::{LIMIT, NO_HEALTH, PORT, config, greeted};
use deston_tests::lab::{Deston, Lab, Namespace, TcpServer, listener, server_address};
use deston_tests::require_lab;
use nix::sys::signal::Signal;
use nix::sys::socket::{Shutdown, shutdown};

/// How long a closed connection holds its port.
const HOLD: Duration = Duration::from_secs(120);

/// A server that answers and closes each connection at once.
struct Hasty {
    address: SocketAddr,
    socket: TcpListener,
    thread: Option<JoinHandle<()>>,
}

impl Hasty {
    fn start(host: &Namespace) -> Self {
        let socket = host.within(|| TcpListener::bind((server_address(1), 0)).unwrap());
        let accepting = socket.try_clone().unwrap();
        let thread = std::thread::spawn(move || {
            while let Ok((mut stream, _)) = accepting.accept() {
                let _ = stream.write_all(b"x");
            }
        });
        Self { address: socket.local_addr().unwrap(), socket, thread: Some(thread) }
    }
}

impl Drop for Hasty {
    fn drop(&mut self) {
        // Nobody is let in any more, and who waits for somebody is told.
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A connection that the server closes first, and so keeps in TIME-WAIT.
fn read_to_end(to: SocketAddr) {
    let mut stream = TcpStream::connect_timeout(&to, LIMIT).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"x");
}

#[test]
fn closed_connections_give_their_ports_to_new_ones_while_they_hold_them() {
    require_lab!();
    const PORTS: usize = 256;
    const CLIENTS: usize = 4;
    let lab = Lab::new(1);
    let hasty = Hasty::start(lab.server(1));
    let server = hasty.address;
    let ports = format!("snat_ports = \"20000-{}\"", 19_999 + PORTS);
    let hold = format!("{NO_HEALTH}\n[load_balancer.flows]\ntcp_fin = \"{}s\"", HOLD.as_secs());
    let deston = Deston::serving(&lab.balancer, &config(&ports, &hold, &[(server, "")]));

    let began = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| lab.client.spawn(|| (0..PORTS).for_each(|_| read_to_end(listener(PORT)))))
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    let took = began.elapsed();
    println!(
        "{} connections through {PORTS} ports in {took:?}, {} SYNs dropped",
        CLIENTS * PORTS,
        deston.counted(Outcome::SnatExhausted)
    );
    assert!(took < HOLD, "the ports came back by themselves: {took:?}");
}

#[test]
fn the_use_of_ports_is_told_before_they_come_to_an_end() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(lab.server(1), 1, 0);
    let ten = "snat_ports = \"20000-20009\"";
    let mut deston =
        Deston::serving(&lab.balancer, &config(ten, NO_HEALTH, &[(server.address(), "")]));
    let held: Vec<_> = (0..8).map(|_| lab.client.within(|| greeted(listener(PORT)))).collect();

    let line = deston.wait_for_log("come to an end");
    assert!(line.contains("used=8 available=10"), "{line}");
    // The second ends them at once.
    deston.signal(Signal::SIGTERM);
    deston.wait_for_log("stopping");
    deston.signal(Signal::SIGTERM);
    let line = deston.wait_for_log("the kernel counted packets");
    assert!(line.contains("SNAT ports:") && line.contains("=8/10"), "{line}");
    drop(held);
}

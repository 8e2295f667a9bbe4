//! Source lists and rate limits of the real program, in userspace.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use deston_tests::lab::Deston;

const LIMIT: Duration = Duration::from_secs(20);

/// A server that sends back what it gets.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut buffer = [0; 64];
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    stream.write_all(&buffer[..length]).unwrap();
                }
            });
        }
    });
    address
}

/// Deston with a listener of these keys, on a port that nobody else has, and the server's.
fn start(keys: &str, server: SocketAddr) -> (Deston, impl Fn(&str) -> String, SocketAddr) {
    loop {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = move |keys: &str| {
            format!(
                "[load_balancer]\naddress = \"127.0.0.1\"\nport = {}\n\
                 datapath = \"userspace\"\n{keys}\n\
                 [[server]]\naddress = \"127.0.0.1\"\nport = {}",
                address.port(),
                server.port()
            )
        };
        if let Some(deston) = Deston::local(&config(keys)) {
            return (deston, config, address);
        }
    }
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&to, LIMIT).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

/// Whether what is said comes back.
fn is_echoed(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    stream.write_all(b"?").is_ok() && stream.read_exact(&mut byte).is_ok()
}

/// Asserts that a connection is reset although the client says nothing.
#[track_caller]
fn assert_reset(to: SocketAddr) {
    // A reset may come before `connect` has looked.
    let read = |mut stream: TcpStream| {
        stream.set_read_timeout(Some(LIMIT))?;
        stream.read(&mut [0])
    };
    let error = TcpStream::connect_timeout(&to, LIMIT).and_then(read).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn denied_clients_of_both_layers_are_reset_before_they_say_anything() {
    for layer in ["L4", "L7"] {
        let keys = format!("layer = \"{layer}\"\ndeny = [\"127.0.0.0/8\"]");
        let (_deston, _, address) = start(&keys, echo());
        assert_reset(address);
    }
}

#[test]
fn a_guard_that_is_reloaded_leaves_connections_alone_and_judges_new_ones() {
    let (mut deston, config, address) = start("", echo());
    let mut open = connect(address);
    assert!(is_echoed(&mut open));
    deston.reload(&config("allow = [\"192.0.2.0/24\"]"));
    deston.wait_for_log("reloaded");
    assert_reset(address);
    assert!(is_echoed(&mut open));
    deston.reload(&config("allow = [\"192.0.2.0/24\", \"127.0.0.1\"]"));
    deston.wait_for_log("reloaded");
    assert!(is_echoed(&mut connect(address)));
}

#[test]
fn a_client_has_its_burst_and_no_more_whichever_worker_takes_it() {
    let keys = "rate_limit = { rate = \"1/h\", burst = 5 }";
    let (_deston, _, address) = start(keys, echo());
    for _ in 0..5 {
        assert!(is_echoed(&mut connect(address)));
    }
    for _ in 0..5 {
        assert_reset(address);
    }
}

#[test]
fn datagrams_of_denied_clients_are_lost_and_flows_of_others_served() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(LIMIT)).unwrap();
    let keys = "protocol = \"udp\"\ndeny = [\"127.0.0.2/32\"]";
    let (_deston, _, address) = start(keys, server.local_addr().unwrap());
    let send = |from: &str, text: &[u8]| {
        let client = UdpSocket::bind((from, 0)).unwrap();
        client.send_to(text, address).unwrap();
    };
    send("127.0.0.2", b"denied");
    send("127.0.0.1", b"served");
    let mut buffer = [0; 16];
    let (length, _) = server.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"served");
}

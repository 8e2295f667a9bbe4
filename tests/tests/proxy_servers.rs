//! Servers of the real program in userspace: probed over HTTP, ejected, drained.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::Duration;

use deston_tests::lab::Deston;

const LIMIT: Duration = Duration::from_secs(20);

/// A server that answers every request with its status, and closes.
struct Server {
    address: SocketAddr,
    /// 0: connections are reset without an answer.
    status: Arc<AtomicU16>,
}

impl Server {
    fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let status = Arc::new(AtomicU16::new(200));
        let shown = Arc::clone(&status);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                answer(stream, shown.load(Ordering::SeqCst), name);
            }
        });
        Self { address, status }
    }

    fn set(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }
}

fn answer(mut stream: TcpStream, status: u16, name: &str) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    if status == 0 {
        return socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
    // The client may be gone.
    let _ = write!(
        stream,
        "HTTP/1.1 {status} X\r\ncontent-length: 1\r\nconnection: close\r\n\r\n{name}"
    );
}

/// Deston on a port that nobody else has.
fn start(pool: &str, servers: &[(&Server, &str)]) -> (Deston, SocketAddr) {
    let servers: String = servers
        .iter()
        .map(|(server, keys)| {
            format!(
                "[[server]]\naddress = \"127.0.0.1\"\nport = {}\n{keys}\n",
                server.address.port()
            )
        })
        .collect();
    let config =
        move |keys: &str| format!("[load_balancer]\naddress = \"127.0.0.1\"\n{keys}\n{servers}");
    loop {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let keys = format!("port = {}\nlayer = \"L7\"\n{pool}", address.port());
        if let Some(deston) = Deston::local(&config(&keys)) {
            return (deston, address);
        }
    }
}

/// What a request is answered with: the body, empty without an answer.
fn get(to: SocketAddr) -> String {
    let mut stream = TcpStream::connect_timeout(&to, LIMIT).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
}

fn ten(to: SocketAddr) -> Vec<String> {
    (0..10).map(|_| get(to)).collect()
}

#[test]
fn a_server_whose_status_is_not_expected_gets_no_request_until_it_is() {
    let (a, b) = (Server::start("a"), Server::start("b"));
    let health = "[load_balancer.health]\nkind = \"http\"\npath = \"/up\"\nexpect = \"200\"\n\
                  interval = \"50ms\"\nrise = 1\nfall = 1";
    let (mut deston, address) = start(health, &[(&a, ""), (&b, "")]);
    a.set(503);
    let line = deston.wait_for_log("server is down");
    assert!(line.contains("it answers with status 503"), "{line}");
    assert_eq!(ten(address), ["b"; 10]);
    a.set(200);
    deston.wait_for_log("server is up");
    assert!(ten(address).contains(&"a".to_owned()));
}

#[test]
fn a_server_that_resets_its_connections_is_ejected() {
    let (a, b) = (Server::start("a"), Server::start("b"));
    let pool = "[load_balancer.health]\nkind = \"off\"\n[load_balancer.outlier]\nfailures = 2";
    let (mut deston, address) = start(pool, &[(&a, ""), (&b, "")]);
    a.set(0);
    for _ in 0..4 {
        get(address);
    }
    let line = deston.wait_for_log("a server is ejected");
    assert!(line.contains(&a.address.to_string()), "{line}");
    assert_eq!(ten(address), ["b"; 10]);
}

#[test]
fn a_server_that_drains_gets_no_request() {
    let (a, b) = (Server::start("a"), Server::start("b"));
    let (_deston, address) = start("", &[(&a, "drain = true"), (&b, "")]);
    assert_eq!(ten(address), ["b"; 10]);
}

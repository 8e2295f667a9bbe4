//! Reloads of the real program under load, in userspace.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use deston_tests::lab::Deston;
use nix::sys::signal::Signal;

const LIMIT: Duration = Duration::from_secs(20);
/// 10 s of reloads, one every 200 ms.
const RELOADS: usize = 50;
const EVERY: Duration = Duration::from_millis(200);

/// A port that was free a moment ago: whoever uses it looks whether it still is.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A server whose connections `serve` handles, one thread each, until the test ends.
fn server(serve: fn(TcpStream)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Answers every request on a connection with 200.
fn http(mut stream: TcpStream) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    while let Some(Ok(line)) = lines.next() {
        if line.is_empty() {
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            if stream.write_all(answer).is_err() {
                return;
            }
        }
    }
}

fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 4_096];
    while let Ok(len @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..len]).is_err() {
            return;
        }
    }
}

/// One GET on a connection that stays open; the status.
fn get(stream: &mut TcpStream, reader: &mut BufReader<TcpStream>) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: spec\r\n\r\n").unwrap();
    let mut status = String::new();
    reader.read_line(&mut status).unwrap();
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    reader.read_exact(&mut vec![0; length]).unwrap();
    status.trim().to_owned()
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&to, LIMIT).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

struct Configs {
    first: String,
    second: String,
    broken: String,
}

/// Two valid files that differ in servers, weights, algorithm and one listener, and a broken one.
fn configs(layer: &str, port: u16, servers: [SocketAddr; 3]) -> Configs {
    let carried = if layer == "L4" { "datapath = \"userspace\"\n" } else { "" };
    let text = |algorithm: &str, servers: &[(SocketAddr, u16)]| {
        let mut text = format!(
            "[load_balancer]\naddress = \"127.0.0.1\"\nport = {port}\n{carried}layer = \"{layer}\"\n\
             algorithm = \"{algorithm}\"\n"
        );
        for (server, weight) in servers {
            text += &format!(
                "[[server]]\naddress = \"127.0.0.1\"\nport = {}\nweight = {weight}\n",
                server.port()
            );
        }
        text
    };
    let [a, b, c] = servers;
    let first = text("round_robin", &[(a, 1), (b, 1)]);
    let second = text("weighted_round_robin", &[(b, 3), (c, 1)])
        + &format!(
            "[[listener]]\nname = \"other\"\naddress = \"127.0.0.2\"\nport = {port}\n{carried}layer = \"{layer}\"\n"
        );
    let broken = first.replace("algorithm", "algorithmus");
    Configs { first, second, broken }
}

/// Deston with the first of `configs`, on a port that nobody else has.
fn started(layer: &str, servers: [SocketAddr; 3]) -> (Deston, Configs, SocketAddr) {
    loop {
        let port = free_port();
        let configs = configs(layer, port, servers);
        if let Some(deston) = Deston::local(&configs.first) {
            return (deston, configs, SocketAddr::from(([127, 0, 0, 1], port)));
        }
    }
}

/// Tells of a client that has failed.
struct Failure(Sender<()>);

impl Drop for Failure {
    fn drop(&mut self) {
        if thread::panicking() {
            let _ = self.0.send(());
        }
    }
}

/// Reloads for 10 s or until a client fails, then says stop.
fn reload(deston: &mut Deston, configs: &Configs, failures: &Receiver<()>, stop: &AtomicBool) {
    for config in
        [&configs.second, &configs.broken, &configs.first].into_iter().cycle().take(RELOADS)
    {
        deston.reload(config);
        let line = deston.wait_for_log("reloaded");
        assert_eq!(line.contains("not reloaded"), config == &configs.broken, "{line}");
        if failures.recv_timeout(EVERY) != Err(RecvTimeoutError::Timeout) {
            break;
        }
    }
    stop.store(true, Ordering::Relaxed);
}

#[test]
fn no_request_fails_while_the_file_changes_every_200_ms() {
    let (mut deston, configs, to) = started("L7", [server(http), server(http), server(http)]);
    let (failed, failures) = channel();
    let (stop, requests) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..8)
        .map(|n| {
            let (stop, requests) = (Arc::clone(&stop), Arc::clone(&requests));
            let failure = Failure(failed.clone());
            thread::spawn(move || {
                let _failure = failure;
                while !stop.load(Ordering::Relaxed) {
                    let mut stream = connect(to);
                    let mut reader = BufReader::new(stream.try_clone().unwrap());
                    // Half of the clients keep their connection, half open one for each request.
                    loop {
                        assert_eq!(get(&mut stream, &mut reader), "HTTP/1.1 200 OK");
                        requests.fetch_add(1, Ordering::Relaxed);
                        if n % 2 == 1 || stop.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                }
            })
        })
        .collect();
    reload(&mut deston, &configs, &failures, &stop);
    clients.into_iter().for_each(|client| client.join().unwrap());
    let requests = requests.load(Ordering::Relaxed);
    println!("{requests} requests, none failed");
    assert!(requests > 2_000, "{requests} requests");
}

#[test]
fn no_relayed_flow_is_reset_while_the_file_changes_every_200_ms() {
    let (mut deston, configs, to) = started("L4", [server(echo), server(echo), server(echo)]);
    let (failed, failures) = channel();
    let (stop, echoes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..8)
        .map(|n| {
            let (stop, echoes) = (Arc::clone(&stop), Arc::clone(&echoes));
            let failure = Failure(failed.clone());
            thread::spawn(move || {
                let _failure = failure;
                while !stop.load(Ordering::Relaxed) {
                    let mut stream = connect(to);
                    // Half of the clients keep their flow over every reload.
                    loop {
                        stream.write_all(b"ping").unwrap();
                        stream.read_exact(&mut [0; 4]).unwrap();
                        echoes.fetch_add(1, Ordering::Relaxed);
                        if n % 2 == 1 || stop.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                }
            })
        })
        .collect();
    reload(&mut deston, &configs, &failures, &stop);
    clients.into_iter().for_each(|client| client.join().unwrap());
    let echoes = echoes.load(Ordering::Relaxed);
    println!("{echoes} echoes, no flow reset");
    assert!(echoes > 2_000, "{echoes} echoes");
}

#[test]
fn a_second_signal_ends_at_once() {
    let (mut deston, _, to) = started("L4", [server(echo), server(echo), server(echo)]);
    let mut open = connect(to);
    open.write_all(b"ping").unwrap();
    open.read_exact(&mut [0; 4]).unwrap();
    deston.signal(Signal::SIGTERM);
    deston.wait_for_log("stopping");
    deston.signal(Signal::SIGINT);
    assert_eq!(deston.wait().code(), Some(130));
}

#[test]
fn stopping_lets_a_connection_finish_and_ends_with_0() {
    let (mut deston, _, to) = started("L4", [server(echo), server(echo), server(echo)]);
    let mut open = connect(to);
    open.write_all(b"ping").unwrap();
    open.read_exact(&mut [0; 4]).unwrap();
    deston.signal(Signal::SIGTERM);
    deston.wait_for_log("stopping");
    open.write_all(b"more").unwrap();
    open.read_exact(&mut [0; 4]).unwrap();
    drop(open);
    assert_eq!(deston.wait().code(), Some(0));
}

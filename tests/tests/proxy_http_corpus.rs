//! Hostile requests, many at a time: what servers receive are exactly the requests that were
//! accepted, however the hostile bytes could be read.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deston::model::HttpTimeouts;
use deston_tests::http::frames::{Answer, Frames};
use deston_tests::http::{Lab, Setup, requests};
use deston_tests::proxied::ANY_PORT;
use deston_tests::wait::soon;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Fields that frame a message, or try to.
const FRAMINGS: [&str; 30] = [
    "",
    "Content-Length: 4\r\n",
    "Content-Length: 0\r\n",
    "Content-Length: 44\r\n",
    "content-length: 4\r\n",
    "Content-Length: 4, 4\r\n",
    "Content-Length: +4\r\n",
    "Content-Length: 4 4\r\n",
    "Content-Length: 0x4\r\n",
    "Content-Length : 4\r\n",
    "Content-Length:\t4\r\n",
    "Content-Length: 4\n",
    "Content_Length: 4\r\n",
    "Content-Length\0: 4\r\n",
    "X: y\nContent-Length: 4\r\n",
    "X: y\rContent-Length: 4\r\n",
    "X: y\r\n Content-Length: 4\r\n",
    "Transfer-Encoding: chunked\r\n",
    "transfer-encoding: CHUNKED\r\n",
    "Transfer-Encoding:\tchunked \r\n",
    "Transfer-Encoding: chunked\n",
    "Transfer-Encoding : chunked\r\n",
    "Transfer-Encoding: xchunked\r\n",
    "Transfer-Encoding: identity, chunked\r\n",
    "Transfer-Encoding: chunked, identity\r\n",
    "Transfer-Encoding: \x0bchunked\r\n",
    "Transfer_Encoding: chunked\r\n",
    "Transfer-Encoding: gzip\r\n",
    "X: y\r\n Transfer-Encoding: chunked\r\n",
    "Connection: Content-Length, Transfer-Encoding, Host\r\n",
];

/// What follows a head; `N` stands for the case.
const BODIES: [&str; 6] = [
    "0\r\n\r\nGET /N/behind HTTP/1.1\r\nHost: a\r\n\r\n",
    "4\r\nabcd\r\n0\r\n\r\nGET /N/behind HTTP/1.1\r\nHost: a\r\n\r\n",
    "0\n\nGET /N/behind HTTP/1.1\r\nHost: a\r\n\r\n",
    "0\r\n\nGET /N/behind HTTP/1.1\r\nHost: a\r\n\r\n",
    "4;\nabcd\r\n0\r\n\r\nGET /N/behind HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /N/behind HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n0\r\n\r\nGET /N/last HTTP/1.1\r\nHost: a\r\n\r\n",
];

/// A server that records what comes, and answers each complete request with its target.
struct Recorder {
    address: std::net::SocketAddr,
    connections: Arc<Mutex<Vec<Vec<u8>>>>,
    _tasks: JoinSet<()>,
}

impl Recorder {
    async fn start() -> Self {
        let listener = TcpListener::bind(ANY_PORT).await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        let all = Arc::clone(&connections);
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                open.spawn(record(stream, Arc::clone(&all)));
            }
        });
        Self { address, connections, _tasks: tasks }
    }

    /// The targets of all complete requests, sorted.
    fn targets(&self) -> Vec<String> {
        let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let mut targets = Vec::new();
        for bytes in connections.iter() {
            let text = String::from_utf8_lossy(bytes);
            let (parsed, _) = requests(bytes).unwrap_or_else(|what| panic!("{what}: {text:?}"));
            targets.extend(parsed.into_iter().map(|request| request.target));
        }
        targets.sort();
        targets
    }
}

async fn record(mut stream: TcpStream, all: Arc<Mutex<Vec<Vec<u8>>>>) {
    let place = {
        let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Vec::new());
        all.len() - 1
    };
    let (mut seen, mut answered) = (Vec::new(), 0);
    while stream.read_buf(&mut seen).await.is_ok_and(|read| read > 0) {
        all.lock().unwrap_or_else(PoisonError::into_inner)[place].clone_from(&seen);
        // What is wrong is told at the end.
        let Ok((parsed, _)) = requests(&seen) else { return };
        for request in &parsed[answered..] {
            let target = &request.target;
            let length = target.len();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{target}");
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
        answered = parsed.len();
    }
}

fn lab(server: &Recorder) -> Lab {
    // A request that is waited for in vain ends soon.
    let soon = Duration::from_millis(200);
    let timeouts = HttpTimeouts {
        request_head: soon,
        client_idle: soon,
        stream_idle: soon,
        ..Setup::default().timeouts
    };
    Setup { timeouts, workers: 2, ..Setup::default() }.start(&[server.address])
}

/// Sends bytes, and gives the targets of the requests that were answered by a server.
async fn accepted(address: std::net::SocketAddr, bytes: String) -> Vec<String> {
    let mut stream = soon(TcpStream::connect(address)).await.unwrap();
    // The proxy may close before it has read all.
    let _ = soon(stream.write_all(bytes.as_bytes())).await;
    let mut answers = Vec::new();
    let _ = soon(stream.read_to_end(&mut answers)).await;
    let text = String::from_utf8_lossy(&answers).into_owned();
    let mut rest = text.as_str();
    let mut targets = Vec::new();
    while let Some((head, behind)) = rest.split_once("\r\n\r\n") {
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |length| length.parse().unwrap());
        let (body, next) = behind.split_at_checked(length).unwrap_or((behind, ""));
        if head.starts_with("HTTP/1.1 200 ") {
            targets.push(body.to_owned());
        }
        rest = next;
    }
    targets
}

/// F1, F2, F3, F4, F6, F9, S1
#[tokio::test]
async fn servers_receive_exactly_the_requests_that_were_accepted() {
    let server = Recorder::start().await;
    let lab = lab(&server);
    let mut cases = Vec::new();
    for first in FRAMINGS {
        for second in FRAMINGS {
            // Each pair with one of the bodies, all bodies with each field.
            let number = cases.len();
            let body = BODIES[(number + number / FRAMINGS.len()) % BODIES.len()];
            let head = format!("POST /N HTTP/1.1\r\nHost: a\r\n{first}{second}\r\n");
            cases.push(format!("{head}{body}").replace('N', &number.to_string()));
        }
    }
    let mut all = Vec::new();
    let count = cases.len();
    let mut running = JoinSet::new();
    for case in cases {
        if running.len() == 64 {
            all.extend(running.join_next().await.unwrap().unwrap());
        }
        running.spawn(accepted(lab.address, case));
    }
    while let Some(targets) = running.join_next().await {
        all.extend(targets.unwrap());
    }
    all.sort();
    assert_eq!(server.targets(), all);
    let plain = all.iter().filter(|target| !target[1..].contains('/')).count();
    println!("{count} cases, {} requests accepted, {plain} of them the first", all.len());
    assert!((20..count / 2).contains(&plain), "{plain} of {count} were accepted");
    assert_eq!(lab.servers[0].streaks().longest(), 0, "no server is to blame");
}

/// V1, V2, H4
#[tokio::test]
async fn servers_receive_exactly_the_requests_that_were_accepted_from_streams() {
    const NAMES: [&str; 10] = [
        ":method",
        ":scheme",
        ":authority",
        ":path",
        "host",
        "x",
        "content-length",
        "transfer-encoding",
        "te",
        "connection",
    ];
    const VALUES: [&str; 14] = [
        "a",
        "",
        "0",
        "4",
        "GET",
        "/x y",
        "/x\r\nHost: b",
        "a\r\n\r\nGET /behind HTTP/1.1\r\nHost: a\r\n\r\n",
        "a\nb",
        "a\0",
        "chunked",
        "http",
        "trailers",
        "\u{e9}",
    ];
    let server = Recorder::start().await;
    let lab = lab(&server);
    let (mut all, mut count) = (Vec::new(), 0);
    for name in NAMES {
        for value in VALUES {
            for replaces in [true, false] {
                let path = format!("/{count}");
                count += 1;
                let plain = [
                    (":method", "GET"),
                    (":scheme", "http"),
                    (":authority", "a"),
                    (":path", &*path),
                ];
                let mut fields: Vec<(&str, &str)> = plain.to_vec();
                fields.retain(|field| !replaces || field.0 != name);
                fields.push((name, value));
                let mut client = Frames::connect(lab.address).await;
                if client.ask(1, &fields).await == Answer::Status(200) {
                    let replaced = fields.iter().find(|field| field.0 == ":path");
                    all.push(replaced.unwrap().1.to_owned());
                }
            }
        }
    }
    all.sort();
    assert_eq!(server.targets(), all);
    println!("{count} cases, {} requests accepted", all.len());
    assert!((10..count / 2).contains(&all.len()), "{} of {count} were accepted", all.len());
}

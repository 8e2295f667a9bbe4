//! Everything at once for half a minute: load by other projects' tools over HTTP/1 and HTTP/2,
//! servers that restart one after the other and drop idle connections after a second, a reload each
//! second, and WebSockets that nobody may notice any of it on.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use deston_tests::lab::{Deston, wait_until};
use deston_tests::tools::{Scratch, run, text};
use deston_tests::wait::soon;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

/// How long the load lasts, for each of both tools.
const SECONDS: u32 = 30;
/// The least of both together.
const REQUESTS: u64 = 100_000;
/// The least that all servers together restart.
const RESTARTS: u32 = 10;
const WEBSOCKETS: usize = 20;

/// An nginx that ends in order when dropped.
struct Nginx {
    child: Child,
}

impl Nginx {
    fn start(scratch: &Scratch, port: u16) -> Self {
        let place = scratch.path().display().to_string();
        let config = scratch.write(
            &format!("{port}.conf"),
            format!(
                "worker_processes 1; daemon off; pid {place}/{port}.pid; error_log {place}/{port}.log;
                 events {{ worker_connections 4096; }}
                 http {{
                     access_log off; keepalive_timeout 1s; keepalive_requests 10000;
                     client_body_temp_path {place}; proxy_temp_path {place};
                     fastcgi_temp_path {place}; uwsgi_temp_path {place}; scgi_temp_path {place};
                     server {{
                         listen 127.0.0.1:{port} reuseport;
                         location / {{ return 200 \"hello from {port}\"; }}
                     }}
                 }}"
            ),
        );
        let child = Command::new("nginx")
            .args(["-c", &config, "-p", &place])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("nginx: {error}"));
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        wait_until("nginx listens", || std::net::TcpStream::connect(address).is_ok());
        Self { child }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // QUIT: requests under way are answered, idle connections are closed.
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGQUIT);
        let _ = self.child.wait();
    }
}

fn free_ports<const N: usize>() -> [u16; N] {
    let sockets = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    sockets.map(|socket| socket.local_addr().expect("an address").port())
}

fn config(weight: u32, web: u16, chat: u16, servers: [u16; 2], chat_server: u16) -> String {
    let [one, other] = servers;
    format!(
        "[[listener]]\nname = \"web\"\naddress = \"127.0.0.1\"\nport = {web}\nlayer = \"L7\"\n\
         pool = \"app\"\n\
         [[listener]]\nname = \"chat\"\naddress = \"127.0.0.1\"\nport = {chat}\nlayer = \"L7\"\n\
         pool = \"chat\"\n\
         [[pool]]\nname = \"app\"\nalgorithm = \"weighted_round_robin\"\n\
         [pool.outlier]\neject = \"1s\"\n\
         [pool.health]\ninterval = \"200ms\"\nrise = 1\n\
         [[server]]\npool = \"app\"\nport = {one}\naddress = \"127.0.0.1\"\nweight = {weight}\n\
         [[server]]\npool = \"app\"\nport = {other}\naddress = \"127.0.0.1\"\n\
         [[pool]]\nname = \"chat\"\n\
         [[server]]\npool = \"chat\"\nport = {chat_server}\naddress = \"127.0.0.1\"\n"
    )
}

/// Echoes what it gets.
async fn chat_server() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_text() && socket.send(message).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

/// A WebSocket that says something now and then until told to stop; how often it was answered.
async fn chat(address: SocketAddr, stop: Arc<AtomicBool>) -> u32 {
    let stream = TcpStream::connect(address).await.unwrap();
    let opened = tokio_tungstenite::client_async(format!("ws://{address}/"), stream).await;
    let (mut socket, _) = opened.unwrap();
    let mut answered = 0;
    while !stop.load(Ordering::Relaxed) {
        let said = Message::text(format!("message {answered}"));
        socket.send(said.clone()).await.unwrap();
        assert_eq!(soon(socket.next()).await.unwrap().unwrap(), said);
        answered += 1;
        // The pace of somebody who types.
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    answered
}

/// The number before a word of what a tool has printed.
fn number(printed: &str, word: &str) -> u64 {
    let mut words = printed.split_whitespace().collect::<Vec<_>>().into_iter().rev();
    words
        .find(|found| found.trim_end_matches(',') == word)
        .and_then(|_| words.next()?.parse().ok())
        .unwrap_or_else(|| panic!("no number of {word} in {printed}"))
}

#[tokio::test]
async fn nothing_fails_while_servers_restart_and_the_configuration_changes() {
    let scratch = Arc::new(Scratch::default());
    let chat_server = chat_server().await;
    let (mut deston, [web, chat_port, one, other]) = loop {
        let ports: [u16; 4] = free_ports();
        let [web, chat, one, other] = ports;
        let started = Deston::local(&config(1, web, chat, [one, other], chat_server));
        if let Some(deston) = started {
            break (deston, ports);
        }
    };
    let mut servers = [one, other].map(|port| Some(Nginx::start(&scratch, port)));
    let url = format!("http://127.0.0.1:{web}/");
    let address = SocketAddr::from(([127, 0, 0, 1], web));
    wait_until("both servers are up", || {
        let answers = (0..4).filter_map(|_| {
            let mut stream = std::net::TcpStream::connect(address).ok()?;
            use std::io::{Read as _, Write as _};
            stream.write_all(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n").ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            answer.lines().last().map(str::to_owned)
        });
        answers.collect::<std::collections::BTreeSet<_>>().len() == 2
    });

    let stop = Arc::new(AtomicBool::new(false));
    let chatting: Vec<_> = (0..WEBSOCKETS)
        .map(|_| {
            let address = SocketAddr::from(([127, 0, 0, 1], chat_port));
            tokio::spawn(chat(address, Arc::clone(&stop)))
        })
        .collect();

    let restarts = Arc::new(AtomicU32::new(0));
    let restarting = {
        let (stop, restarts) = (Arc::clone(&stop), Arc::clone(&restarts));
        let scratch = Arc::clone(&scratch);
        std::thread::spawn(move || {
            for place in (0..2).cycle() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                drop(servers[place].take());
                servers[place] = Some(Nginx::start(&scratch, [one, other][place]));
                restarts.fetch_add(1, Ordering::Relaxed);
                // Its server is probed, found up again and takes its share.
                std::thread::sleep(Duration::from_millis(1_500));
            }
            servers
        })
    };
    let reloading = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            let mut reloads = 0;
            while !stop.load(Ordering::Relaxed) {
                reloads += 1;
                deston.reload(&config(1 + reloads % 3, web, chat_port, [one, other], chat_server));
                let next = Instant::now() + Duration::from_secs(1);
                deston.wait_for_log("reloaded");
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            (deston, reloads)
        })
    };

    let duration = format!("{SECONDS}s");
    let wrk = ["-t", "1", "-c", "16", "-d", &duration, &url];
    let seconds = SECONDS.to_string();
    let h2load = ["-D", &seconds, "-c", "4", "-m", "8", "--warm-up-time", "0", &url];
    let (wrk, h2load) = tokio::join!(run("wrk", &wrk), run("h2load", &h2load));
    stop.store(true, Ordering::Relaxed);
    let (wrk, h2load) = (text(&wrk), text(&h2load));
    for session in chatting {
        assert!(soon(session).await.unwrap() >= SECONDS, "messages of a WebSocket");
    }
    drop(tokio::task::spawn_blocking(move || restarting.join().unwrap()).await.unwrap());
    let reloaded = tokio::task::spawn_blocking(move || reloading.join().unwrap());
    let (_deston, reloads) = reloaded.await.unwrap();

    assert!(!wrk.contains("Non-2xx") && !wrk.contains("Socket errors"), "{wrk}");
    let by_http_1 = number(&wrk, "requests");
    let (by_http_2, failed) = (number(&h2load, "succeeded"), number(&h2load, "failed"));
    assert_eq!((failed, number(&h2load, "errored")), (0, 0), "{h2load}");
    let restarts = restarts.load(Ordering::Relaxed);
    println!(
        "{by_http_1} requests by HTTP/1 and {by_http_2} by HTTP/2 in {SECONDS} s, {restarts} restarts, \
         {reloads} reloads, {WEBSOCKETS} WebSockets: none failed"
    );
    assert!(by_http_1 + by_http_2 >= REQUESTS, "{by_http_1} and {by_http_2} requests");
    assert!(restarts >= RESTARTS, "{restarts} restarts");
    assert!(reloads >= SECONDS / 2, "{reloads} reloads");
}

//! Layer 4 TCP in userspace: selection, relay, ends. Real sockets on 127.0.0.1.

#![expect(clippy::unwrap_used, reason = "a specification fails by panicking")]

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use deston::model::{Algorithm, PoolTimeouts};
use deston_tests::live::{TIMEOUTS, live_pool, live_pool_with, server};
use deston_tests::proxied::Proxied;
use deston_tests::server::{Server, answer, refusing_tcp};
use deston_tests::wait::{soon, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// The answers to `count` connections, one after the other.
async fn answers(address: SocketAddr, count: usize) -> String {
    let mut all = String::new();
    for _ in 0..count {
        all += &soon(answer(address)).await.unwrap();
    }
    all
}

/// A stream's end as its reader sees it.
async fn end_of(stream: &mut TcpStream) -> Result<String, ErrorKind> {
    let mut text = String::new();
    match soon(stream.read_to_string(&mut text)).await {
        Ok(_) => Ok(text),
        Err(error) => Err(error.kind()),
    }
}

#[tokio::test]
async fn connections_go_to_each_server_in_turn_whichever_worker_takes_them() {
    let (a, b) = (Server::named("a").await, Server::named("b").await);
    let pool = live_pool(Algorithm::RoundRobin, [server(a.address), server(b.address)]);
    let proxied = Proxied::tcp(&pool);
    assert_eq!(answers(proxied.address, 20).await, "ab".repeat(10));
}

#[tokio::test]
async fn weights_are_exact_over_a_cycle() {
    let (a, b) = (Server::named("a").await, Server::named("b").await);
    let servers = [server(a.address).weight(3), server(b.address).weight(1)];
    let proxied = Proxied::tcp(&live_pool(Algorithm::WeightedRoundRobin, servers));
    let answers = answers(proxied.address, 40).await;
    for cycle in answers.as_bytes().chunks(4) {
        let of_a = cycle.iter().filter(|&&name| name == b'a').count();
        assert_eq!(of_a, 3, "{answers}");
    }
}

#[tokio::test]
async fn a_client_address_always_reaches_the_same_server() {
    let (a, b) = (Server::named("a").await, Server::named("b").await);
    let pool = live_pool(Algorithm::IpHashing, [server(a.address), server(b.address)]);
    let proxied = Proxied::tcp(&pool);
    let mut seen = String::new();
    for host in 1..=20 {
        let mut of_client = Vec::new();
        for _ in 0..3 {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind((Ipv4Addr::new(127, 0, 1, host), 0).into()).unwrap();
            let mut client = soon(socket.connect(proxied.address)).await.unwrap();
            of_client.push(end_of(&mut client).await.unwrap());
        }
        assert!(of_client.iter().all(|name| *name == of_client[0]), "{of_client:?}");
        seen += &of_client[0];
    }
    assert!(seen.contains('a') && seen.contains('b'), "both serve some clients: {seen}");
}

#[tokio::test]
async fn a_client_that_has_ended_still_gets_its_answer() {
    let echo = Server::tcp(|mut stream| async move {
        let mut question = String::new();
        stream.read_to_string(&mut question).await.unwrap();
        stream.write_all(question.to_uppercase().as_bytes()).await.unwrap();
    })
    .await;
    let proxied = Proxied::tcp(&live_pool(Algorithm::RoundRobin, [server(echo.address)]));
    let mut client = soon(TcpStream::connect(proxied.address)).await.unwrap();
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(end_of(&mut client).await.unwrap(), "QUESTION");
}

#[tokio::test]
async fn a_server_that_has_ended_still_gets_what_the_client_sends() {
    let (heard, mut hears) = mpsc::channel(1);
    let early = Server::tcp(move |mut stream| {
        let heard = heard.clone();
        async move {
            stream.write_all(b"all I have to say").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut rest = String::new();
            stream.read_to_string(&mut rest).await.unwrap();
            heard.send(rest).await.unwrap();
        }
    })
    .await;
    let proxied = Proxied::tcp(&live_pool(Algorithm::RoundRobin, [server(early.address)]));
    let mut client = soon(TcpStream::connect(proxied.address)).await.unwrap();
    assert_eq!(end_of(&mut client).await.unwrap(), "all I have to say");
    client.write_all(b"and all I have").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(soon(hears.recv()).await.unwrap(), "and all I have");
}

#[tokio::test]
async fn large_transfers_arrive_whole_both_ways_at_once() {
    const SIZE: usize = 50_000_000;
    let echo = Server::echo().await;
    let proxied = Proxied::tcp(&live_pool(Algorithm::RoundRobin, [server(echo.address)]));
    let client = soon(TcpStream::connect(proxied.address)).await.unwrap();
    let (mut reader, mut writer) = client.into_split();
    let sent = Arc::new(noise(SIZE));
    let mut tasks = JoinSet::new();
    let bytes = Arc::clone(&sent);
    tasks.spawn(async move {
        writer.write_all(&bytes).await.unwrap();
        writer.shutdown().await.unwrap();
    });
    let mut received = Vec::with_capacity(SIZE);
    soon(reader.read_to_end(&mut received)).await.unwrap();
    assert_eq!(received.len(), SIZE);
    assert!(received == *sent, "the bytes differ");
    tasks.join_next().await.unwrap().unwrap();
}

/// Bytes without a short period (xorshift64*).
fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut word = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes()
    };
    (0..size / 8).flat_map(|_| word()).collect()
}

#[tokio::test]
async fn a_server_that_refuses_is_skipped() {
    let (refusing, _taken) = refusing_tcp();
    let up = Server::named("up").await;
    let pool = live_pool(Algorithm::RoundRobin, [server(refusing), server(up.address)]);
    let proxied = Proxied::tcp(&pool);
    assert_eq!(answers(proxied.address, 4).await, "upupupup");
    assert_eq!(pool.view().servers[0].open(), 0, "a failed connection holds no slot");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_skipped_at_the_connect_deadline() {
    let full = socket_with_full_queue().await;
    let up = Server::named("up").await;
    let timeouts = PoolTimeouts { connect: Duration::from_millis(50), ..TIMEOUTS };
    let servers = [server(full.address), server(up.address)];
    let proxied = Proxied::tcp(&live_pool_with(Algorithm::RoundRobin, timeouts, servers));
    assert_eq!(answers(proxied.address, 1).await, "up");
}

#[tokio::test]
async fn a_client_does_not_wait_for_a_third_server_that_does_not_answer() {
    let silent = [socket_with_full_queue().await, socket_with_full_queue().await];
    let up = Server::named("up").await;
    let timeouts = PoolTimeouts { connect: Duration::from_millis(50), ..TIMEOUTS };
    let addresses = [silent[0].address, silent[1].address, up.address];
    let pool = live_pool_with(Algorithm::RoundRobin, timeouts, addresses.map(server));
    let proxied = Proxied::tcp(&pool);
    let error = soon(answer(proxied.address)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(pool.view().servers[2].opened(), 0);
}

struct FullQueue {
    address: SocketAddr,
    _listening: tokio::net::TcpListener,
    _queued: Vec<TcpStream>,
}

/// A listening socket whose queue is full: the kernel drops further SYNs.
async fn socket_with_full_queue() -> FullQueue {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let listening = socket.listen(0).unwrap();
    let address = listening.local_addr().unwrap();
    // A backlog of 0 has room for one connection.
    let queued = vec![soon(TcpStream::connect(address)).await.unwrap()];
    FullQueue { address, _listening: listening, _queued: queued }
}

#[tokio::test]
async fn a_client_that_no_server_can_serve_is_reset() {
    let (refusing, _taken) = refusing_tcp();
    let proxied = Proxied::tcp(&live_pool(Algorithm::RoundRobin, [server(refusing)]));
    let error = soon(answer(proxied.address)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_client_of_an_empty_pool_is_reset() {
    let proxied = Proxied::tcp(&live_pool(Algorithm::RoundRobin, []));
    let error = soon(answer(proxied.address)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_client_s_reset_resets_the_server() {
    let (ended, mut ends) = mpsc::channel(1);
    let waiting = Server::tcp(move |mut stream| {
        let ended = ended.clone();
        async move {
            stream.write_all(b"!").await.unwrap();
            ended.send(end_of(&mut stream).await).await.unwrap();
        }
    })
    .await;
    let proxied = Proxied::tcp(&live_pool(Algorithm::RoundRobin, [server(waiting.address)]));
    let mut client = soon(TcpStream::connect(proxied.address)).await.unwrap();
    soon(client.read_u8()).await.unwrap();
    client.set_zero_linger().unwrap();
    drop(client);
    assert_eq!(soon(ends.recv()).await.unwrap(), Err(ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn a_server_s_reset_resets_the_client() {
    let resetting = Server::tcp(|mut stream| async move {
        stream.read_u8().await.unwrap();
        stream.set_zero_linger().unwrap();
    })
    .await;
    let proxied = Proxied::tcp(&live_pool(Algorithm::RoundRobin, [server(resetting.address)]));
    let mut client = soon(TcpStream::connect(proxied.address)).await.unwrap();
    client.write_all(b"x").await.unwrap();
    assert_eq!(end_of(&mut client).await, Err(ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn a_client_that_reads_late_gets_all_that_a_server_said_before_it_left() {
    let said = "all I have to say, ".repeat(2_000);
    let says = said.clone();
    let (left, mut leaves) = tokio::sync::mpsc::channel(1);
    let leaving = Server::tcp(move |mut stream| {
        let (says, left) = (says.clone(), left.clone());
        async move {
            stream.read_u8().await.unwrap();
            // Closed with everything read: a FIN, then a reset for whatever else comes.
            stream.write_all(says.as_bytes()).await.unwrap();
            drop(stream);
            left.send(()).await.unwrap();
        }
    })
    .await;
    let pool = live_pool(Algorithm::RoundRobin, [server(leaving.address)]);
    let proxied = Proxied::tcp(&pool);
    let socket = TcpSocket::new_v4().unwrap();
    // Nearly all of it has to wait in the proxy's socket.
    socket.set_recv_buffer_size(2_048).unwrap();
    let mut client = soon(socket.connect(proxied.address)).await.unwrap();
    client.write_all(b"?").await.unwrap();
    // What came before would be left unread, and make the close a reset without a FIN.
    soon(leaves.recv()).await.unwrap();
    soon(async {
        while pool.view().servers[0].open() == 1 {
            client.write_all(b"more").await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let heard = end_of(&mut client).await;
    assert_eq!(heard.as_ref().map(String::len), Ok(said.len()));
    assert!(heard == Ok(said), "the bytes differ");
}

#[tokio::test]
async fn connections_beyond_the_limits_are_reset_and_closed_ones_make_room() {
    let (a, b) = (Server::echo().await, Server::echo().await);
    let limited = [server(a.address).max_connections(2), server(b.address).max_connections(3)];
    let pool = live_pool(Algorithm::RoundRobin, limited);
    let proxied = Proxied::tcp(&pool);
    let mut served = Vec::new();
    for _ in 0..8 {
        if let Ok(client) = soon(served_by_echo(proxied.address)).await {
            served.push(client);
        }
    }
    assert_eq!(served.len(), 5);
    drop(served);
    until("slots are free", || pool.view().servers.iter().all(|s| s.open() == 0)).await;
    soon(served_by_echo(proxied.address)).await.unwrap();
}

/// A connection that an echo server has answered. A reset may come while it is still being made.
async fn served_by_echo(address: SocketAddr) -> std::io::Result<TcpStream> {
    let mut client = TcpStream::connect(address).await?;
    client.write_all(b"x").await?;
    client.read_u8().await?;
    Ok(client)
}

#[tokio::test]
async fn a_full_server_s_idle_connection_gives_way() {
    let up = Server::named("up").await;
    let pool = live_pool(Algorithm::RoundRobin, [server(up.address).max_connections(1)]);
    let proxied = Proxied::tcp(&pool);
    let full = Arc::clone(&pool.view().servers[0]);
    let idle = full.claim().unwrap().park().unwrap();
    let holder = async {
        full.asked_to_give_way().await;
        drop(idle);
    };
    let (answer, ()) = soon(async { tokio::join!(answer(proxied.address), holder) }).await;
    assert_eq!(answer.unwrap(), "up");
}

//! What the access log tells of requests.

use std::time::Duration;

use deston::model::{Access, HttpTimeouts, Log, Template};
use deston_tests::http::{Authority, Lab, Records, Server, Setup, Streams, get};
use deston_tests::server::refusing_tcp;
use serde_json::{Value, json};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn whole(access: Access) -> Log {
    Log { access, sample: 1_000_000, errors_always: true }
}

/// A proxy in front of a server that says "ok", and its log.
async fn logging(log: &Log) -> (Lab, Records, deston_tests::http::Answering) {
    let server = Server::start().await.answering(|_| OK.to_owned());
    let (lab, records) = Setup::default().start_logging(log, |_| {}, &[server.address]);
    (lab, records, server)
}

#[track_caller]
fn has(record: &Value, expected: &[(&str, Value)]) {
    for (field, value) in expected {
        assert_eq!(&record[field], value, "{field} of {record}");
    }
}

#[tokio::test]
async fn a_request_is_told_with_what_became_of_it() {
    let (lab, mut records, _server) = logging(&whole(Access::Json)).await;
    let mut client = lab.client().await;
    client
        .ask(
            "POST /a?b=c HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: it\r\nReferer: /x\r\n\
             Content-Length: 3\r\n\r\nabc",
        )
        .await;
    let record = records.next().await;
    has(
        &record,
        &[
            ("event", json!("request")),
            ("listener", json!("test")),
            ("client", json!("127.0.0.1")),
            ("method", json!("POST")),
            ("host", json!("shop.example")),
            ("path", json!("/a?b=c")),
            ("status", json!(200)),
            ("bytes_in", json!(3)),
            ("bytes_out", json!(2)),
            ("server", json!("0")),
            ("retries", json!(0)),
            ("tls", json!(null)),
            ("http", json!("HTTP/1.1")),
            ("user_agent", json!("it")),
            ("referer", json!("/x")),
            ("reason", json!(null)),
        ],
    );
    let [head, whole] =
        ["response_head_seconds", "duration_seconds"].map(|field| record[field].as_f64().unwrap());
    assert!(0.0 < head && head <= whole, "{record}");
}

#[tokio::test]
async fn every_request_of_a_connection_has_one_record() {
    let (lab, mut records, _server) = logging(&whole(Access::Json)).await;
    let mut client = lab.client().await;
    let requests: String =
        (0..5).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    client.send(requests).await;
    for n in 0..5 {
        client.message().await;
        assert_eq!(records.next().await["path"], format!("/{n}"));
    }
    drop(client);
    assert_eq!(lab.drain(Duration::from_secs(10)).await.aborted, 0);
    assert_eq!(records.rest(), [""; 0]);
}

#[tokio::test]
async fn refused_requests_are_told_with_the_reason() {
    let (lab, mut records, _server) = logging(&whole(Access::Json)).await;
    let too_long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    for (request, status, reason) in [
        ("GET / HTTP/1.1\r\n\r\n", 400, "host_missing"),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405, "method"),
        ("NO HTTP\r\n\r\n", 400, "malformed"),
        (&too_long, 431, "malformed"),
    ] {
        let mut client = lab.client().await;
        // The answer may come before the whole request has gone.
        let _ = client.try_send(request).await;
        let record = records.next().await;
        has(&record, &[("status", json!(status)), ("reason", json!(reason))]);
    }
    drop(lab);
    assert_eq!(records.rest(), [""; 0]);
}

#[tokio::test]
async fn a_request_that_no_server_answers_is_told_with_the_server_and_the_reason() {
    let (address, _socket) = refusing_tcp();
    let log = whole(Access::Json);
    let (lab, mut records) = Setup::default().start_logging(&log, |_| {}, &[address]);
    let answer = lab.client().await.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(answer.status(), 502);
    let record = records.next().await;
    has(&record, &[("status", json!(502)), ("reason", json!("connect")), ("server", json!("0"))]);
}

#[tokio::test]
async fn a_head_that_takes_too_long_is_told() {
    let setup = Setup {
        timeouts: HttpTimeouts {
            request_head: Duration::from_millis(50),
            ..Setup::default().timeouts
        },
        ..Setup::default()
    };
    let server = Server::start().await;
    let (lab, mut records) = setup.start_logging(&whole(Access::Json), |_| {}, &[server.address]);
    let mut client = lab.client().await;
    client.send("GET / HT").await;
    has(&records.next().await, &[("status", json!(408)), ("reason", json!("head_overdue"))]);
}

#[tokio::test]
async fn a_client_that_leaves_before_or_within_its_response_is_told_once() {
    let server = Server::start().await;
    let log = whole(Access::Json);
    let (lab, mut records) = Setup::default().start_logging(&log, |_| {}, &[server.address]);
    let mut client = lab.client().await;
    client.send("GET /before HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut upstream = server.accept().await;
    upstream.message().await;
    client.reset();
    let record = records.next().await;
    has(&record, &[("path", json!("/before")), ("status", json!(null))]);
    has(&record, &[("reason", json!("client_left"))]);

    let mut client = lab.client().await;
    client.send("GET /within HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut upstream = server.accept().await;
    upstream.message().await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345").await;
    client.head().await;
    client.reset();
    // Something must be on its way for the reset to be seen.
    let record = records.next().await;
    has(&record, &[("path", json!("/within")), ("status", json!(200))]);
    has(&record, &[("reason", json!("client_left")), ("bytes_out", json!(5))]);
    drop(lab);
    assert_eq!(records.rest(), [""; 0]);
}

#[tokio::test]
async fn a_response_that_breaks_off_is_told() {
    let server = Server::start().await;
    let log = whole(Access::Json);
    let (lab, mut records) = Setup::default().start_logging(&log, |_| {}, &[server.address]);
    let mut client = lab.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut upstream = server.accept().await;
    upstream.message().await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345").await;
    drop(upstream);
    let record = records.next().await;
    has(&record, &[("status", json!(200)), ("reason", json!("response_broken"))]);
}

#[tokio::test]
async fn a_websocket_is_told_at_its_end_with_its_bytes() {
    let server = Server::start().await;
    let log = whole(Access::Json);
    let (lab, mut records) = Setup::default().start_logging(&log, |_| {}, &[server.address]);
    let mut client = lab.client().await;
    client
        .send(
            "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .await;
    let mut upstream = server.accept().await;
    upstream.message().await;
    upstream
        .send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        )
        .await;
    client.head().await;
    client.send("12345").await;
    upstream.exactly(5).await;
    upstream.send("123").await;
    client.exactly(3).await;
    client.finish().await;
    upstream.ended().await;
    upstream.finish().await;
    let record = records.next().await;
    has(&record, &[("path", json!("/chat")), ("status", json!(101)), ("reason", json!(null))]);
    has(&record, &[("bytes_in", json!(5)), ("bytes_out", json!(3))]);
    drop(lab);
    assert_eq!(records.rest(), [""; 0]);
}

#[tokio::test]
async fn requests_under_tls_and_http_2_are_told_with_their_versions() {
    let server = Server::start().await.answering(|_| OK.to_owned());
    let authority = Authority::new();
    let (lab, mut records) = Setup::default().start_logging(
        &whole(Access::Json),
        |l7| l7.tls = Some(authority.serve(&[&["shop.example"]])),
        &[server.address],
    );
    let mut client = authority.client(&[], None).connect(lab.address, "shop.example").await;
    client.ask("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
    let record = records.next().await;
    has(&record, &[("tls", json!("TLSv1.3")), ("http", json!("HTTP/1.1"))]);

    let (lab, mut records, _server) = logging(&whole(Access::Json)).await;
    let mut streams = Streams::connect(lab.address).await;
    assert_eq!(streams.ask(get("http://shop.example/two")).await.status(), 200);
    let record = records.next().await;
    has(&record, &[("http", json!("HTTP/2")), ("host", json!("shop.example"))]);
    has(&record, &[("path", json!("/two")), ("status", json!(200)), ("bytes_out", json!(2))]);
}

#[tokio::test]
async fn what_a_client_writes_into_its_fields_stays_within_them() {
    let agent = "\" 200 1 \\ \u{9b}2J\t{\"status\":1}";
    let request = format!("GET /\"x HTTP/1.1\r\nHost: a\r\nUser-Agent: {agent}\r\n\r\n");
    let (lab, mut records, _server) = logging(&whole(Access::Json)).await;
    lab.client().await.ask(&request).await;
    let record = records.next().await;
    has(&record, &[("user_agent", json!(agent)), ("status", json!(200)), ("path", json!("/\"x"))]);

    let (lab, mut records, _server) = logging(&whole(Access::Combined)).await;
    lab.client().await.ask(&request).await;
    let line = records.line().await;
    assert!(line.contains("] \"GET /\\x22x HTTP/1.1\" 200 2 \"-\" \"\\x22 200 1 \\x5C"), "{line}");
    assert_eq!(line.matches('"').count(), 6, "{line}");

    let template = Template::parse("$status <$user_agent>").unwrap();
    let (lab, mut records, _server) = logging(&whole(Access::Template(template))).await;
    lab.client().await.ask(&request).await;
    assert!(records.line().await.starts_with("200 <\\x22 200 1 \\x5C \\xC2\\x9B2J\\x09{"));
}

#[tokio::test]
async fn of_a_sample_of_none_failures_alone_are_told() {
    let log = Log { sample: 0, ..whole(Access::Json) };
    let (lab, mut records, _server) = logging(&log).await;
    lab.client().await.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    lab.client().await.ask("GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(records.next().await["status"], 400);
    drop(lab);
    assert_eq!(records.rest(), [""; 0]);
}

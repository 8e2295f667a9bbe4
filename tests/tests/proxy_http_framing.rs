//! Where requests end: the framing that a server is sent is never open to a second reading.

use deston::model::{Mode, Rules};
use deston_tests::http::{Lab, Server, Setup};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const GET: &str = "GET /get HTTP/1.1\r\nHost: a\r\n\r\n";
const FIXED: &str = "POST /fixed HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
const CHUNKED: &str =
    "POST /chunked HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
const BOTH: &str = "POST /both HTTP/1.1\r\nHost: a\r\nContent-Length: 13\r\n\
    Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
const BOTH_TURNED: &str = "POST /both HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\n\
    CONTENT-LENGTH: 13\r\n\r\n3\r\nabc\r\n0\r\n\r\n";

async fn lab(setup: Setup) -> (Lab, impl Sized) {
    let server = Server::start().await.answering(|_| OK.to_owned());
    (setup.start(&[server.address]), server)
}

/// F1, F9
#[tokio::test]
async fn a_length_beside_a_coding_is_refused_and_ends_the_connection() {
    let (lab, _server) = lab(Setup::default()).await;
    for request in [BOTH, BOTH_TURNED] {
        let mut client = lab.client().await;
        client.send(request).await;
        assert_eq!(client.message().await.status(), 400);
        client.ended().await;
    }
    assert_eq!(lab.servers[0].opened(), 0);
}

/// F1
#[tokio::test]
async fn a_length_beside_a_coding_is_refused_wherever_it_comes_on_a_connection() {
    let (lab, _server) = lab(Setup::default()).await;
    for before in [GET, FIXED, CHUNKED] {
        let mut client = lab.client().await;
        for _ in 0..2 {
            assert_eq!(client.ask(before).await.status(), 200, "{before:?}");
        }
        assert_eq!(client.ask(BOTH).await.status(), 400, "{before:?}");
        client.ended().await;
    }
}

/// F1
#[tokio::test]
async fn a_length_beside_a_coding_is_refused_when_its_bytes_come_one_by_one() {
    let (lab, _server) = lab(Setup::default()).await;
    let mut client = lab.client().await;
    let (head, _) = BOTH.split_at(BOTH.find("\r\n\r\n").unwrap() + 4);
    for byte in head.as_bytes() {
        client.send([*byte]).await;
    }
    assert_eq!(client.message().await.status(), 400);
}

/// F1
#[tokio::test]
async fn a_length_beside_a_coding_is_refused_when_it_is_sent_ahead() {
    let (lab, _server) = lab(Setup::default()).await;
    for before in [GET, FIXED, CHUNKED] {
        let mut client = lab.client().await;
        client.send([before, BOTH].concat()).await;
        assert_eq!(client.message().await.status(), 200, "{before:?}");
        assert_eq!(client.message().await.status(), 400, "{before:?}");
        client.ended().await;
    }
}

/// F1
#[tokio::test]
async fn chunked_requests_may_follow_each_other_and_anything_else() {
    let (lab, _server) = lab(Setup::default()).await;
    let mut client = lab.client().await;
    for request in [CHUNKED, GET, CHUNKED, FIXED, CHUNKED, CHUNKED, GET, GET, FIXED, CHUNKED] {
        assert_eq!(client.ask(request).await.status(), 200, "{request:?}");
    }
}

#[tokio::test]
async fn chunked_requests_may_be_sent_ahead_but_not_of_a_body() {
    let (lab, _server) = lab(Setup::default()).await;
    let mut client = lab.client().await;
    client.send([GET, GET, CHUNKED].concat()).await;
    for _ in 0..3 {
        assert_eq!(client.message().await.status(), 200);
    }
    client.send([CHUNKED, GET, GET].concat()).await;
    for _ in 0..3 {
        assert_eq!(client.message().await.status(), 200);
    }
    assert_eq!(client.ask(CHUNKED).await.status(), 200);
    client.send([CHUNKED, CHUNKED].concat()).await;
    assert_eq!(client.message().await.status(), 200);
    assert_eq!(client.message().await.status(), 400);
    client.ended().await;
}

/// F1
#[tokio::test]
async fn a_lenient_listener_drops_the_length_and_ends_the_connection() {
    let server = Server::start().await;
    let rules = Rules { mode: Mode::Lenient, ..Rules::default() };
    let lab = Setup { rules, ..Setup::default() }.start(&[server.address]);
    for request in [BOTH, BOTH_TURNED] {
        let mut client = lab.client().await;
        client.send(request).await;
        let mut upstream = server.accept().await;
        let got = upstream.message().await;
        assert_eq!(got.field("content-length"), None);
        assert_eq!(got.text(), "abc");
        upstream.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok").await;
        let answer = client.message().await;
        assert_eq!((answer.status(), answer.field("connection").as_deref()), (200, Some("close")));
        client.ended().await;
    }
}

/// What a chunked request with this body is answered with.
async fn chunks(body: &str) -> u16 {
    // It accepts, and answers nothing.
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let mut client = lab.client().await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    client.send(body).await;
    let answer = client.message().await;
    client.ended().await;
    assert_eq!(lab.servers[0].streaks().longest(), 0, "no server is to blame");
    answer.status()
}

/// F6, F9
#[tokio::test]
async fn chunks_that_are_not_framed_exactly_are_refused() {
    let long = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(64 * 1024));
    for body in [
        "1\na\r\n0\r\n\r\n",
        "1\r\na\n0\r\n\r\n",
        "1\r\na\r\n0\n\r\n",
        "1\r\na\r\n0\r\n\nX: 1\r\n\r\n",
        "1;x\ny\r\na\r\n0\r\n\r\n",
        "0x1\r\na\r\n0\r\n\r\n",
        "+1\r\na\r\n0\r\n\r\n",
        "-1\r\na\r\n0\r\n\r\n",
        " 1\r\na\r\n0\r\n\r\n",
        "\r\na\r\n0\r\n\r\n",
        "g\r\na\r\n0\r\n\r\n",
        "1\r\nab\r\n0\r\n\r\n",
        "1\r\na0\r\n\r\n",
        "fffffffffffffffff\r\na\r\n0\r\n\r\n",
        &long,
    ] {
        let shown: String = body.chars().take(30).collect();
        assert_eq!(chunks(body).await, 400, "{shown:?}");
    }
}

/// F6
#[tokio::test]
async fn chunk_extensions_are_dropped() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let mut client = lab.client().await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    client.send("1;a=b\r\nx\r\nA ; c\r\n0123456789\r\n0;last\r\n\r\n").await;
    let mut upstream = server.accept().await;
    // The harness reads sizes alone.
    assert_eq!(upstream.message().await.text(), "x0123456789");
}

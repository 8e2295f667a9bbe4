//! `[listener.http]`: which requests are taken, and what becomes of some fields.

use deston::model::{Mode, Rules, Underscores};
use deston_tests::http::{Message, Peer, Server, Setup};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn under(rules: Rules) -> Setup {
    Setup { rules, ..Setup::default() }
}

/// What the server gets of a request, and what the client is answered.
async fn exchange(rules: Rules, request: &str) -> (Message, Message) {
    let server = Server::start().await;
    let lab = under(rules).start(&[server.address]);
    let mut client = lab.client().await;
    client.send(request).await;
    let mut upstream = server.accept().await;
    let got = upstream.message().await;
    upstream.send(OK).await;
    (got, client.message().await)
}

/// What a request is answered with that reaches no server.
async fn answered(rules: Rules, request: &str) -> Message {
    let server = Server::start().await;
    let lab = under(rules).start(&[server.address]);
    let answer = lab.client().await.ask(request).await;
    assert_eq!(lab.servers[0].opened(), 0, "{request:?}");
    answer
}

/// M1
#[tokio::test]
async fn any_method_that_is_a_token_passes_as_it_is_written() {
    for method in ["PURGE", "get", "M-SEARCH", "!#$%&'*+-.^_`|~"] {
        let request = format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n");
        let (got, answer) = exchange(Rules::default(), &request).await;
        assert_eq!((got.start(), answer.status()), (&*format!("{method} / HTTP/1.1"), 200));
    }
}

/// M1
#[tokio::test]
async fn methods_that_are_not_listed_are_refused_and_those_listed_named() {
    let rules = Rules { methods: vec![http::Method::GET, http::Method::HEAD], ..Rules::default() };
    let answer = answered(rules, "POST / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!((answer.status(), answer.field("allow").as_deref()), (405, Some("GET, HEAD")));
}

/// M2
#[tokio::test]
async fn trace_passes_where_it_is_allowed() {
    let rules = Rules { trace: true, ..Rules::default() };
    let (got, _) = exchange(rules, "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(got.start(), "TRACE / HTTP/1.1");
}

/// M3
#[tokio::test]
async fn a_request_with_no_hops_left_is_answered_here() {
    let rules = Rules { trace: true, ..Rules::default() };
    let request = "OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n";
    let answer = answered(rules.clone(), request).await;
    assert_eq!(answer.status(), 200);
    assert!(answer.field("allow").is_some());
    let request =
        "TRACE /x HTTP/1.1\r\nHost: a\r\nCookie: secret\r\nMax-Forwards: 0\r\nX: 1\r\n\r\n";
    let answer = answered(rules, request).await;
    assert_eq!(answer.field("content-type").as_deref(), Some("message/http"));
    assert!(answer.text().starts_with("TRACE /x HTTP/1.1\r\n"), "{}", answer.text());
    assert!(answer.text().contains("x: 1\r\n") && !answer.text().contains("secret"));
}

/// M3
#[tokio::test]
async fn a_request_with_hops_left_has_one_less_at_the_server() {
    let request = "OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 10\r\n\r\n";
    let (got, _) = exchange(Rules::default(), request).await;
    assert_eq!(got.field("max-forwards").as_deref(), Some("9"));
}

/// S4
#[tokio::test]
async fn names_with_underscores_are_dropped_or_kept_as_the_listener_says() {
    let request = "GET / HTTP/1.1\r\nHost: a\r\nA_B: 1\r\nX_Forwarded_For: 10.0.0.1\r\n\r\n";
    for (underscores, kept) in [(Underscores::Drop, None), (Underscores::Keep, Some("1"))] {
        let (got, _) = exchange(Rules { underscores, ..Rules::default() }, request).await;
        assert_eq!(got.field("a_b").as_deref(), kept);
        assert_eq!(got.field("x_forwarded_for"), None);
    }
}

/// S4
#[tokio::test]
async fn bytes_beyond_ascii_pass_in_values() {
    let (got, _) =
        exchange(Rules::default(), "GET / HTTP/1.1\r\nHost: a\r\nX: caf\u{e9}\r\n\r\n").await;
    assert_eq!(got.field("x").as_deref(), Some("caf\u{e9}"));
}

/// S2
#[tokio::test]
async fn a_bare_line_feed_that_ends_a_line_of_a_head_becomes_a_whole_line_end() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let mut client = lab.client().await;
    client.send("GET / HTTP/1.1\nHost: a\nX: 1\n\n").await;
    let mut upstream = server.accept().await;
    let head = upstream.head().await;
    assert!(head.contains("\r\nx: 1\r\n"), "{head:?}");
    assert!(!head.replace("\r\n", "").contains('\n'), "{head:?}");
}

/// S3
#[tokio::test]
async fn empty_lines_before_a_request_are_passed_over() {
    let (got, _) = exchange(Rules::default(), "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(got.start(), "GET / HTTP/1.1");
}

/// H2
#[tokio::test]
async fn a_lenient_listener_believes_the_target_and_names_it() {
    let rules = Rules { mode: Mode::Lenient, ..Rules::default() };
    let (got, _) = exchange(rules, "GET http://b.example/x HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(got.start(), "GET /x HTTP/1.1");
    assert_eq!(got.field("host").as_deref(), Some("b.example"));
    assert_eq!(got.field("x-forwarded-host").as_deref(), Some("b.example"));
}

/// P2
#[tokio::test]
async fn what_routing_framing_and_trust_rest_on_cannot_be_nominated_away() {
    let request = "POST / HTTP/1.1\r\nHost: a\r\nConnection: host, content-length, authorization, \
        x-forwarded-for, x-forwarded-proto, x-forwarded-host, x-mine\r\nContent-Length: 3\r\n\
        Authorization: basic x\r\nX-Mine: 1\r\n\r\nabc";
    let (got, _) = exchange(Rules::default(), request).await;
    let kept = ["host", "content-length", "authorization", "x-forwarded-for", "x-forwarded-proto"];
    assert!(kept.iter().all(|name| got.field(name).is_some()), "{}", got.head);
    assert_eq!((got.field("x-mine"), got.text().as_str()), (None, "abc"));
}

fn ask(token: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: {token}\r\n\r\n")
}

fn switch(token: &str) -> String {
    format!("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: {token}\r\n\r\n")
}

/// U1
#[tokio::test]
async fn listed_tokens_become_tunnels() {
    let upgrades = vec!["websocket".to_owned(), "spdy/3.1".to_owned()];
    let server = Server::start().await;
    let lab = under(Rules { upgrades, ..Rules::default() }).start(&[server.address]);
    let mut client = lab.client().await;
    client.send(ask("SPDY/3.1")).await;
    let mut upstream = server.accept().await;
    assert_eq!(upstream.message().await.field("upgrade").as_deref(), Some("spdy/3.1"));
    upstream.send(switch("SPDY/3.1")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    passes(&mut client, &mut upstream).await;
    passes(&mut upstream, &mut client).await;
}

async fn passes(from: &mut Peer, to: &mut Peer) {
    from.send("\0bytes").await;
    assert_eq!(to.exactly(6).await, b"\0bytes");
}

/// U1
#[tokio::test]
async fn a_switch_to_another_token_than_the_one_asked_for_is_a_bad_gateway() {
    let upgrades = vec!["websocket".to_owned(), "other".to_owned()];
    let server = Server::start().await;
    let lab = under(Rules { upgrades, ..Rules::default() }).start(&[server.address]);
    let mut client = lab.client().await;
    client.send(ask("other")).await;
    let mut upstream = server.accept().await;
    upstream.message().await;
    upstream.send(switch("websocket")).await;
    assert_eq!(client.message().await.status(), 502);
}

/// U1
#[tokio::test]
async fn without_tokens_nothing_becomes_a_tunnel() {
    let rules = Rules { upgrades: Vec::new(), ..Rules::default() };
    let (got, answer) = exchange(rules, &ask("websocket")).await;
    assert_eq!((got.field("upgrade"), answer.status()), (None, 200));
}

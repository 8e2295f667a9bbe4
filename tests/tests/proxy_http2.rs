//! HTTP/2 of clients: streams become requests of HTTP/1.1, and nothing else.

use std::time::Duration;

use bytes::Bytes;
use deston::model::HttpTimeouts;
use deston_tests::http::{Peer, Server, Setup, Streams, get, request};
use deston_tests::wait::{soon, until};
use http::{HeaderMap, Request};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::sync::mpsc;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const SOON: Duration = Duration::from_millis(200);

#[tokio::test]
async fn a_client_that_knows_beforehand_speaks_http_2_in_clear() {
    let server = Server::start().await.answering(|_| OK.to_owned());
    let lab = Setup::default().start(&[server.address]);
    let mut client = Streams::connect(lab.address).await;
    let reply = client.ask(get("http://a.example/x?y")).await;
    assert_eq!((reply.status(), &reply.body[..]), (200, &b"ok"[..]));
}

/// H4
#[tokio::test]
async fn a_stream_reaches_the_server_as_a_request_of_http_1_1() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let mut client = Streams::connect(lab.address).await;
    let mut asked = get("http://a.example:8080/x?y");
    for cookie in ["a=1", "b=2", "c=3"] {
        asked.headers_mut().append("cookie", cookie.parse().unwrap());
    }
    let (reply, upstream) = tokio::join!(client.ask(asked), async {
        let mut upstream = server.accept().await;
        let seen = upstream.message().await;
        upstream.send(OK).await;
        seen
    });
    assert_eq!(reply.status(), 200);
    assert_eq!(upstream.start(), "GET /x?y HTTP/1.1");
    assert_eq!(upstream.field("host").as_deref(), Some("a.example:8080"));
    assert_eq!(upstream.field("cookie").as_deref(), Some("a=1; b=2; c=3"));
    assert_eq!(upstream.field("x-forwarded-proto").as_deref(), Some("http"));
    assert_eq!(upstream.field("transfer-encoding"), None);
    assert!(!upstream.head.contains("\n:"), "{}", upstream.head);
}

#[tokio::test]
async fn an_answer_has_no_fields_of_a_connection() {
    let server = Server::start().await.answering(|_| {
        "HTTP/1.1 200 OK\r\nConnection: x-y, close\r\nX-Y: 1\r\nKeep-Alive: timeout=5\r\n\
         Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
            .to_owned()
    });
    let lab = Setup::default().start(&[server.address]);
    let mut client = Streams::connect(lab.address).await;
    let reply = client.ask(get("http://a/")).await;
    for name in ["connection", "x-y", "keep-alive", "transfer-encoding"] {
        assert!(!reply.head.headers.contains_key(name), "{name}");
    }
    assert_eq!(&reply.body[..], b"ok");
}

#[tokio::test]
async fn a_refused_stream_leaves_the_others_alone() {
    let server = Server::start().await.answering(|_| OK.to_owned());
    let lab = Setup::default().start(&[server.address]);
    let mut client = Streams::connect(lab.address).await;
    let refused = client.ask(request("TRACE", "http://a/", "")).await;
    assert_eq!(refused.status(), 405);
    assert!(!refused.head.headers.contains_key("connection"));
    assert_eq!(client.ask(get("http://a/")).await.status(), 200);
}

#[tokio::test]
async fn an_options_request_may_be_about_the_server_as_a_whole() {
    let server = Server::start().await.answering(|request| {
        let body = request.start().to_owned();
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    });
    let lab = Setup::default().start(&[server.address]);
    let mut client = Streams::connect(lab.address).await;
    let mut asked = request("OPTIONS", "http://a/", "");
    *asked.uri_mut() =
        http::Uri::builder().scheme("http").authority("a").path_and_query("*").build().unwrap();
    let reply = client.ask(asked).await;
    assert_eq!(&reply.body[..], b"OPTIONS * HTTP/1.1");
}

/// F7
#[tokio::test]
async fn a_body_without_a_length_is_chunked_whatever_the_method() {
    for method in ["GET", "POST", "DELETE"] {
        let server = Server::start().await;
        let lab = Setup::default().start(&[server.address]);
        let mut client = Streams::<BoxBody<Bytes, hyper::Error>>::connect(lab.address).await;
        let (frames, body) = channel();
        frames.send(Ok(Frame::data(Bytes::from_static(b"hello")))).await.unwrap();
        drop(frames);
        let asked = Request::builder().method(method).uri("http://a/").body(body).unwrap();
        let (reply, seen) = tokio::join!(client.ask(asked), async {
            let mut upstream = server.accept().await;
            let seen = upstream.message().await;
            upstream.send(OK).await;
            seen
        });
        assert_eq!(reply.status(), 200);
        assert_eq!(seen.field("transfer-encoding").as_deref(), Some("chunked"), "{method}");
        assert_eq!(seen.body, b"hello");
    }
}

#[tokio::test]
async fn a_body_with_a_length_keeps_it() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let mut client = Streams::connect(lab.address).await;
    let (reply, seen) = tokio::join!(client.ask(request("POST", "http://a/", "hello")), async {
        let mut upstream = server.accept().await;
        let seen = upstream.message().await;
        upstream.send(OK).await;
        seen
    });
    assert_eq!(reply.status(), 200);
    assert_eq!(seen.field("content-length").as_deref(), Some("5"));
    assert_eq!(seen.body, b"hello");
}

#[tokio::test]
async fn large_bodies_pass_both_ways_at_once() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let mut client = Streams::connect(lab.address).await;
    let large = "x".repeat(3_000_000);
    let (reply, seen) = tokio::join!(client.ask(request("POST", "http://a/", &large)), async {
        let mut upstream = server.accept().await;
        let seen = upstream.message().await;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", seen.body.len());
        upstream.send(head).await;
        upstream.send(&seen.body).await;
        seen
    });
    assert_eq!(seen.body.len(), large.len());
    assert!(reply.body == large.as_bytes());
}

#[tokio::test]
async fn a_slow_stream_holds_no_other_back() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let client = Streams::connect(lab.address).await;
    let (mut one, mut other) = (client.clone(), client);
    let slow = tokio::spawn(async move { one.ask(get("http://a/slow")).await });
    let mut first = server.accept().await;
    assert_eq!(first.message().await.start(), "GET /slow HTTP/1.1");
    let quick = tokio::spawn(async move { other.ask(get("http://a/quick")).await });
    let mut second = server.accept().await;
    assert_eq!(second.message().await.start(), "GET /quick HTTP/1.1");
    second.send(OK).await;
    assert_eq!(soon(quick).await.unwrap().status(), 200);
    first.send(OK).await;
    assert_eq!(soon(slow).await.unwrap().status(), 200);
}

#[tokio::test]
async fn trailers_of_a_response_follow_its_body() {
    let server = Server::start().await.answering(|_| {
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: grpc-status\r\n\r\n\
         2\r\nok\r\n0\r\ngrpc-status: 0\r\n\r\n"
            .to_owned()
    });
    let lab = Setup::default().start(&[server.address]);
    let mut client = Streams::connect(lab.address).await;
    let reply = client.ask(get("http://a/")).await;
    assert_eq!(&reply.body[..], b"ok");
    assert_eq!(reply.trailers.unwrap()["grpc-status"], "0");
}

#[tokio::test]
async fn trailers_of_a_request_follow_its_body() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let mut client = Streams::<BoxBody<Bytes, hyper::Error>>::connect(lab.address).await;
    let (frames, body) = channel();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "7".parse().unwrap());
    frames.send(Ok(Frame::data(Bytes::from_static(b"hello")))).await.unwrap();
    frames.send(Ok(Frame::trailers(trailers))).await.unwrap();
    drop(frames);
    let asked = Request::post("http://a/").header("trailer", "x-sum").header("te", "trailers");
    let (reply, seen) = tokio::join!(client.ask(asked.body(body).unwrap()), async {
        let mut upstream = server.accept().await;
        let seen = upstream.message().await;
        upstream.send(OK).await;
        seen
    });
    assert_eq!(reply.status(), 200);
    assert_eq!(seen.trailers, "x-sum: 7\n");
}

#[tokio::test]
async fn an_answer_that_is_overdue_concerns_its_stream_alone() {
    let server = Server::start().await;
    let mut setup = Setup::default();
    setup.pool.response_head = SOON;
    let lab = setup.start(&[server.address]);
    let mut client = Streams::connect(lab.address).await;
    let (reply, _held) = tokio::join!(client.ask(get("http://a/")), server.accept());
    assert_eq!(reply.status(), 504);
    let (reply, ()) = tokio::join!(client.ask(get("http://a/")), async {
        let mut upstream = server.accept().await;
        upstream.message().await;
        upstream.send(OK).await;
    });
    assert_eq!(reply.status(), 200);
}

#[tokio::test]
async fn a_body_that_breaks_off_resets_its_stream() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let mut client = Streams::connect(lab.address).await;
    let (response, mut upstream) = tokio::join!(client.send(get("http://a/")), async {
        let mut upstream = server.accept().await;
        upstream.message().await;
        upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await;
        upstream
    });
    upstream.finish().await;
    drop(upstream);
    let body = soon(response.unwrap().into_body().collect()).await;
    assert!(body.is_err(), "what broke off must not look whole");
}

#[tokio::test]
async fn a_client_that_takes_nothing_for_too_long_loses_its_stream() {
    let server = Server::start().await;
    let timeouts = HttpTimeouts { stream_idle: SOON, ..Setup::default().timeouts };
    let lab = Setup { timeouts, ..Setup::default() }.start(&[server.address]);
    let mut client = Streams::connect(lab.address).await;
    let (response, mut upstream) = tokio::join!(client.send(get("http://a/")), async {
        let mut upstream = server.accept().await;
        upstream.message().await;
        upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n").await;
        upstream
    });
    let response = response.unwrap();
    // Its window is never opened again, as nobody reads.
    let chunk = vec![b'x'; 65_536];
    while upstream.try_send(&chunk).await.is_ok() {}
    let body = soon(response.into_body().collect()).await;
    assert!(body.is_err());
}

#[tokio::test]
async fn a_client_that_leaves_a_stream_frees_the_server() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let client = Streams::connect(lab.address).await;
    let mut leaver = client.clone();
    let asking = tokio::spawn(async move { leaver.ask(get("http://a/")).await });
    let mut upstream = server.accept().await;
    upstream.message().await;
    asking.abort();
    upstream.ended().await;
    until("the slot is free", || lab.servers[0].open() == 0).await;
}

#[tokio::test]
async fn a_connection_that_stands_idle_is_told_to_go() {
    let server = Server::start().await.answering(|_| OK.to_owned());
    let timeouts = HttpTimeouts { client_idle: SOON, ..Setup::default().timeouts };
    let lab = Setup { timeouts, ..Setup::default() }.start(&[server.address]);
    let mut client = Streams::connect(lab.address).await;
    assert_eq!(client.ask(get("http://a/")).await.status(), 200);
    client.ended_by_the_other().await.expect("a connection that ends without an error");
}

#[tokio::test]
async fn a_drain_lets_streams_finish_and_takes_no_other() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let client = Streams::connect(lab.address).await;
    let mut one = client.clone();
    let asking = tokio::spawn(async move { one.ask(get("http://a/")).await });
    let mut upstream = server.accept().await;
    upstream.message().await;
    let draining = tokio::spawn(lab.drain(Duration::from_secs(10)));
    upstream.send(OK).await;
    assert_eq!(soon(asking).await.unwrap().status(), 200);
    client.ended_by_the_other().await.expect("a connection that ends without an error");
    assert_eq!(soon(draining).await.unwrap().aborted, 0);
}

#[tokio::test]
async fn a_preface_may_come_in_pieces() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let mut client = lab.client().await;
    for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" {
        client.send([*byte]).await;
    }
    client.send([0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
    let frame = client.exactly(9).await;
    assert_eq!(frame[3], 4, "a SETTINGS frame");
}

#[tokio::test]
async fn what_only_begins_like_a_preface_is_http_1() {
    let server = Server::start().await.answering(|_| OK.to_owned());
    let lab = Setup::default().start(&[server.address]);
    let mut client = lab.client().await;
    client.send("P").await;
    client.send("R").await;
    client.send("OPFIND / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.message().await.status(), 200);
}

#[tokio::test]
async fn a_listener_may_speak_http_1_alone() {
    let server = Server::start().await;
    let lab = Setup::default().start_as(|l7| l7.h2 = false, &[server.address]);
    let mut client: Peer = lab.client().await;
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    let answer = client.rest().await.unwrap_or_default();
    assert!(!answer.starts_with(&[0, 0]), "no frame is to be seen: {answer:?}");
}

/// A body whose frames come from a channel.
type Frames = mpsc::Sender<Result<Frame<Bytes>, hyper::Error>>;

fn channel() -> (Frames, BoxBody<Bytes, hyper::Error>) {
    let (sender, receiver) = mpsc::channel(4);
    let frames = futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|frame| (frame, receiver))
    });
    (sender, BodyExt::boxed(StreamBody::new(Box::pin(frames))))
}

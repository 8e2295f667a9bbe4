//! What a client of HTTP/2 may ask, and what reaches a server of HTTP/1.1.

use bytes::Bytes;
use deston_tests::http::frames::{Answer, Frame, Frames, block, code, flag, get, kind};
use deston_tests::http::{Lab, Server, Setup};
use deston_tests::wait::soon;
use http::{HeaderMap, Request};
use tokio::net::TcpStream;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A request's fields.
type Fields<'a> = &'a [(&'a str, &'a str)];

/// How a request ends that no server may see.
async fn refused(fields: Fields<'_>) -> Answer {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let answer = Frames::connect(lab.address).await.ask(1, fields).await;
    assert_eq!(lab.servers[0].opened(), 0, "{fields:?}");
    answer
}

/// Whether a request was found to be malformed, by h2 or by the proxy.
fn is_refusal(answer: Answer) -> bool {
    matches!(
        answer,
        Answer::Reset(code::PROTOCOL_ERROR)
            | Answer::GoAway(code::PROTOCOL_ERROR)
            | Answer::Status(400)
    )
}

fn with<'a>(fields: Fields<'a>) -> Vec<(&'a str, &'a str)> {
    [&get("/"), fields].concat()
}

/// H4
#[tokio::test]
async fn the_authority_becomes_the_host() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let mut client = Frames::connect(lab.address).await;
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "a.example:81"),
        (":path", "/x?y"),
    ];
    client.send(&Frame::request(1, &fields, true)).await;
    let mut upstream = server.accept().await;
    let got = upstream.message().await;
    assert_eq!(got.start(), "GET /x?y HTTP/1.1");
    assert_eq!(got.field("host").as_deref(), Some("a.example:81"));
    upstream.send(OK).await;
    assert_eq!(client.answer(1).await, Answer::Status(200));
}

/// H4
#[tokio::test]
async fn a_host_that_differs_from_the_authority_is_refused() {
    for host in ["b", "a:81", "a,b", "", "a, a"] {
        assert_eq!(refused(&with(&[("host", host)])).await, Answer::Status(400), "{host:?}");
    }
    let twice = with(&[("host", "a"), ("host", "a")]);
    assert_eq!(refused(&twice).await, Answer::Status(400));
}

/// H4, H1
#[tokio::test]
async fn a_request_without_any_host_is_refused() {
    let fields = [(":method", "GET"), (":scheme", "http"), (":path", "/")];
    assert_eq!(refused(&fields).await, Answer::Status(400));
}

/// H4, V2
#[tokio::test]
async fn a_path_that_is_none_is_refused() {
    for path in
        ["x", "*", "", "/a b", "/a\tb", "/a\r\nX: 1", "/a\0b", "/\u{7f}", "/\u{e9}", "http://a/"]
    {
        let answer = refused(&get(path)).await;
        assert!(is_refusal(answer), "{answer:?} to {path:?}");
    }
}

/// M2
#[tokio::test]
async fn connect_and_trace_are_not_allowed() {
    let connect = [(":method", "CONNECT"), (":authority", "a:80")];
    assert_eq!(refused(&connect).await, Answer::Status(405));
    let trace = [(":method", "TRACE"), (":scheme", "http"), (":authority", "a"), (":path", "/")];
    assert_eq!(refused(&trace).await, Answer::Status(405));
}

/// V1
#[tokio::test]
async fn fields_of_a_connection_have_no_place_in_a_stream() {
    for field in [
        ("connection", "close"),
        ("connection", "x-mine"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
    ] {
        let answer = refused(&with(&[field])).await;
        assert_eq!(answer, Answer::Reset(code::PROTOCOL_ERROR), "{field:?}");
    }
}

/// V1
#[tokio::test]
async fn pseudo_fields_that_are_missing_repeated_late_or_unknown_are_refused() {
    let [method, scheme, authority, path] = get("/");
    let cases: [&[(&str, &str)]; 8] = [
        &[scheme, authority, path],
        &[method, authority, path],
        &[method, scheme, authority],
        &[method, method, scheme, authority, path],
        &[method, scheme, authority, path, path],
        &[method, scheme, authority, ("x", "1"), path],
        &[method, scheme, authority, path, (":x", "1")],
        &[method, scheme, authority, path, (":status", "200")],
    ];
    for fields in cases {
        let answer = refused(fields).await;
        assert!(is_refusal(answer), "{answer:?} to {fields:?}");
    }
}

/// V1
#[tokio::test]
async fn content_of_another_length_than_it_says_is_refused() {
    for (length, content) in [("3", "ab"), ("3", "abcd"), ("0", "a"), ("x", "abc"), ("+3", "abc")] {
        let server = Server::start().await;
        let lab = Setup::default().start(&[server.address]);
        let mut client = Frames::connect(lab.address).await;
        let fields = [&get("/")[..], &[("content-length", length)]].concat();
        client.send(&Frame::request(1, &fields, false)).await;
        client.send(&Frame::new(kind::DATA, flag::END_STREAM, 1, content)).await;
        let answer = client.answer(1).await;
        assert!(is_refusal(answer), "{answer:?} to {length} {content}");
        assert_eq!(lab.servers[0].streaks().longest(), 0, "no server is to blame");
    }
}

/// F4
#[tokio::test]
async fn lengths_that_differ_or_are_a_list_are_refused() {
    for fields in [
        &[("content-length", "3"), ("content-length", "4")][..],
        &[("content-length", "3, 3")],
        &[("content-length", "")],
        &[("content-length", "99999999999999999999")],
    ] {
        let answer = refused(&with(fields)).await;
        assert!(is_refusal(answer), "{answer:?} to {fields:?}");
    }
}

/// V2
#[tokio::test]
async fn line_ends_and_nul_reach_no_server() {
    for field in [
        ("x", "a\r\nb: c"),
        ("x", "a\nb"),
        ("x", "a\rb"),
        ("x", "a\0b"),
        ("x\r\ny", "1"),
        ("x\0", "1"),
        ("x:", "1"),
        ("x y", "1"),
        ("X", "1"),
        ("", "1"),
        (":authority\n", "a"),
    ] {
        let answer = refused(&with(&[field])).await;
        assert!(is_refusal(answer), "{answer:?} to {field:?}");
    }
    for name in [":method", ":authority", ":scheme"] {
        for value in ["a\r\nb", "a\nb", "a\0b", "a b"] {
            let mut fields = get("/");
            fields.iter_mut().filter(|field| field.0 == name).for_each(|field| field.1 = value);
            let answer = refused(&fields).await;
            assert!(is_refusal(answer), "{answer:?} to {name} {value:?}");
        }
    }
}

/// S5
#[tokio::test]
async fn a_head_over_the_limit_is_too_large() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let value = "a".repeat(16_000);
    let fields = [&get("/")[..], &[("x", &value), ("y", &value), ("z", &value)]].concat();
    let block = block(&fields);
    let mut client = Frames::connect(lab.address).await;
    let (first, rest) = block.split_at(16_384);
    client.send(&Frame::new(kind::HEADERS, flag::END_STREAM, 1, first)).await;
    let mut rest = rest.chunks(16_384).peekable();
    while let Some(part) = rest.next() {
        let flags = if rest.peek().is_none() { flag::END_HEADERS } else { 0 };
        client.send(&Frame::new(kind::CONTINUATION, flags, 1, part)).await;
    }
    assert_eq!(client.answer(1).await, Answer::Status(431));
}

/// A client of the `h2` crate, its connection driven by a task.
async fn client(lab: &Lab) -> h2::client::SendRequest<Bytes> {
    let stream = TcpStream::connect(lab.address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    client.ready().await.unwrap()
}

/// P4
#[tokio::test]
async fn trailers_pass_both_ways_on_a_stream_but_not_those_that_must_come_early() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let mut client = client(&lab).await;
    let request = Request::post("http://a/svc/Method")
        .header("te", "trailers")
        .header("trailer", "x-sum, authorization")
        .body(())
        .unwrap();
    let (response, mut body) = client.send_request(request, false).unwrap();
    body.send_data(Bytes::from_static(b"abc"), false).unwrap();
    let mut trailers = HeaderMap::new();
    for name in ["x-sum", "authorization", "host"] {
        trailers.insert(name, "7".parse().unwrap());
    }
    body.send_trailers(trailers).unwrap();

    let mut upstream = server.accept().await;
    let got = upstream.message().await;
    assert_eq!(got.field("te").as_deref(), Some("trailers"));
    assert_eq!((got.text().as_str(), got.trailers.as_str()), ("abc", "x-sum: 7\n"));
    // gRPC announces nothing.
    upstream
        .send(
            "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n\
             2\r\nok\r\n0\r\ngrpc-status: 0\r\ngrpc-message: fine\r\nset-cookie: a=b\r\n\
             content-length: 9\r\ntransfer-encoding: x\r\n\r\n",
        )
        .await;
    let mut content = soon(response).await.unwrap().into_body();
    assert_eq!(soon(content.data()).await.unwrap().unwrap(), "ok");
    let trailers = soon(content.trailers()).await.unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(trailers["grpc-message"], "fine");
    assert_eq!(trailers.len(), 2, "{trailers:?}");
}

/// E1
#[tokio::test]
async fn an_unknown_expectation_fails() {
    assert_eq!(refused(&with(&[("expect", "200-ok")])).await, Answer::Status(417));
}

//! Servers that speak HTTP/2, TLS or both.

use bytes::Bytes;
use deston::model::{
    Alpn, ClientAuth, ServerProtocol, ServerTls, ServerTlsSettings, Speech, Tls, TlsSettings,
};
use deston_tests::http::{Answer, Authority, Lab, Multiplexed, Setup, Streams, get, request};
use deston_tests::wait::{soon, until};
use http::{HeaderMap, Request, Response, Version};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use tokio::sync::mpsc;

const HOST: &str = "server.example";
const ASK: &str = "GET /x?y HTTP/1.1\r\nHost: a.example\r\n\r\n";

/// Answers with what was asked.
async fn tell(request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let mut text = format!("{:?} {} {}\n", head.version, head.method, head.uri);
    for (name, value) in &head.headers {
        text += &format!("{name}: {}\n", value.to_str().unwrap_or_default());
    }
    text += &format!("\n{}", String::from_utf8_lossy(&body));
    Response::new(whole(text))
}

fn whole(text: String) -> BoxBody<Bytes, hyper::Error> {
    Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed()
}

fn h2c() -> Speech {
    Speech { protocol: ServerProtocol::Http2, ..Speech::default() }
}

fn start(server: &Multiplexed, speech: Speech) -> Lab {
    let lab = Setup::default().start(&[server.address]);
    lab.servers[0].set_speech(speech);
    lab
}

async fn asked(lab: &Lab) -> (u16, String) {
    let mut client = lab.client().await;
    let answer = client.ask(ASK).await;
    (answer.status(), answer.text())
}

#[tokio::test]
async fn a_server_of_h2c_is_asked_by_http_2() {
    let server = Multiplexed::start(None, tell).await;
    let lab = start(&server, h2c());
    let (status, seen) = asked(&lab).await;
    assert_eq!(status, 200);
    assert!(seen.starts_with("HTTP/2.0 GET http://a.example/x?y\n"), "{seen}");
    for absent in ["\nhost:", "\nconnection:", "\ntransfer-encoding:"] {
        assert!(!seen.contains(absent), "{absent} in {seen}");
    }
    assert!(seen.contains("x-forwarded-for: 127.0.0.1"), "{seen}");
}

#[tokio::test]
async fn requests_share_a_connection_of_http_2() {
    let server = Multiplexed::start(None, tell).await;
    let lab = start(&server, h2c());
    for _ in 0..5 {
        assert_eq!(asked(&lab).await.0, 200);
    }
    let client = Streams::connect(lab.address).await;
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let mut client = client.clone();
        asking.spawn(async move { client.ask(get("http://a.example/")).await.status() });
    }
    for status in soon(asking.join_all()).await {
        assert_eq!(status, 200);
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_body_of_unknown_length_reaches_a_server_of_http_2_whole() {
    let server = Multiplexed::start(None, tell).await;
    let lab = start(&server, h2c());
    let mut client = lab.client().await;
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                   5\r\nhello\r\n0\r\n\r\n";
    let answer = client.ask(chunked).await;
    assert!(answer.text().ends_with("\n\nhello"), "{}", answer.text());
    let sized = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    let answer = client.ask(sized).await;
    assert!(answer.text().contains("content-length: 5\n"), "{}", answer.text());
}

#[tokio::test]
async fn a_connection_that_the_server_ends_is_replaced() {
    let server = Multiplexed::start(None, tell).await;
    let lab = start(&server, h2c());
    for round in 1..=3 {
        // The end arrives some time; what crosses it is answered all the same.
        while server.connections() < round {
            assert_eq!(asked(&lab).await.0, 200);
        }
        server.leave();
    }
}

#[tokio::test]
async fn streams_are_what_a_server_of_http_2_has_at_most() {
    let (hold, held) = mpsc::channel::<()>(1);
    let held = std::sync::Arc::new(tokio::sync::Mutex::new(held));
    let server = Multiplexed::start(None, move |request: Request<Incoming>| {
        let held = std::sync::Arc::clone(&held);
        async move {
            if request.uri().path() == "/held" {
                held.lock().await.recv().await;
            }
            Response::new(whole("ok".to_owned()))
        }
    })
    .await;
    let lab = Setup { max_connections: 1, ..Setup::default() }.start(&[server.address]);
    lab.servers[0].set_speech(h2c());
    let client = Streams::connect(lab.address).await;
    let (mut one, mut other) = (client.clone(), client);
    let first = tokio::spawn(async move { one.ask(get("http://a/held")).await.status() });
    until("the first is under way", || lab.servers[0].open() == 1).await;
    assert_eq!(other.ask(get("http://a/")).await.status(), 503);
    drop(hold);
    assert_eq!(soon(first).await.unwrap(), 200);
    until("the slot is free", || lab.servers[0].open() == 0).await;
    assert_eq!(other.ask(get("http://a/")).await.status(), 200);
}

#[tokio::test]
async fn a_server_under_tls_is_verified_and_asked_by_the_version_it_chooses() {
    let authority = Authority::new();
    for (alpn, version) in [(Alpn::H2, "HTTP/2.0"), (Alpn::Http11, "HTTP/1.1")] {
        let settings = TlsSettings { alpn: vec![alpn], ..authority.settings(&[&[HOST]]) };
        let server = Multiplexed::start(Some(Tls::new(settings).unwrap()), tell).await;
        let lab = start(&server, authority.speech(HOST, ServerProtocol::Auto));
        let (status, seen) = asked(&lab).await;
        assert_eq!(status, 200);
        assert!(seen.starts_with(version), "{seen}");
        assert_eq!(asked(&lab).await.0, 200);
        assert_eq!(server.connections(), 1, "{version}");
    }
}

#[tokio::test]
async fn a_server_may_be_asked_by_http_1_though_it_speaks_more() {
    let authority = Authority::new();
    let server = Multiplexed::start(Some(authority.serve(&[&[HOST]])), tell).await;
    let lab = start(&server, authority.speech(HOST, ServerProtocol::Http1));
    let (status, seen) = asked(&lab).await;
    assert_eq!(status, 200);
    assert!(seen.starts_with("HTTP/1.1 GET /x?y\n"), "{seen}");
}

#[tokio::test]
async fn a_server_that_is_not_who_it_must_be_is_not_asked() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = Multiplexed::start(Some(authority.serve(&[&[HOST]])), tell).await;
    for speech in [
        authority.speech("other.example", ServerProtocol::Auto),
        other.speech(HOST, ServerProtocol::Auto),
    ] {
        assert_eq!(asked(&start(&server, speech)).await.0, 502);
    }
}

#[tokio::test]
async fn a_server_is_anybody_where_that_is_not_verified() {
    let authority = Authority::new();
    let server = Multiplexed::start(Some(authority.serve(&[&[HOST]])), tell).await;
    let name = "other.example".try_into().unwrap();
    let settings = ServerTlsSettings { name, verify: false, roots: None, own: None };
    let protocol = ServerProtocol::Auto;
    let tls = Some(ServerTls::new(settings, protocol).unwrap());
    assert_eq!(asked(&start(&server, Speech { protocol, tls, ..Speech::default() })).await.0, 200);
}

#[tokio::test]
async fn a_server_is_shown_a_certificate_if_it_asks_for_one() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let client_auth = Some(ClientAuth { roots: vec![clients.root()], required: true });
    let settings = TlsSettings { client_auth, ..authority.settings(&[&[HOST]]) };
    let server = Multiplexed::start(Some(Tls::new(settings).unwrap()), tell).await;
    let own = clients.issue(&["deston"]).certificate;
    let protocol = ServerProtocol::Auto;
    let lab = start(&server, authority.speech_with(HOST, protocol, Some(own)));
    assert_eq!(asked(&lab).await.0, 200);
    let lab = start(&server, authority.speech(HOST, protocol));
    assert_eq!(asked(&lab).await.0, 502);
}

#[tokio::test]
async fn other_speech_is_that_of_new_connections() {
    let server = Multiplexed::start(None, tell).await;
    let lab = start(&server, Speech::default());
    // It speaks HTTP/2 alone, so asking it by HTTP/1.1 fails.
    assert_eq!(asked(&lab).await.0, 502);
    lab.servers[0].set_speech(h2c());
    assert_eq!(asked(&lab).await.0, 200);
}

#[tokio::test]
async fn a_request_of_http_2_stays_one_all_the_way() {
    let server = Multiplexed::start(None, tell).await;
    let lab = start(&server, h2c());
    let mut client = Streams::connect(lab.address).await;
    let reply = client.ask(request("POST", "http://a.example/x", "hello")).await;
    assert_eq!(reply.head.version, Version::HTTP_2);
    let seen = String::from_utf8_lossy(&reply.body).into_owned();
    assert!(seen.starts_with("HTTP/2.0 POST http://a.example/x\n"), "{seen}");
    assert!(seen.ends_with("\n\nhello"), "{seen}");
}

/// Sends back each piece of the request as it comes, then trailers, as gRPC does.
async fn echo(request: Request<Incoming>) -> Answer {
    let te = request.headers().get("te").cloned();
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        let mut body = request.into_body();
        let mut trailers = HeaderMap::new();
        while let Some(Ok(frame)) = body.frame().await {
            match frame.into_data() {
                Ok(data) => drop(sender.send(Ok(Frame::data(data))).await),
                Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
            }
        }
        trailers.insert("grpc-status", "0".parse().unwrap());
        trailers.extend(te.map(|te| (http::header::HeaderName::from_static("x-te"), te)));
        drop(sender.send(Ok(Frame::trailers(trailers))).await);
    });
    Response::new(frames(receiver))
}

fn frames(
    receiver: mpsc::Receiver<Result<Frame<Bytes>, hyper::Error>>,
) -> BoxBody<Bytes, hyper::Error> {
    let frames = futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|frame| (frame, receiver))
    });
    BodyExt::boxed(StreamBody::new(Box::pin(frames)))
}

#[tokio::test]
async fn grpc_streams_both_ways_at_once_and_ends_with_trailers() {
    let server = Multiplexed::start(None, echo).await;
    let lab = start(&server, h2c());
    let mut client = Streams::<BoxBody<Bytes, hyper::Error>>::connect(lab.address).await;
    let (sender, receiver) = mpsc::channel(4);
    let asked = Request::post("http://a.example/pkg.Service/Method")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(frames(receiver));
    let response = client.send(asked.unwrap()).await.unwrap();
    let mut body = response.into_body();
    for message in ["one", "two", "three"] {
        sender.send(Ok(Frame::data(Bytes::from(message)))).await.unwrap();
        let frame = soon(body.frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), message);
    }
    drop(sender);
    let trailers = soon(body.collect()).await.unwrap().trailers().cloned().unwrap();
    assert_eq!(
        (&trailers["grpc-status"], &trailers["x-te"]),
        (&"0".parse().unwrap(), &"trailers".parse().unwrap())
    );
}

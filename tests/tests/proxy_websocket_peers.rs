//! WebSockets of another project's making, through Deston exactly as directly: over HTTP/1.1, over
//! HTTP/2 (RFC 8441) and under TLS.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use deston::model::HttpTimeouts;
use deston_tests::http::{Authority, Setup, Streams};
use deston_tests::wait::soon;
use futures_util::{SinkExt as _, StreamExt as _};
use http::Request;
use http_body_util::Empty;
use hyper::ext::Protocol;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame};
use tokio_tungstenite::tungstenite::{Error, Message};

/// A server that sends back what it gets, pings included, and says goodbye with the code it is told.
async fn server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
                while let Some(Ok(message)) = socket.next().await {
                    let answered = match message {
                        Message::Text(text) if text.as_str() == "leave" => return,
                        Message::Text(text) if text.as_str() == "ping me" => {
                            socket.send(Message::Ping(Bytes::from_static(b"are you there"))).await
                        }
                        message @ (Message::Text(_) | Message::Binary(_)) => {
                            socket.send(message).await
                        }
                        // The library answers pings and goodbyes, and then ends by itself.
                        Message::Ping(_)
                        | Message::Pong(_)
                        | Message::Frame(_)
                        | Message::Close(_) => Ok(()),
                    };
                    if answered.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// Everything that a client sends, and what it gets back, one line each.
async fn conversation<S>(mut socket: WebSocketStream<S>) -> Vec<String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut seen = Vec::new();
    let frame = |opcode, text: &'static str, last| {
        Message::Frame(Frame::message(Bytes::from_static(text.as_bytes()), opcode, last))
    };
    let text = OpCode::Data(Data::Text);
    let more = OpCode::Data(Data::Continue);
    let sent: Vec<Vec<Message>> = vec![
        vec![Message::text("hello")],
        vec![Message::text("")],
        vec![Message::text("\u{fc}\u{1f980}")],
        vec![Message::binary(vec![0, 255, 13, 10])],
        vec![Message::binary(vec![7; 125])],
        vec![Message::binary(vec![8; 126])],
        vec![Message::binary(vec![9; 70_000])],
        vec![Message::Ping(Bytes::from_static(b"ping"))],
        vec![frame(text, "in ", false), frame(more, "three ", false), frame(more, "parts", true)],
        // A control frame may come between the parts of a message.
        vec![
            frame(text, "a ", false),
            Message::Ping(Bytes::from_static(b"between")),
            frame(more, "b", true),
        ],
        vec![Message::text("ping me")],
    ];
    for messages in sent {
        let answers = match &messages[..] {
            [Message::Frame(_), Message::Ping(_), _] => 2,
            _ => 1,
        };
        for message in messages {
            socket.send(message).await.unwrap();
        }
        for _ in 0..answers {
            seen.push(format!("{:?}", soon(socket.next()).await.unwrap().unwrap()));
        }
    }
    let goodbye = CloseFrame { code: CloseCode::Library(4_001), reason: "enough".into() };
    socket.close(Some(goodbye)).await.unwrap();
    while let Some(message) = soon(socket.next()).await {
        match message {
            Ok(message) => seen.push(format!("{message:?}")),
            Err(Error::ConnectionClosed | Error::AlreadyClosed) => break,
            Err(error) => panic!("{error}"),
        }
    }
    seen
}

async fn direct(server: SocketAddr) -> Vec<String> {
    let stream = TcpStream::connect(server).await.unwrap();
    let (socket, _) = tokio_tungstenite::client_async("ws://a.example/", stream).await.unwrap();
    conversation(socket).await
}

/// A WebSocket as a stream of HTTP/2.
async fn on_stream(
    client: &mut Streams<Empty<Bytes>>,
    uri: &str,
) -> WebSocketStream<TokioIo<hyper::upgrade::Upgraded>> {
    let mut asked =
        Request::builder().method("CONNECT").uri(uri).header("sec-websocket-version", "13");
    asked = asked.extension(Protocol::from_static("websocket"));
    let response = client.send(asked.body(Empty::new()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    for absent in ["upgrade", "connection", "sec-websocket-accept"] {
        assert!(!response.headers().contains_key(absent), "{absent}");
    }
    let upgraded = hyper::upgrade::on(response).await.unwrap();
    WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await
}

#[tokio::test]
async fn every_kind_of_frame_passes_as_directly() {
    let server = server().await;
    let lab = Setup::default().start(&[server]);
    let expected = direct(server).await;
    assert_eq!(expected.len(), 13, "{expected:?}");
    let stream = TcpStream::connect(lab.address).await.unwrap();
    let (socket, _) = tokio_tungstenite::client_async("ws://a.example/", stream).await.unwrap();
    assert_eq!(conversation(socket).await, expected);
}

/// U2
#[tokio::test]
async fn every_kind_of_frame_passes_on_a_stream_of_http_2_as_directly() {
    let server = server().await;
    let lab = Setup::default().start(&[server]);
    let expected = direct(server).await;
    let mut client = Streams::<Empty<Bytes>>::connect(lab.address).await;
    let socket = on_stream(&mut client, "http://a.example/").await;
    assert_eq!(conversation(socket).await, expected);
}

#[tokio::test]
async fn every_kind_of_frame_passes_under_tls_as_directly() {
    let server = server().await;
    let authority = Authority::new();
    let tls = authority.serve(&[&["a.example"]]);
    let lab = Setup::default().start_as(|l7| l7.tls = Some(tls), &[server]);
    let expected = direct(server).await;
    for alpn in [&[&b"h2"[..]][..], &[b"http/1.1"]] {
        let client = authority.client(alpn, None);
        let stream = client.try_connect(lab.address, "a.example").await.unwrap();
        let seen = if alpn[0] == b"h2" {
            let mut client = Streams::<Empty<Bytes>>::over(stream).await;
            conversation(on_stream(&mut client, "https://a.example/").await).await
        } else {
            let asked = "ws://a.example/";
            conversation(tokio_tungstenite::client_async(asked, stream).await.unwrap().0).await
        };
        assert_eq!(seen, expected);
    }
}

#[tokio::test]
async fn a_websocket_keeps_its_connection_of_http_2_from_standing_idle() {
    let server = server().await;
    let client_idle = Duration::from_millis(100);
    let timeouts = HttpTimeouts { client_idle, ..Setup::default().timeouts };
    let lab = Setup { timeouts, ..Setup::default() }.start(&[server]);
    let mut client = Streams::<Empty<Bytes>>::connect(lab.address).await;
    let mut socket = on_stream(&mut client, "http://a.example/").await;
    // That nothing happens for longer than that has no event.
    tokio::time::sleep(3 * client_idle).await;
    socket.send(Message::text("still here")).await.unwrap();
    assert_eq!(soon(socket.next()).await.unwrap().unwrap(), Message::text("still here"));
}

#[tokio::test]
async fn a_server_that_leaves_without_a_word_ends_the_stream() {
    let server = server().await;
    let lab = Setup::default().start(&[server]);
    let mut client = Streams::<Empty<Bytes>>::connect(lab.address).await;
    let mut socket = on_stream(&mut client, "http://a.example/").await;
    socket.send(Message::text("leave")).await.unwrap();
    let end = soon(socket.next()).await;
    assert!(matches!(end, None | Some(Err(_))), "{end:?}");
}

/// An extended CONNECT (RFC 8441 4).
fn asked(protocol: &'static str) -> Request<Empty<Bytes>> {
    let head = Request::builder().method("CONNECT").uri("http://a.example/");
    head.extension(Protocol::from_static(protocol)).body(Empty::new()).unwrap()
}

/// M2
#[tokio::test]
async fn an_extended_connect_for_another_protocol_is_refused() {
    let server = server().await;
    let lab = Setup::default().start(&[server]);
    let mut client = Streams::<Empty<Bytes>>::connect(lab.address).await;
    let response = client.send(asked("connect-udp")).await.unwrap();
    assert_eq!(response.status(), 405);
    assert_eq!(lab.servers[0].opened(), 0);
}

#[tokio::test]
async fn a_success_that_is_no_websocket_is_not_taken_for_one() {
    let server = deston_tests::http::Server::start().await;
    let server = server.answering(|_| "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned());
    let lab = Setup::default().start(&[server.address]);
    let mut client = Streams::<Empty<Bytes>>::connect(lab.address).await;
    let response = client.send(asked("websocket")).await.unwrap();
    assert_eq!(response.status(), 502);
}

#[tokio::test]
async fn a_server_that_has_not_read_the_handshake_is_not_believed() {
    let server = deston_tests::http::Server::start().await.answering(|_| {
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
            .to_owned()
    });
    let lab = Setup::default().start(&[server.address]);
    let mut client = Streams::<Empty<Bytes>>::connect(lab.address).await;
    let response = client.send(asked("websocket")).await.unwrap();
    assert_eq!(response.status(), 502);
}

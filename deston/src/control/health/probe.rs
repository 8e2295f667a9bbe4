//! One check of a server: what is asked, and what counts as an answer.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::model::{Health, HttpCheck, ServerProtocol, Speech};
use crate::proxy::proxy_protocol::{self, Header};
use crate::proxy::{Stream, tls};

/// What a probe goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where it connects: the server, or another port of it.
    pub address: SocketAddr,
    /// What it asks there; `None`: that it connects is all.
    pub request: Option<HttpCheck>,
    /// How it asks. A server that another port stands for is spoken to alike.
    pub speech: Speech,
}

/// What is to be known of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// What counts as an answer.
    pub health: Health,
    /// How the server is spoken to.
    pub speech: Speech,
}

impl From<Health> for Subject {
    fn from(health: Health) -> Self {
        Self { health, speech: Speech::default() }
    }
}

impl Target {
    /// What probes of a server at `server` go to; `None` if there are none.
    pub(super) fn of(server: SocketAddr, subject: &Subject) -> Option<Self> {
        let (request, checks) = match &subject.health {
            Health::Off => return None,
            Health::Tcp(checks) => (None, checks),
            Health::Http(request, checks) => (Some(request.clone()), checks),
        };
        let port = checks.port.map_or(server.port(), |port| port.get());
        let (address, speech) = (SocketAddr::new(server.ip(), port), subject.speech.clone());
        Some(Self { address, request, speech })
    }
}

/// One check of a server.
pub trait Probe: Clone + Send + Sync + 'static {
    /// Whether there is an answer. Dropped when it takes too long.
    fn probe(&self, target: &Target) -> impl Future<Output = io::Result<()>> + Send;
}

/// Connects, asks if something is to be asked, and closes.
#[derive(Clone, Copy, Debug, Default)]
pub struct NetworkProbe;

impl Probe for NetworkProbe {
    async fn probe(&self, target: &Target) -> io::Result<()> {
        let mut stream = TcpStream::connect(target.address).await?;
        if let Some(version) = target.speech.proxy_protocol {
            stream.write_all(&proxy_protocol::compose(version, Header::Own)).await?;
        }
        let Some(check) = &target.request else { return Ok(()) };
        let host = match &check.host {
            Some(host) => host.clone(),
            None => target.address.to_string(),
        };
        let (stream, is_h2) = match &target.speech.tls {
            Some(tls) => tls::connect(stream, tls, false).await?,
            None => {
                let is_h2 = target.speech.protocol == ServerProtocol::Http2;
                (Stream::plain(stream), is_h2)
            }
        };
        let status = if is_h2 {
            let scheme = if target.speech.tls.is_some() { "https" } else { "http" };
            ask_by_http2(stream, &format!("{scheme}://{host}{}", check.path)).await?
        } else {
            ask(stream, &check.path, &host).await?
        };
        if check.expect.iter().any(|range| range.contains(&status.as_u16())) {
            Ok(())
        } else {
            Err(io::Error::other(format!("it answers with status {}", status.as_u16())))
        }
    }
}

/// Sends a request and gives the status of its response; the body is not waited for.
async fn ask(stream: Stream, path: &str, host: &str) -> io::Result<StatusCode> {
    let request = Request::get(path)
        .header(header::HOST, host)
        .header(header::USER_AGENT, "deston")
        .header(header::CONNECTION, HeaderValue::from_static("close"))
        .body(Empty::<Bytes>::new())
        .map_err(io::Error::other)?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let mut response = pin!(sender.send_request(request));
    let response = tokio::select! {
        response = &mut response => response,
        // It is over: the response is there, or will never be.
        _ = connection => response.await,
    };
    response.map(|response| response.status()).map_err(io::Error::other)
}

/// As `ask`, of a server of HTTP/2; the target names the host.
async fn ask_by_http2(stream: Stream, uri: &str) -> io::Result<StatusCode> {
    let request = Request::get(uri)
        .header(header::USER_AGENT, "deston")
        .body(Empty::<Bytes>::new())
        .map_err(io::Error::other)?;
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let mut response = pin!(sender.send_request(request));
    let response = tokio::select! {
        response = &mut response => response,
        _ = connection => response.await,
    };
    response.map(|response| response.status()).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::model::Checks;

    fn check(path: &str, host: Option<&str>) -> HttpCheck {
        let expect = vec![200..=299, 304..=304];
        HttpCheck { path: path.to_owned(), host: host.map(str::to_owned), expect }
    }

    /// Asks a server that answers with `response`; gives the verdict, what it was asked and where.
    async fn probe(response: &str, check: HttpCheck) -> (io::Result<()>, String, SocketAddr) {
        let listening = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listening.local_addr().unwrap();
        let server = async {
            let (mut stream, _) = listening.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(response.as_bytes()).await.unwrap();
            String::from_utf8(head).unwrap()
        };
        let target = Target { address, request: Some(check), speech: Speech::default() };
        let (verdict, head) = tokio::join!(NetworkProbe.probe(&target), server);
        (verdict, head, address)
    }

    #[tokio::test]
    async fn an_http_probe_asks_for_its_path_over_a_connection_of_its_own() {
        let response = "HTTP/1.1 204 No Content\r\n\r\n";
        let (verdict, head, address) = probe(response, check("/up?deep", None)).await;
        verdict.unwrap();
        assert!(head.starts_with("GET /up?deep HTTP/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("host: {address}\r\n")), "{head}");
        assert!(head.contains("connection: close\r\n"), "{head}");
    }

    #[tokio::test]
    async fn an_http_probe_asks_for_the_host_it_is_told() {
        let response = "HTTP/1.1 304 Not Modified\r\n\r\n";
        let (verdict, head, _) = probe(response, check("/", Some("app.example:81"))).await;
        verdict.unwrap();
        assert!(head.contains("host: app.example:81\r\n"), "{head}");
    }

    #[tokio::test]
    async fn a_server_of_http_2_is_asked_by_http_2() {
        let listening = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listening.local_addr().unwrap();
        let answer = |request: Request<hyper::body::Incoming>| async move {
            let asked = request.uri() == "http://app.example/up";
            let status = if asked { StatusCode::OK } else { StatusCode::BAD_REQUEST };
            http::Response::builder().status(status).body(Empty::<Bytes>::new())
        };
        let server = async {
            let (stream, _) = listening.accept().await.unwrap();
            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), hyper::service::service_fn(answer))
                .await
        };
        let request = Some(check("/up", Some("app.example")));
        let speech = Speech { protocol: ServerProtocol::Http2, ..Speech::default() };
        let target = Target { address, request, speech };
        let probing = NetworkProbe.probe(&target);
        tokio::join!(server, probing).1.unwrap();
    }

    #[tokio::test]
    async fn a_status_that_is_not_expected_is_a_failure() {
        for status in ["503 Service Unavailable", "302 Found"] {
            let response = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
            let error = probe(&response, check("/", None)).await.0.unwrap_err();
            let expected = format!("it answers with status {}", &status[..3]);
            assert_eq!(error.to_string(), expected);
        }
    }

    #[tokio::test]
    async fn a_head_is_enough_of_an_answer() {
        let response = "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nsome";
        probe(response, check("/", None)).await.0.unwrap();
    }

    #[tokio::test]
    async fn what_is_no_http_is_a_failure() {
        for response in ["SSH-2.0-server\r\n", ""] {
            assert!(probe(response, check("/", None)).await.0.is_err(), "{response:?}");
        }
    }

    #[tokio::test]
    async fn a_server_that_is_told_of_clients_is_told_that_a_probe_is_of_none() {
        use crate::model::ProxyProtocol;
        for (version, expected) in [
            (ProxyProtocol::V1, &b"PROXY UNKNOWN\r\n"[..]),
            (ProxyProtocol::V2, b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"),
        ] {
            for request in [None, Some(check("/", None))] {
                let listening = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listening.local_addr().unwrap();
                let asks = request.is_some();
                let server = async {
                    let (mut stream, _) = listening.accept().await.unwrap();
                    let mut told = vec![0; expected.len()];
                    stream.read_exact(&mut told).await.unwrap();
                    if asks {
                        assert_eq!(stream.read_u8().await.unwrap(), b'G');
                        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                    }
                    told
                };
                let speech = Speech { proxy_protocol: Some(version), ..Speech::default() };
                let target = Target { address, request, speech };
                let (verdict, told) = tokio::join!(NetworkProbe.probe(&target), server);
                verdict.unwrap();
                assert_eq!(told, expected);
            }
        }
    }

    #[tokio::test]
    async fn a_tcp_probe_connects_or_says_why_not() {
        let listening = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listening.local_addr().unwrap();
        let target = Target { address, request: None, speech: Speech::default() };
        NetworkProbe.probe(&target).await.unwrap();
        drop(listening);
        let error = NetworkProbe.probe(&target).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn probes_go_to_the_server_or_to_another_port_of_it() {
        let server = SocketAddr::from(([192, 0, 2, 1], 80));
        let second = Duration::from_secs(1);
        let checks = |port| Checks { port, interval: second, timeout: second, rise: 1, fall: 1 };
        let address = |port| Target::of(server, &Health::Tcp(checks(port)).into()).unwrap().address;
        assert_eq!(address(None), server);
        assert_eq!(address(NonZeroU16::new(81)).to_string(), "192.0.2.1:81");
        assert_eq!(Target::of(server, &Health::Off.into()), None);
    }
}

//! Requests that must not reach a server.

use deston_tests::http::{Lab, Server, Setup};

/// Sends bytes on a connection of their own and reads the answer's status; no server may have
/// been connected to, and the connection must be over.
async fn refused(lab: &Lab, request: &str) -> u16 {
    let mut client = lab.client().await;
    client.send(request).await;
    let answer = client.message().await;
    client.ended().await;
    assert_eq!(lab.servers[0].opened(), 0, "{request:?}");
    answer.status()
}

macro_rules! refused {
    ($($(#[$id:meta])* $name:ident: $status:literal [$($request:expr),+ $(,)?])+) => {$(
        $(#[$id])*
        #[tokio::test]
        async fn $name() {
            let server = Server::start().await;
            let lab = Setup::default().start(&[server.address]);
            for request in [$($request),+] {
                assert_eq!(refused(&lab, request).await, $status, "{request:?}");
            }
        }
    )+};
}

refused! {
    /// H1
    a_request_without_a_host_is_refused: 400 ["GET / HTTP/1.1\r\n\r\n"]
    /// H1
    a_request_with_two_hosts_is_refused: 400 ["GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"]
    /// H1
    a_request_with_an_invalid_host_is_refused: 400 [
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
    ]
    /// H2
    an_absolute_target_with_another_host_is_refused: 400 [
        "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
    ]
    /// H3, S3
    a_target_that_is_no_path_is_refused: 400 [
        "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    ]
    /// M2
    connect_and_trace_are_not_allowed: 405 [
        "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n",
        "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n",
    ]
    /// F2
    a_transfer_encoding_that_does_not_end_in_chunked_is_refused: 400 [
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \r\n\r\n",
    ]
    /// F3
    chunked_twice_is_refused: 400 [
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    ]
    /// F3
    a_coding_before_chunked_is_not_implemented: 501 [
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ]
    /// F2
    a_transfer_encoding_in_http_1_0_is_refused: 400 [
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ]
    /// F4
    a_content_length_that_is_not_one_number_is_refused: 400 [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\nabc",
    ]
    /// S1, S3
    a_malformed_head_is_refused: 400 [
        "GET / HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nA: b\rc\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nA: b\0c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nA\r\n\r\n",
        " GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nA\t: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nA(: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nA: b\r\r\n\r\n",
        "GET / HTTP/1.1\rHost: a\r\n\r\n",
        "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /\r\n\r\n",
        "GET / http/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.2\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
        "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        "G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
    ]
    /// E1
    an_expectation_other_than_continue_fails: 417 [
        "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\nContent-Length: 3\r\n\r\nabc",
    ]
}

/// An unknown coding alone has no end, as one after `chunked` has none.
///
/// F2
#[tokio::test]
async fn a_coding_without_chunked_is_no_request_of_known_length() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let request = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n";
    assert_eq!(refused(&lab, request).await, 400);
}

/// S5
#[tokio::test]
async fn a_target_over_8_kib_is_too_long() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let path = "a".repeat(8 * 1024);
    assert_eq!(refused(&lab, &format!("GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n")).await, 414);
}

/// S5
#[tokio::test]
async fn a_head_over_32_kib_is_too_large() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let field = "a".repeat(32 * 1024);
    assert_eq!(
        refused(&lab, &format!("GET / HTTP/1.1\r\nHost: a\r\nX: {field}\r\n\r\n")).await,
        431
    );
}

/// S5
#[tokio::test]
async fn more_than_100_fields_are_too_many() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let fields: String = (0..101).map(|n| format!("x-{n}: 1\r\n")).collect();
    assert_eq!(refused(&lab, &format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).await, 431);
}

#[tokio::test]
async fn a_refusal_is_plain_text_that_names_its_status() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let answer = lab.client().await.ask("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(answer.text(), "405 Method Not Allowed\n");
    assert!(answer.field("content-type").is_some_and(|kind| kind.starts_with("text/plain")));
    assert!(answer.field("allow").is_some());
}

/// F9
#[tokio::test]
async fn what_follows_a_refused_request_is_not_served() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let smuggled = "TRACE / HTTP/1.1\r\nHost: a\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(refused(&lab, smuggled).await, 405);
}

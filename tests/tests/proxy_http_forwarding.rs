//! What a server gets, and what a client gets back.

use deston_tests::http::{Message, Server, Setup};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// One exchange: what the server got for `request`, and what the client got for `response`.
async fn exchange(request: &str, response: &str) -> (Message, Message) {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let mut client = lab.client().await;
    client.send(request).await;
    let mut upstream = server.accept().await;
    let got = upstream.message().await;
    upstream.send(response).await;
    let answer = if request.starts_with("HEAD ") {
        Message { head: client.head().await, body: Vec::new(), trailers: String::new() }
    } else {
        client.message().await
    };
    (got, answer)
}

#[tokio::test]
async fn a_request_reaches_the_server_and_its_response_the_client() {
    let (request, response) =
        exchange("GET /a?b=c HTTP/1.1\r\nHost: shop.example\r\n\r\n", OK).await;
    assert_eq!(request.start(), "GET /a?b=c HTTP/1.1");
    assert_eq!(request.field("host").as_deref(), Some("shop.example"));
    assert_eq!(request.field("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert_eq!(request.field("x-forwarded-proto").as_deref(), Some("http"));
    assert_eq!(request.field("x-forwarded-host").as_deref(), Some("shop.example"));
    assert_eq!((response.status(), response.text().as_str()), (200, "ok"));
}

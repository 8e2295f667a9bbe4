//! What clients are shown when a request is not answered by a server.

use deston::model::{L7, Page};
use deston_tests::http::{Server, Setup, Streams, get};
use deston_tests::server::refusing_tcp;

fn pages(l7: &mut L7) {
    let page =
        |body: &'static str| Page { body: body.into(), content_type: "text/html; charset=utf-8" };
    l7.error_pages.0.insert(502, page("<h1>later</h1>"));
    l7.error_pages.0.insert(404, page("<h1>nothing</h1>"));
}

#[tokio::test]
async fn an_error_of_our_own_is_shown_as_its_page() {
    let (address, _socket) = refusing_tcp();
    let lab = Setup::default().start_as(pages, &[address]);
    let answer = lab.client().await.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!((answer.status(), answer.text().as_str()), (502, "<h1>later</h1>"));
    assert_eq!(answer.field("content-type").as_deref(), Some("text/html; charset=utf-8"));

    let reply = Streams::connect(lab.address).await.ask(get("http://a/")).await;
    assert_eq!(reply.status(), 502);
}

#[tokio::test]
async fn another_error_is_plain() {
    let (address, _socket) = refusing_tcp();
    let lab = Setup::default().start_as(pages, &[address]);
    let answer = lab.client().await.ask("GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!((answer.status(), answer.text().as_str()), (400, "400 Bad Request\n"));
}

#[tokio::test]
async fn an_error_of_a_server_passes_as_it_is() {
    let not_found = "HTTP/1.1 404 Not Found\r\ncontent-length: 3\r\n\r\nown";
    let server = Server::start().await.answering(move |_| not_found.to_owned());
    let lab = Setup::default().start_as(pages, &[server.address]);
    let answer = lab.client().await.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!((answer.status(), answer.text().as_str()), (404, "own"));
}

#[tokio::test]
async fn head_is_answered_without_the_page() {
    let (address, _socket) = refusing_tcp();
    let lab = Setup::default().start_as(pages, &[address]);
    let mut client = lab.client().await;
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 502"));
    let answer = client.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(answer.text(), "<h1>later</h1>");
}

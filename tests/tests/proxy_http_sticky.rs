//! Clients that keep their server by a cookie.

use std::sync::Arc;
use std::time::Duration;

use deston::live::{Pool, View};
use deston::model::{Algorithm, StickyCookie};
use deston_common::hash::Seed;
use deston_tests::http::{Answering, Message, Peer, Server};
use deston_tests::live::{l7, live_pool, server};
use deston_tests::proxied::{ANY_PORT, Proxied};

/// A proxy of three servers, each of which answers with its number and the cookies it sees.
struct Sticky {
    _servers: Vec<Answering>,
    pool: Arc<Pool>,
    proxied: Proxied,
}

impl Sticky {
    async fn start() -> Self {
        let mut servers = Vec::new();
        for number in 0..3 {
            servers.push(Server::start().await.answering(move |asked| {
                let body = format!("{number} {}", asked.field("cookie").unwrap_or_default());
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
            }));
        }
        let addresses = servers.iter().map(|answering| server(answering.address));
        let pool = live_pool(Algorithm::RoundRobin, addresses);
        let sticky =
            Self { proxied: Proxied::start(2, ANY_PORT, l7(), &pool), _servers: servers, pool };
        sticky.use_servers(|_| true);
        sticky
    }

    /// Reloads: those of the servers may be chosen whose name is right.
    fn use_servers(&self, is_right: impl Fn(&str) -> bool) {
        let view = self.pool.view();
        let cookie = StickyCookie { name: "id".to_owned(), ttl: Duration::from_secs(3_600) };
        let servers = view.servers.iter().filter(|server| is_right(server.name())).cloned();
        self.pool.publish(View {
            servers: servers.collect(),
            cookie: Some((cookie, Seed::from_text("test"))),
            ..View::clone(&view)
        });
    }

    /// Asks on a connection of its own.
    async fn ask(&self, cookies: &str) -> Message {
        let mut client = Peer::connect(self.proxied.address).await;
        client.ask(format!("GET / HTTP/1.1\r\nHost: a\r\n{cookies}\r\n")).await
    }

    /// The server that a new client is given, and the cookie that says so.
    async fn given(&self) -> (String, String) {
        let answer = self.ask("").await;
        let set = answer.field("set-cookie").unwrap();
        let (cookie, attributes) = set.split_once(';').unwrap();
        assert_eq!(attributes, " Path=/; Max-Age=3600; HttpOnly; SameSite=Lax");
        (answer.text(), cookie.to_owned())
    }
}

#[tokio::test]
async fn a_client_with_a_cookie_keeps_its_server() {
    let sticky = Sticky::start().await;
    for _ in 0..3 {
        let (server, cookie) = sticky.given().await;
        for _ in 0..5 {
            let answer = sticky.ask(&format!("Cookie: {cookie}\r\n")).await;
            assert_eq!(answer.text(), server);
            assert_eq!(answer.field("set-cookie"), None, "it knows");
        }
    }
}

#[tokio::test]
async fn servers_do_not_see_the_cookie() {
    let sticky = Sticky::start().await;
    let (_, cookie) = sticky.given().await;
    let answer = sticky.ask(&format!("Cookie: a=b; {cookie}; c=d\r\n")).await;
    assert_eq!(answer.text().split_once(' ').unwrap().1, "a=b; c=d");
}

#[tokio::test]
async fn a_client_whose_server_may_not_be_chosen_is_given_another() {
    let sticky = Sticky::start().await;
    let (server, cookie) = sticky.given().await;
    let gone = server.trim().to_owned();
    sticky.use_servers(|name| name != gone);
    let answer = sticky.ask(&format!("Cookie: {cookie}\r\n")).await;
    assert_ne!(answer.text(), server);
    let set = answer.field("set-cookie").unwrap();
    let other = set.split(';').next().unwrap();
    assert_ne!(other, cookie);
    assert_eq!(sticky.ask(&format!("Cookie: {other}\r\n")).await.text(), answer.text());
}

#[tokio::test]
async fn a_forged_cookie_is_none() {
    let sticky = Sticky::start().await;
    let answer = sticky.ask("Cookie: id=00000000000000006b49d200\r\n").await;
    assert_eq!(answer.status(), 200);
    assert!(answer.field("set-cookie").is_some());
}

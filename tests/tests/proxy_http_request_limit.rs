//! The limit on requests.

use std::num::NonZeroU32;
use std::time::Duration;

use deston::model::{L7, LimitKey, RateLimit, RequestLimit};
use deston_tests::http::{Answering, Lab, Peer, Server, Setup, Streams, get};

/// Two requests an hour, at once.
fn limited(key: LimitKey) -> impl FnOnce(&mut L7) {
    let burst = NonZeroU32::new(2).unwrap();
    let rate = RateLimit { interval: Duration::from_secs(1_800), burst };
    move |l7| l7.request_limit = Some(RequestLimit { key, rate })
}

async fn start(key: LimitKey) -> (Lab, Answering) {
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let server = Server::start().await.answering(move |_| ok.to_owned());
    let lab = Setup { workers: 2, ..Setup::default() }.start_as(limited(key), &[server.address]);
    (lab, server)
}

async fn status(client: &mut Peer, fields: &str) -> u16 {
    client.ask(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).await.status()
}

#[tokio::test]
async fn beyond_its_rate_a_client_gets_429_and_when_to_come_again() {
    let (lab, server) = start(LimitKey::Ip).await;
    let mut client = lab.client().await;
    assert_eq!(status(&mut client, "").await, 200);
    // Whichever worker it meets.
    assert_eq!(status(&mut lab.client().await, "").await, 200);
    let refused = client.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(refused.status(), 429);
    let after: u64 = refused.field("retry-after").unwrap().parse().unwrap();
    assert!((1_700..=1_800).contains(&after), "{after}");
    assert_eq!(refused.field("connection"), None, "the connection goes on");
    assert_eq!(status(&mut client, "").await, 429);
    let mut streams = Streams::connect(lab.address).await;
    assert_eq!(streams.ask(get("http://a/")).await.status(), 429);
    assert_eq!(server.requests(), 2, "no server was asked");
}

#[tokio::test]
async fn clients_known_by_a_field_are_counted_apart_and_without_it_by_address() {
    let key = LimitKey::Header("x-key".parse().unwrap());
    let (lab, _server) = start(key).await;
    let mut client = lab.client().await;
    for fields in ["X-Key: a\r\n", "X-Key: b\r\n", "", "X-Key: a\r\n", "X-Key: b\r\n", ""] {
        assert_eq!(status(&mut client, fields).await, 200, "{fields}");
    }
    for fields in ["X-Key: a\r\n", "X-Key: b\r\n", "", "X-Key: c\r\nX-Key: d\r\n"] {
        assert_eq!(status(&mut client, fields).await, 429, "{fields}");
    }
}

#[tokio::test]
async fn clients_known_by_a_cookie_are_counted_apart() {
    let (lab, _server) = start(LimitKey::Cookie("id".to_owned())).await;
    let mut client = lab.client().await;
    for fields in ["Cookie: id=a\r\n", "Cookie: x=1; id=a\r\n", "Cookie: id=b\r\n"] {
        assert_eq!(status(&mut client, fields).await, 200, "{fields}");
    }
    assert_eq!(status(&mut client, "Cookie: id=a\r\n").await, 429);
}

#[tokio::test]
async fn a_body_that_is_not_wanted_ends_nothing_else() {
    let (lab, _server) = start(LimitKey::Ip).await;
    let mut client = lab.client().await;
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    for expected in [200, 200, 429, 429] {
        assert_eq!(client.ask(post).await.status(), expected);
    }
}

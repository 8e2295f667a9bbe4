//! Basic authentication.

use deston::model::{Access, Auth, L7, Log};
use deston_tests::http::{Answering, Lab, Message, Peer, Server, Setup};

/// Of the password `U*U`.
const HASH: &str = "$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
/// `alice:U*U`.
const ALICE: &str = "YWxpY2U6VSpV";
/// `alice:U*V`.
const WRONG: &str = "YWxpY2U6VSpW";
/// `carol:U*U`.
const STRANGER: &str = "Y2Fyb2w6VSpV";

fn users(l7: &mut L7) {
    l7.auth = Some(Auth::parse(&format!("alice:{HASH}\n")).unwrap());
}

async fn start() -> (Lab, Answering) {
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let server = Server::start().await.answering(move |_| ok.to_owned());
    (Setup::default().start_as(users, &[server.address]), server)
}

async fn ask(client: &mut Peer, credentials: &str) -> Message {
    let field = format!("Authorization: Basic {credentials}");
    client.ask(format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n")).await
}

#[tokio::test]
async fn a_user_with_the_password_is_served_and_nobody_else() {
    let (lab, server) = start().await;
    let mut client = lab.client().await;
    let stranger = client.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(stranger.status(), 401);
    let challenge = stranger.field("www-authenticate").unwrap();
    assert_eq!(challenge, "Basic realm=\"restricted\", charset=\"UTF-8\"");
    for credentials in [WRONG, STRANGER, "", "***"] {
        assert_eq!(ask(&mut client, credentials).await.status(), 401, "{credentials}");
    }
    assert_eq!(server.requests(), 0, "no server was asked");
    assert_eq!(ask(&mut client, ALICE).await.status(), 200, "on the same connection");
}

#[tokio::test]
async fn a_password_that_was_right_is_no_reason_to_let_another_in() {
    let (lab, _server) = start().await;
    let mut client = lab.client().await;
    for credentials in [ALICE, ALICE] {
        assert_eq!(ask(&mut client, credentials).await.status(), 200);
    }
    for credentials in [WRONG, STRANGER] {
        assert_eq!(ask(&mut client, credentials).await.status(), 401);
    }
}

#[tokio::test]
async fn a_user_that_a_reload_removes_is_refused_though_the_password_was_right() {
    let (lab, _server) = start().await;
    let mut client = lab.client().await;
    assert_eq!(ask(&mut client, ALICE).await.status(), 200);
    lab.set(|l7| l7.auth = Some(Auth::parse(&format!("bob:{HASH}\n")).unwrap()));
    assert_eq!(ask(&mut client, ALICE).await.status(), 401);
    lab.set(|l7| l7.auth = None);
    assert_eq!(ask(&mut client, WRONG).await.status(), 200, "nobody is asked any more");
}

#[tokio::test]
async fn who_is_refused_is_logged_without_the_password() {
    let server = Server::start().await;
    let log = Log { access: Access::Json, sample: 1_000_000, errors_always: true };
    let (lab, mut records) = Setup::default().start_logging(&log, users, &[server.address]);
    assert_eq!(ask(&mut lab.client().await, WRONG).await.status(), 401);
    let line = records.line().await;
    assert!(line.contains("\"status\":401") && line.contains("\"unauthorized\""), "{line}");
    assert!(!line.contains(WRONG) && !line.contains("U*V"), "{line}");
}

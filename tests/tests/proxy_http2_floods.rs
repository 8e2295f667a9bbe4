//! Clients of HTTP/2 that keep a server busy with frames that ask for nothing.

use deston_tests::http::frames::{Answer, Frame, Frames, block, code, flag, get, kind};
use deston_tests::http::{Answering, Lab, Server, Setup};

/// Frames of a flood: far more than any client has a reason for.
const MANY: u32 = 20_000;

async fn lab() -> (Lab, Answering) {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let server = Server::start().await.answering(move |_| answer.to_owned());
    (Setup::default().start(&[server.address]), server)
}

/// Sends frames until the connection is over, and says how it ended.
async fn flood(before: &[Frame], frame: impl Fn(u32) -> Vec<Frame>) -> Answer {
    let (lab, server) = lab().await;
    let mut client = Frames::connect(lab.address).await;
    for frame in before {
        client.send(frame).await;
    }
    let mut sent = 0;
    while sent < MANY {
        let frames = (sent..sent + 100).flat_map(&frame);
        let bytes: Vec<u8> = frames.flat_map(|frame| frame.bytes()).collect();
        if !client.send_bytes(&bytes).await {
            break;
        }
        sent += 100;
    }
    // Fails if there is no end.
    let ended = client.ends().await;
    // Others are served as ever.
    assert_eq!(Frames::connect(lab.address).await.ask(1, &get("/")).await, Answer::Status(200));
    println!("ended by {ended:?} within {sent} frames, after {} requests", server.requests());
    ended
}

/// The stream of the nth request.
fn stream(n: u32) -> u32 {
    2 * n + 1
}

/// A request's head of which more is to come.
fn begun() -> Frame {
    Frame::new(kind::HEADERS, flag::END_STREAM, 1, [])
}

const CALM: Answer = Answer::GoAway(code::ENHANCE_YOUR_CALM);

/// V3
#[tokio::test]
async fn a_flood_of_settings_is_cut_off() {
    assert_eq!(flood(&[], |_| vec![Frame::new(kind::SETTINGS, 0, 0, [])]).await, Answer::Gone);
}

/// V3
#[tokio::test]
async fn a_flood_of_pings_is_cut_off() {
    assert_eq!(flood(&[], |_| vec![Frame::new(kind::PING, 0, 0, [0; 8])]).await, Answer::Gone);
}

/// V3
#[tokio::test]
async fn a_flood_of_priorities_or_unknown_frames_is_cut_off() {
    let priority = |n| vec![Frame::new(kind::PRIORITY, 0, stream(n), [0, 0, 0, 0, 1])];
    assert_eq!(flood(&[], priority).await, Answer::Gone);
    assert_eq!(flood(&[], |_| vec![Frame::new(0xfa, 0, 0, [])]).await, Answer::Gone);
}

/// V3
#[tokio::test]
async fn a_flood_of_empty_content_is_told_to_calm_down() {
    let open = Frame::request(1, &get("/"), false);
    assert_eq!(flood(&[open], |_| vec![Frame::new(kind::DATA, 0, 1, [])]).await, CALM);
}

/// V3
#[tokio::test]
async fn a_head_without_end_is_told_to_calm_down() {
    for part in [Vec::new(), block(&[("x", "y")])] {
        let more = Frame::new(kind::CONTINUATION, 0, 1, part);
        assert_eq!(flood(&[begun()], |_| vec![more.clone()]).await, CALM);
    }
}

/// CVE-2023-44487.
///
/// V3
#[tokio::test]
async fn requests_that_are_taken_back_at_once_are_told_to_calm_down() {
    let ended = flood(&[], |n| {
        let cancel = Frame::new(kind::RST_STREAM, 0, stream(n), [0, 0, 0, 8]);
        vec![Frame::request(stream(n), &get("/"), true), cancel]
    })
    .await;
    assert_eq!(ended, CALM);
}

/// CVE-2025-8671: the client errs on purpose, so that the server resets its streams.
///
/// V3
#[tokio::test]
async fn requests_that_the_server_is_made_to_reset_end_the_connection() {
    let overflow = flood(&[], |n| {
        let most = Frame::new(kind::WINDOW_UPDATE, 0, stream(n), [0x7f, 0xff, 0xff, 0xff]);
        vec![Frame::request(stream(n), &get("/"), false), most]
    })
    .await;
    assert_eq!(overflow, CALM);
    let none = flood(&[], |n| {
        let none = Frame::new(kind::WINDOW_UPDATE, 0, stream(n), [0; 4]);
        vec![Frame::request(stream(n), &get("/"), true), none]
    })
    .await;
    assert!(matches!(none, CALM | Answer::GoAway(code::PROTOCOL_ERROR)), "{none:?}");
}

/// V3
#[tokio::test]
async fn pings_among_requests_are_no_flood() {
    let (lab, _server) = lab().await;
    let mut client = Frames::connect(lab.address).await;
    for n in 0..3_000 {
        client.send(&Frame::new(kind::PING, 0, 0, [0; 8])).await;
        assert_eq!(client.ask(stream(n), &get("/")).await, Answer::Status(200));
    }
}

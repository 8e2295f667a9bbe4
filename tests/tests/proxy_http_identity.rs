//! Request ids and traces.

use deston::model::{Access, L7, Log};
use deston_tests::http::{Message, Server, Setup, Streams, get};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-request-id: of-the-server\r\n\r\nok";

/// What the server got and what the client got, with these fields of the request.
async fn exchange(set: impl FnOnce(&mut L7), fields: &str) -> (Message, Message) {
    let server = Server::start().await;
    let lab = Setup::default().start_as(set, &[server.address]);
    let mut client = lab.client().await;
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).await;
    let mut upstream = server.accept().await;
    let request = upstream.message().await;
    upstream.send(OK).await;
    (request, client.message().await)
}

fn id(message: &Message) -> String {
    message.field("x-request-id").unwrap_or_default()
}

#[tokio::test]
async fn a_request_has_a_fresh_id_that_the_server_and_the_client_are_told() {
    let fields = "X-Request-Id: mine\r\nConnection: x-request-id\r\n";
    let (request, response) = exchange(|_| {}, fields).await;
    assert_eq!(id(&request).len(), 36, "{}", request.head);
    assert_eq!(id(&request), id(&response));
    let (another, _) = exchange(|_| {}, fields).await;
    assert_ne!(id(&request), id(&another));
}

#[tokio::test]
async fn without_an_id_what_both_sides_say_passes() {
    let off = |l7: &mut L7| l7.identity.request_id = None;
    let (request, response) = exchange(off, "X-Request-Id: mine\r\n").await;
    assert_eq!((id(&request).as_str(), id(&response).as_str()), ("mine", "of-the-server"));
}

#[tokio::test]
async fn a_refused_request_has_an_id_too_and_it_is_in_the_log() {
    let server = Server::start().await;
    let log = Log { access: Access::Json, sample: 1_000_000, errors_always: true };
    let (lab, mut records) = Setup::default().start_logging(&log, |_| {}, &[server.address]);
    let answer = lab.client().await.ask("GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!((answer.status(), id(&answer).len()), (400, 36));
    assert_eq!(records.next().await["request_id"], id(&answer));
}

#[tokio::test]
async fn over_http_2_requests_have_ids_too() {
    let server = Server::start().await.answering(|_| OK.to_owned());
    let lab = Setup::default().start(&[server.address]);
    let mut streams = Streams::connect(lab.address).await;
    let response = streams.send(get("http://a/")).await.unwrap();
    assert_eq!(response.headers()["x-request-id"].len(), 36);
}

const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test]
async fn traces_pass_as_they_are_unless_asked_for() {
    let fields = format!("traceparent: {VALID}\r\ntracestate: a=b\r\n");
    let (request, _) = exchange(|_| {}, &fields).await;
    assert_eq!(request.field("traceparent").as_deref(), Some(VALID));
    let (request, _) = exchange(|_| {}, "").await;
    assert_eq!(request.field("traceparent"), None);
}

#[tokio::test]
async fn a_valid_trace_goes_on_with_a_new_parent_and_another_begins_anew() {
    let on = |l7: &mut L7| l7.identity.traceparent = true;
    let fields = format!("traceparent: {VALID}\r\ntracestate: a=b\r\n");
    let (request, _) = exchange(on, &fields).await;
    let trace = request.field("traceparent").unwrap();
    assert!(trace.starts_with(&VALID[..36]) && trace.ends_with("-01"), "{trace}");
    assert_ne!(trace, VALID);
    assert_eq!(request.field("tracestate").as_deref(), Some("a=b"));

    let (request, _) = exchange(on, "traceparent: 00-no-trace-01\r\ntracestate: a=b\r\n").await;
    assert_eq!(request.field("traceparent").unwrap().len(), VALID.len());
    assert_eq!(request.field("tracestate"), None);
}

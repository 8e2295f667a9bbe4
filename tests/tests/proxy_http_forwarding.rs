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

/// P3
#[tokio::test]
async fn a_clients_own_forwarding_fields_are_replaced() {
    let request = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.0.0.1\r\n\
        X-Forwarded-For: 10.0.0.2\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n\
        X-Real-IP: 10.0.0.1\r\nForwarded: for=10.0.0.1\r\n\r\n";
    let (request, _) = exchange(request, OK).await;
    assert_eq!(request.field("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert_eq!(request.field("x-forwarded-proto").as_deref(), Some("http"));
    assert_eq!(request.field("x-forwarded-host").as_deref(), Some("a"));
    assert_eq!(request.field("x-real-ip").as_deref(), Some("127.0.0.1"));
    assert_eq!(request.field("forwarded"), None);
}

/// P3
#[tokio::test]
async fn forwarding_fields_that_are_not_replaced_are_removed() {
    let names = [
        "X-Forwarded-Port",
        "X-Forwarded-Ssl",
        "X-Forwarded-Scheme",
        "X-Forwarded-Protocol",
        "X-Forwarded-Prefix",
        "X-Forwarded-Server",
        "X-Forwarded-By",
        "X-Url-Scheme",
        "Front-End-Https",
        "True-Client-IP",
        "X-Client-IP",
        "X-Cluster-Client-IP",
        "Proxy",
    ];
    let fields: String = names.iter().map(|name| format!("{name}: 1\r\n")).collect();
    let (request, _) = exchange(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"), OK).await;
    let passed: Vec<&str> =
        names.into_iter().filter(|name| request.field(&name.to_lowercase()).is_some()).collect();
    assert!(passed.is_empty(), "{passed:?}");
}

/// P1
#[tokio::test]
async fn fields_of_the_clients_connection_do_not_reach_the_server() {
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 1\r\n\
        Keep-Alive: 300\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: basic x\r\n\
        TE: gzip\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\nAccept: */*\r\n\r\n";
    let (request, _) = exchange(request, OK).await;
    let mut fields: Vec<&str> =
        request.head.lines().skip(1).filter_map(|line| line.split(':').next()).collect();
    fields.sort_unstable();
    let expected = [
        "accept",
        "host",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-request-id",
    ];
    assert_eq!(fields, expected);
}

/// P1
#[tokio::test]
async fn fields_of_the_servers_connection_do_not_reach_the_client() {
    let response = "HTTP/1.1 200 OK\r\nConnection: X-Mine\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\n\
        Proxy-Authenticate: basic\r\nUpgrade: h2c\r\nX-Kept: 1\r\nContent-Length: 0\r\n\r\n";
    let (_, response) = exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n", response).await;
    let fields = ["connection", "x-mine", "keep-alive", "proxy-authenticate", "upgrade"];
    assert_eq!(fields.map(|name| response.field(name)), [const { None }; 5]);
    assert_eq!(response.field("x-kept").as_deref(), Some("1"));
}

/// F6, F7
#[tokio::test]
async fn a_chunked_request_stays_chunked_whatever_the_method() {
    for method in ["POST", "GET", "DELETE"] {
        let request = format!(
            "{method} / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
             3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        );
        let (request, _) = exchange(&request, OK).await;
        assert_eq!(request.field("transfer-encoding").as_deref(), Some("chunked"), "{method}");
        assert_eq!(request.text(), "abcde");
    }
}

/// F7
#[tokio::test]
async fn a_request_of_known_length_keeps_it_whatever_the_method() {
    for method in ["PUT", "GET"] {
        let request = format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
        let (request, _) = exchange(&request, OK).await;
        assert_eq!(request.field("content-length").as_deref(), Some("3"), "{method}");
        assert_eq!(request.field("transfer-encoding"), None);
        assert_eq!(request.text(), "abc");
    }
}

/// F4
#[tokio::test]
async fn equal_content_lengths_become_one() {
    let request = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc";
    let (request, _) = exchange(request, OK).await;
    assert_eq!(request.field("content-length").as_deref(), Some("3"));
    let response = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok";
    let (_, response) = exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n", response).await;
    assert_eq!(response.field("content-length").as_deref(), Some("2"));
}

/// F5
#[tokio::test]
async fn a_chunked_response_stays_chunked_and_loses_a_content_length() {
    let response = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n\
        3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let (_, response) = exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n", response).await;
    assert_eq!(response.field("transfer-encoding").as_deref(), Some("chunked"));
    assert_eq!(response.field("content-length"), None);
    assert_eq!(response.text(), "abcde");
}

/// P4
#[tokio::test]
async fn announced_trailers_pass_both_ways() {
    let request = "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\
        Trailer: X-Sum\r\n\r\n1\r\na\r\n0\r\nX-Sum: 7\r\n\r\n";
    let response = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
        1\r\nb\r\n0\r\nX-Sum: 8\r\nX-Unannounced: 1\r\n\r\n";
    let (request, response) = exchange(request, response).await;
    assert_eq!(request.field("te").as_deref(), Some("trailers"));
    assert_eq!(request.trailers, "x-sum: 7\n");
    assert_eq!(response.field("trailer").as_deref(), Some("x-sum"));
    assert_eq!(response.trailers, "x-sum: 8\n");
}

/// P4
#[tokio::test]
async fn trailers_that_the_client_does_not_take_are_not_announced() {
    let response = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
        1\r\nb\r\n0\r\nX-Sum: 8\r\n\r\n";
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTE: gzip\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\nTE: trailers\r\n\r\n",
    ] {
        let (_, response) = exchange(request, response).await;
        assert_eq!(response.field("trailer"), None, "{request:?}");
        assert_eq!((response.text().as_str(), response.trailers.as_str()), ("b", ""));
    }
}

/// F8
#[tokio::test]
async fn an_answer_to_head_keeps_the_length_and_carries_no_body() {
    let response = "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n";
    let (request, response) = exchange("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", response).await;
    assert_eq!(request.start(), "HEAD / HTTP/1.1");
    assert_eq!(response.field("content-length").as_deref(), Some("1234"));
}

/// F8
#[tokio::test]
async fn not_modified_keeps_the_length_and_carries_no_body() {
    let server = Server::start().await.answering(|request| {
        if request.head.contains("if-none-match") {
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 1234\r\nETag: \"x\"\r\n\r\n".to_owned()
        } else {
            OK.to_owned()
        }
    });
    let lab = Setup::default().start(&[server.address]);
    let mut client = lab.client().await;
    let unmodified = client.ask("GET / HTTP/1.1\r\nHost: a\r\nIf-None-Match: \"x\"\r\n\r\n").await;
    assert_eq!(unmodified.status(), 304);
    assert_eq!(unmodified.field("content-length").as_deref(), Some("1234"));
    assert_eq!(client.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.text(), "ok");
    assert_eq!(server.connections(), 1);
}

/// F8
#[tokio::test]
async fn no_content_carries_neither_length_nor_body() {
    let response = "HTTP/1.1 204 No Content\r\n\r\n";
    let (_, response) = exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n", response).await;
    assert_eq!(response.status(), 204);
    assert_eq!(response.field("content-length"), None);
    assert_eq!(response.field("transfer-encoding"), None);
}

#[tokio::test]
async fn no_content_to_head_carries_no_length() {
    let response = "HTTP/1.1 204 No Content\r\nContent-Length: 12\r\n\r\n";
    let (_, response) = exchange("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", response).await;
    assert_eq!(response.status(), 204);
    assert_eq!(response.field("content-length"), None);
}

#[tokio::test]
async fn a_response_that_ends_with_its_connection_reaches_the_client_whole() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let mut client = lab.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut upstream = server.accept().await;
    upstream.message().await;
    upstream.send("HTTP/1.0 200 OK\r\n\r\nall of it").await;
    drop(upstream);
    assert_eq!(client.message().await.text(), "all of it");
}

#[tokio::test]
async fn an_absolute_target_without_a_host_names_it() {
    let (request, _) = exchange("GET http://a.example/ HTTP/1.0\r\n\r\n", OK).await;
    assert_eq!(request.field("host").as_deref(), Some("a.example"));
}

#[tokio::test]
async fn an_http_1_0_client_is_served_and_let_go() {
    let (request, response) = exchange("GET /old HTTP/1.0\r\n\r\n", OK).await;
    assert_eq!(request.start(), "GET /old HTTP/1.1");
    assert!(request.field("host").is_some_and(|host| host.starts_with("127.0.0.1:")));
    assert_eq!(response.start(), "HTTP/1.0 200 OK");
    assert_eq!(response.text(), "ok");
}

#[tokio::test]
async fn an_http_1_0_client_gets_a_chunked_response_without_its_chunks() {
    let response = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let (_, response) = exchange("GET / HTTP/1.0\r\nHost: a\r\n\r\n", response).await;
    assert_eq!(response.field("transfer-encoding"), None);
    assert_eq!(response.text(), "abc");
}

#[tokio::test]
async fn an_http_1_0_client_may_keep_its_connection() {
    let server = Server::start().await.answering(|_| OK.to_owned());
    let lab = Setup::default().start(&[server.address]);
    let mut client = lab.client().await;
    for _ in 0..2 {
        let request = "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n";
        let response = client.ask(request).await;
        assert_eq!(response.field("connection").as_deref(), Some("keep-alive"));
        assert_eq!(response.text(), "ok");
    }
}

/// H2
#[tokio::test]
async fn an_absolute_target_reaches_the_server_in_origin_form() {
    let (request, _) =
        exchange("GET http://a.example/x?y HTTP/1.1\r\nHost: a.example\r\n\r\n", OK).await;
    assert_eq!(request.start(), "GET /x?y HTTP/1.1");
}

#[tokio::test]
async fn an_absolute_target_agrees_with_a_host_without_the_default_port() {
    let (request, _) = exchange("GET http://a:80/x HTTP/1.1\r\nHost: a\r\n\r\n", OK).await;
    assert_eq!(request.start(), "GET /x HTTP/1.1");
    assert_eq!(request.field("host").as_deref(), Some("a"));
}

#[tokio::test]
async fn an_absolute_target_with_a_query_alone_gets_a_path() {
    let (request, _) = exchange("GET http://a?y HTTP/1.1\r\nHost: a\r\n\r\n", OK).await;
    assert_eq!(request.start(), "GET /?y HTTP/1.1");
}

/// H3
#[tokio::test]
async fn an_asterisk_of_options_reaches_the_server() {
    let (request, _) = exchange("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", OK).await;
    assert_eq!(request.start(), "OPTIONS * HTTP/1.1");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = Server::start().await.answering(|request| {
        let path = request.start().split(' ').nth(1).unwrap_or_default().to_owned();
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len())
    });
    let lab = Setup::default().start(&[server.address]);
    let mut client = lab.client().await;
    let requests = ["/1", "/2", "/3"].map(|path| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    client.send(requests.concat()).await;
    for path in ["/1", "/2", "/3"] {
        assert_eq!(client.message().await.text(), path);
    }
}

#[tokio::test]
async fn a_request_that_asks_to_close_is_answered_and_closed() {
    let server = Server::start().await.answering(|_| OK.to_owned());
    let lab = Setup::default().start(&[server.address]);
    let mut client = lab.client().await;
    let response = client.ask("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert_eq!(response.field("connection").as_deref(), Some("close"));
    client.ended().await;
}

/// E1
#[tokio::test]
async fn an_expected_continue_is_sent_once_the_server_takes_the_body() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let mut client = lab.client().await;
    let head = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n";
    client.send(head).await;
    let mut upstream = server.accept().await;
    let forwarded = upstream.head().await;
    assert!(!forwarded.contains("expect"));
    assert_eq!(client.head().await, "HTTP/1.1 100 Continue");
    client.send("abc").await;
    assert_eq!(upstream.exactly(3).await, b"abc");
    upstream.send(OK).await;
    assert_eq!(client.message().await.text(), "ok");
}

/// E3
#[tokio::test]
async fn informational_responses_do_not_stand_in_for_the_final_one() {
    let response = format!("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{OK}");
    let (_, response) = exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &response).await;
    assert_eq!((response.status(), response.text().as_str()), (200, "ok"));
}

/// E2
#[tokio::test]
async fn a_response_before_the_end_of_the_request_is_delivered_whole() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let mut client = lab.client().await;
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc").await;
    let mut upstream = server.accept().await;
    upstream.head().await;
    upstream.send("HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nno!").await;
    let response = client.message().await;
    assert_eq!((response.status(), response.text().as_str()), (413, "no!"));
    // Bytes still under way must not turn the answer into a reset.
    let _ = client.try_send(vec![b'x'; 1000]).await;
    client.ended().await;
}

/// The `Connection` of a response that comes when half of the request's body has.
async fn connection_of_early(status: &str) -> Option<String> {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let mut client = lab.client().await;
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc").await;
    let mut upstream = server.accept().await;
    upstream.head().await;
    upstream.send(&format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n")).await;
    let head = client.head().await;
    Message { head, body: Vec::new(), trailers: String::new() }.field("connection")
}

#[tokio::test]
async fn a_failure_before_the_end_of_the_request_says_that_the_connection_closes() {
    for status in ["413 Content Too Large", "303 See Other", "503 Service Unavailable"] {
        assert_eq!(connection_of_early(status).await.as_deref(), Some("close"), "{status}");
    }
}

#[tokio::test]
async fn a_success_before_the_end_of_the_request_may_take_the_rest_of_it() {
    assert_eq!(connection_of_early("200 OK").await, None);
}

#[tokio::test]
async fn large_bodies_pass_both_ways_at_once_and_unchanged() {
    const LENGTH: usize = 8 * 1024 * 1024;
    let content: Vec<u8> = (0..LENGTH).map(|n| (n % 251) as u8).collect();
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let mut client = lab.client().await;
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LENGTH}\r\n\r\n");
    let sending = async {
        client.send(head).await;
        client.send(&content).await;
        client.message().await
    };
    let echoing = async {
        let mut upstream = server.accept().await;
        upstream.head().await;
        let received = upstream.exactly(LENGTH).await;
        upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        for chunk in received.chunks(100_000) {
            upstream.send(format!("{:x}\r\n", chunk.len())).await;
            upstream.send(chunk).await;
            upstream.send("\r\n").await;
        }
        upstream.send("0\r\n\r\n").await;
    };
    let (response, ()) = tokio::join!(sending, echoing);
    assert!(response.body == content, "{} bytes came back", response.body.len());
}

#[tokio::test]
async fn a_slow_reader_holds_the_server_back() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let mut client = lab.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut upstream = server.accept().await;
    upstream.message().await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await;
    // Far more than all buffers on the way hold: only a reader lets the rest through.
    let stalled = upstream.fill_until_blocked().await;
    assert!(stalled < 64 * 1024 * 1024, "{stalled} bytes went into buffers");
}

//! Routes: which pool a request goes to, what it becomes on the way, and answers without a server.

use deston_tests::http::{Message, Routed, Server, naming};

fn get(host: &str, target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

/// The server that answered: the first line of the body.
fn by(answer: &Message) -> String {
    answer.text().lines().next().unwrap_or_default().to_owned()
}

/// What the server got of a field; the body is its name and the request's head.
fn got(answer: &Message, name: &str) -> Option<String> {
    let text = answer.text();
    let head = text.split_once('\n').map(|(_, head)| head.to_owned()).unwrap_or_default();
    Message { head, body: Vec::new(), trailers: String::new() }.field(name)
}

/// The target that the server got.
fn target(answer: &Message) -> String {
    let text = answer.text();
    text.lines().nth(1).and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn the_first_route_that_matches_decides_and_else_the_listeners_pool() {
    let (main, api, v1) = (naming("main").await, naming("api").await, naming("v1").await);
    let routes = "[[route]]\nhost = \"api.example\"\npath = \"/v1/*\"\npool = \"v1\"\n\
                  [[route]]\nhost = \"api.example\"\npool = \"api\"\n";
    let servers = [("main", main.address), ("api", api.address), ("v1", v1.address)];
    let lab = Routed::start(routes, &servers);
    let mut client = lab.client().await;
    for (host, path, expected) in [
        ("api.example", "/v1/a", "v1"),
        ("API.example:80", "/v1", "v1"),
        ("api.example", "/v2", "api"),
        ("www.example", "/v1/a", "main"),
    ] {
        let answer = client.ask(get(host, path)).await;
        assert_eq!((by(&answer).as_str(), target(&answer).as_str()), (expected, path), "{host}");
    }
}

#[tokio::test]
async fn no_spelling_of_a_path_evades_its_route_and_the_server_gets_it_as_sent() {
    let (main, admin) = (naming("main").await, naming("admin").await);
    let routes = "[[route]]\npath = \"/admin/*\"\npool = \"admin\"\n";
    let lab = Routed::start(routes, &[("main", main.address), ("admin", admin.address)]);
    let mut client = lab.client().await;
    for path in
        ["/admin/x", "/x/../admin/x", "/%61dmin/x", "//admin/x", "/./admin", "/x/%2e%2E/admin/x"]
    {
        let answer = client.ask(get("a", path)).await;
        assert_eq!((by(&answer).as_str(), target(&answer).as_str()), ("admin", path));
    }
    let absolute = "GET http://a/%61dmin/x HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(by(&client.ask(absolute).await), "admin");
    assert_eq!(by(&client.ask(get("a", "/admin/../x")).await), "main");
}

#[tokio::test]
async fn method_header_and_query_choose_too() {
    let (main, other) = (naming("main").await, naming("other").await);
    let routes = "[[route]]\nmethods = [\"GET\", \"HEAD\"]\nheader = { X-Beta = \"1\" }\n\
                  query = { v = \"2\" }\npool = \"other\"\n";
    let lab = Routed::start(routes, &[("main", main.address), ("other", other.address)]);
    let mut client = lab.client().await;
    for (method, target, beta, expected) in [
        ("GET", "/a?v=2", "1", "other"),
        ("GET", "/a?w=3&v=%32", "1", "other"),
        ("POST", "/a?v=2", "1", "main"),
        ("GET", "/a?v=3", "1", "main"),
        ("GET", "/a", "1", "main"),
        ("GET", "/a?v=2", "2", "main"),
    ] {
        let request = format!("{method} {target} HTTP/1.1\r\nHost: a\r\nX-Beta: {beta}\r\n\r\n");
        assert_eq!(by(&client.ask(&request).await), expected, "{request}");
    }
    let repeated = "GET /?v=2 HTTP/1.1\r\nHost: a\r\nX-Beta: 2\r\nX-Beta: 1\r\n\r\n";
    assert_eq!(by(&client.ask(repeated).await), "other");
}

#[tokio::test]
async fn a_path_is_rewritten_with_what_the_pattern_matched_and_the_query_stays() {
    let main = naming("main").await;
    let routes = "[[route]]\npath = \"/v1/*\"\npool = \"main\"\nrewrite = \"/api/$1\"\n\
                  [[route]]\npath_regex = '/u/([a-z]+)/p/(\\d+)'\npool = \"main\"\n\
                  rewrite = \"/posts/$2/$1\"\n[[route]]\npath = \"/old\"\npool = \"main\"\n\
                  rewrite = \"/new\"\n";
    let lab = Routed::start(routes, &[("main", main.address)]);
    let mut client = lab.client().await;
    for (asked, expected) in [
        ("/v1/a/b?c=d", "/api/a/b?c=d"),
        ("/v1", "/api/"),
        ("/v1/a%2Fb", "/api/a%2Fb"),
        ("/v1/x/../../v1/a", "/api/a"),
        ("/u/ann/p/7", "/posts/7/ann"),
        ("/u/ann/p/7/x", "/u/ann/p/7/x"),
        ("/old?", "/new?"),
    ] {
        assert_eq!(target(&client.ask(get("a", asked)).await), expected, "{asked}");
    }
}

#[tokio::test]
async fn requests_are_split_in_exact_proportion_to_the_weights() {
    let (app, canary) = (naming("app").await, naming("canary").await);
    let routes = "[[route]]\nsplit = { app = 9, canary = 1 }\n";
    let lab = Routed::start(routes, &[("app", app.address), ("canary", canary.address)]);
    let mut clients = [lab.client().await, lab.client().await];
    for _ in 0..15 {
        for client in &mut clients {
            client.ask(get("a", "/")).await;
        }
    }
    assert_eq!((app.requests(), canary.requests()), (27, 3));
}

#[tokio::test]
async fn a_redirect_to_https_keeps_host_path_and_query() {
    let main = naming("main").await;
    let routes = "[[route]]\nredirect = { status = 308, to = \"https://$host$path\" }\n";
    let lab = Routed::start(routes, &[("main", main.address)]);
    let mut client = lab.client().await;
    for (host, asked, expected) in [
        ("shop.example:80", "/a/b?c=d", "https://shop.example/a/b?c=d"),
        ("shop.example", "/", "https://shop.example/"),
        ("shop.example", "/a%0d%0ab", "https://shop.example/a%0d%0ab"),
        ("shop.example", "//evil.example", "https://shop.example/evil.example"),
    ] {
        let answer = client.ask(get(host, asked)).await;
        assert_eq!((answer.status(), answer.field("location").as_deref()), (308, Some(expected)));
        assert_eq!(answer.field("connection"), None, "the connection goes on");
    }
    assert_eq!(main.requests(), 0);
}

#[tokio::test]
async fn a_redirect_that_needs_a_host_refuses_a_request_without_one() {
    let main = naming("main").await;
    let routes = "[[route]]\nhost = \"a.example\"\npool = \"main\"\n\
                  [[route]]\npath = \"/a\"\nredirect = { to = \"https://$host$path\" }\n";
    let lab = Routed::start(routes, &[("main", main.address)]);
    let answer = lab.client().await.ask("GET /a HTTP/1.0\r\n\r\n").await;
    assert_eq!(answer.status(), 400);
    let answer = lab.client().await.ask("GET /b HTTP/1.0\r\n\r\n").await;
    assert_eq!(by(&answer), "main", "routes that ask for a host are passed");
}

#[tokio::test]
async fn a_route_may_answer_by_itself() {
    let main = naming("main").await;
    let routes = "[[route]]\npath = \"/ping\"\nrespond = { body = \"pong\" }\n\
                  [[route]]\npath = \"/gone\"\n\
                  respond = { status = 410, body = \"{}\", content_type = \"application/json\" }\n\
                  [[route]]\npath = \"/empty\"\nrespond = { status = 204 }\n";
    let lab = Routed::start(routes, &[("main", main.address)]);
    let mut client = lab.client().await;
    let answer = client.ask(get("a", "/ping")).await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "pong"));
    assert_eq!(answer.field("content-type").as_deref(), Some("text/plain; charset=utf-8"));
    let answer = client.ask("HEAD /ping HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!((answer.status(), answer.field("content-length").as_deref()), (200, Some("4")));
    let answer = client.ask(get("a", "/gone")).await;
    assert_eq!((answer.status(), answer.text().as_str()), (410, "{}"));
    assert_eq!(answer.field("content-type").as_deref(), Some("application/json"));
    let answer = client.ask(get("a", "/empty")).await;
    assert_eq!((answer.status(), answer.field("content-length")), (204, None));
    assert_eq!(main.requests(), 0);
}

/// E2
#[tokio::test]
async fn an_answer_to_a_request_with_a_body_is_delivered_whole_and_ends_the_connection() {
    let main = naming("main").await;
    let routes = "[[route]]\nrespond = { body = \"enough\" }\n";
    let lab = Routed::start(routes, &[("main", main.address)]);
    let mut client = lab.client().await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc").await;
    let answer = client.message().await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "enough"));
    assert_eq!(answer.field("connection").as_deref(), Some("close"));
    client.send(vec![b'x'; 100_000]).await;
    client.ended().await;
}

#[tokio::test]
async fn fields_are_edited_by_the_listener_and_then_by_the_route() {
    let main = naming("main").await;
    let text = "[listener.headers.request]\nset = { X-Env = \"prod\", X-From = \"listener\" }\n\
                remove = [\"X-Secret\", \"X-Forwarded-Host\"]\nadd = { Via = \"1.1 deston\" }\n\
                [listener.headers.response]\nset = { X-Frame-Options = \"DENY\" }\n\
                remove = [\"Server\"]\n\
                [[route]]\npath = \"/r\"\npool = \"main\"\n\
                request = { set = { X-From = \"route\", Host = \"inner.example\" } }\n\
                response = { remove = [\"X-Frame-Options\"], add = { X-Route = \"r\" } }\n";
    let lab = Routed::start(text, &[("main", main.address)]);
    let mut client = lab.client().await;
    let ask = |path: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nHost: a.example\r\nX-Secret: 1\r\nX-Secret: 2\r\nX-Env: dev\r\n\
             Via: 1.1 other\r\n\r\n"
        )
    };
    let plain = client.ask(ask("/")).await;
    let expected = [Some("prod"), Some("listener"), None, None, Some("1.1 other, 1.1 deston")];
    let names = ["x-env", "x-from", "x-secret", "x-forwarded-host", "via"];
    assert_eq!(names.map(|name| got(&plain, name)), expected.map(|v| v.map(str::to_owned)));
    assert_eq!(got(&plain, "host").as_deref(), Some("a.example"));
    assert_eq!(plain.field("x-frame-options").as_deref(), Some("DENY"));
    assert_eq!(plain.field("server"), None);

    let routed = client.ask(ask("/r")).await;
    assert_eq!(got(&routed, "x-from").as_deref(), Some("route"));
    assert_eq!(got(&routed, "host").as_deref(), Some("inner.example"));
    assert_eq!(routed.field("x-frame-options"), None);
    assert_eq!(routed.field("x-route").as_deref(), Some("r"));
}

#[tokio::test]
async fn responses_of_routes_that_answer_are_edited_too() {
    let main = naming("main").await;
    let text = "[listener.headers.response]\nset = { X-All = \"1\" }\n\
                [[route]]\npath = \"/r\"\nredirect = { to = \"/x\" }\n\
                response = { set = { Cache-Control = \"no-store\" } }\n";
    let lab = Routed::start(text, &[("main", main.address)]);
    let answer = lab.client().await.ask(get("a", "/r")).await;
    assert_eq!(answer.field("location").as_deref(), Some("/x"));
    assert_eq!(answer.field("x-all").as_deref(), Some("1"));
    assert_eq!(answer.field("cache-control").as_deref(), Some("no-store"));
}

#[tokio::test]
async fn a_request_about_the_server_is_for_no_route_with_a_path() {
    let (main, other) = (naming("main").await, naming("other").await);
    let routes = "[[route]]\npath = \"/*\"\npool = \"other\"\n";
    let lab = Routed::start(routes, &[("main", main.address), ("other", other.address)]);
    let answer = lab.client().await.ask("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!((by(&answer).as_str(), target(&answer).as_str()), ("main", "*"));
}

#[tokio::test]
async fn an_open_connections_next_request_sees_reloaded_routes() {
    let (main, other) = (naming("main").await, naming("other").await);
    let servers = [("main", main.address), ("other", other.address)];
    let lab = Routed::start("", &servers);
    let mut client = lab.client().await;
    assert_eq!(by(&client.ask(get("a", "/x")).await), "main");
    lab.reload("[[route]]\npath = \"/x\"\npool = \"other\"\n");
    assert_eq!(by(&client.ask(get("a", "/x")).await), "other");
    assert_eq!(by(&client.ask(get("a", "/y")).await), "main");
    lab.reload("[[route]]\npath = \"/y\"\npool = \"other\"\n");
    assert_eq!(by(&client.ask(get("a", "/x")).await), "main");
    assert_eq!(by(&client.ask(get("a", "/y")).await), "other");
    assert_eq!((main.connections(), other.connections()), (1, 1), "pooled connections live on");
}

#[tokio::test]
async fn a_websocket_goes_to_its_routes_pool_too() {
    let (main, chat) = (naming("main").await, Server::start().await);
    let routes = "[[route]]\npath = \"/chat/*\"\npool = \"chat\"\nrewrite = \"/$1\"\n\
                  response = { set = { X-Route = \"chat\" } }\n";
    let lab = Routed::start(routes, &[("main", main.address), ("chat", chat.address)]);
    let mut client = lab.client().await;
    client
        .send(
            "GET /chat/room HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .await;
    let mut server = chat.accept().await;
    assert!(server.head().await.starts_with("GET /room HTTP/1.1"));
    let agreed = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                  Upgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n";
    server.send(agreed).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 101") && head.contains("x-route: chat"), "{head}");
    client.send("ping").await;
    assert_eq!(server.exactly(4).await, b"ping");
    server.send("pong").await;
    assert_eq!(client.exactly(4).await, b"pong");
}

/// E1
#[tokio::test]
async fn who_waits_to_send_a_body_is_not_asked_for_it_where_a_route_answers() {
    let main = naming("main").await;
    let routes = "[[route]]\nredirect = { status = 307, to = \"https://$host$path\" }\n";
    let lab = Routed::start(routes, &[("main", main.address)]);
    let mut client = lab.client().await;
    let request = "PUT /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    let answer = client.ask(request).await;
    assert_eq!((answer.status(), answer.field("location").as_deref()), (307, Some("https://a/a")));
    assert_eq!(answer.field("connection").as_deref(), Some("close"));
    client.ended().await;
}

#[tokio::test]
async fn errors_of_our_own_are_not_edited() {
    let main = naming("main").await;
    let text = "[listener.headers.response]\nset = { X-All = \"1\" }\n";
    let lab = Routed::start(text, &[("main", main.address)]);
    let answer = lab.client().await.ask("GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!((answer.status(), answer.field("x-all")), (400, None));
}

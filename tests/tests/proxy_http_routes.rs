//! Routes: which pool a request goes to, what it becomes on the way, and answers without a server.

use deston_tests::http::{Message, Routed, naming};

fn get(host: &str, target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

/// The server that answered: the first line of the body.
fn by(answer: &Message) -> String {
    answer.text().lines().next().unwrap_or_default().to_owned()
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

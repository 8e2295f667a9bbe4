//! What a layer 7 listener's requests and responses are given.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use super::{errors, lookup, valid};
use crate::config::resolve::Resolver;
use crate::config::{Report, parse_with};
use crate::model::{L7, Layer, LimitKey, Model, RateLimit, RequestLimit};

fn text(table: &str, keys: &str) -> String {
    format!("[load_balancer]\nlayer = \"L7\"\n[load_balancer.{table}]\n{keys}\n[[server]]")
}

fn l7(model: Model) -> L7 {
    let Layer::L7(l7) = &model.listeners[0].layer else { panic!("layer 7") };
    l7.clone()
}

#[track_caller]
fn error(text: &str, expected: &str) {
    assert_eq!(errors(text), [expected], "of:\n{text}");
}

#[test]
fn requests_have_an_id_unless_it_is_switched_off_and_no_trace_unless_asked_for() {
    let identity = |keys: &str| l7(valid(&text("headers", keys))).identity;
    let default = identity("");
    assert_eq!(default.request_id.unwrap(), "x-request-id");
    assert!(!default.traceparent);
    assert_eq!(identity("request_id = \"X-Trace\"").request_id.unwrap(), "x-trace");
    assert_eq!(identity("request_id = \"\"").request_id, None);
    assert!(identity("traceparent = true").traceparent);
}

#[test]
fn an_id_has_a_field_of_its_own() {
    error(
        &text("headers", "request_id = \"a b\""),
        "4:14: `request_id` must name a header field such as \"x-request-id\", not \"a b\"",
    );
    error(
        &text("headers", "request_id = \"Host\""),
        "4:14: `request_id` cannot be `host`, which has a meaning already (write a name of its own, \
         such as \"x-request-id\")",
    );
    error(
        "[load_balancer.headers]\ntraceparent = true\n[[server]]",
        "1:1: `headers` is for layer 7 (remove it, or write `layer = \"L7\"`)",
    );
}

#[test]
fn requests_are_limited_by_what_a_client_is_known_by() {
    let limit = |keys: &str| {
        let keys = format!("of = \"requests\"\nrate = \"10/s\"\n{keys}");
        let model = valid(&text("rate_limit", &keys));
        assert_eq!(model.listeners[0].guard.rate_limit, None, "connections are not limited");
        l7(model).request_limit.unwrap()
    };
    let ten = NonZeroU32::new(10).unwrap();
    let rate = RateLimit { interval: Duration::from_millis(100), burst: ten };
    assert_eq!(limit(""), RequestLimit { key: LimitKey::Ip, rate });
    let header = limit("key = \"header:X-Key\"").key;
    assert_eq!(header, LimitKey::Header(http::HeaderName::from_static("x-key")));
    assert_eq!(limit("key = \"cookie:Id\"").key, LimitKey::Cookie("Id".to_owned()));
    assert_eq!(limit("burst = 2").rate.burst.get(), 2);
    let connections = l7(valid(&text("rate_limit", "rate = \"10/s\"")));
    assert_eq!(connections.request_limit, None);
}

#[test]
fn what_a_limit_cannot_count_by_is_an_error() {
    error(
        &text("rate_limit", "rate = \"1/s\"\nkey = \"header:x\""),
        "5:7: connections are limited by address: they have no header fields yet (write `key = \
         \"ip\"`, or `of = \"requests\"`)",
    );
    for key in ["path", "header:", "header:a b", "cookie:=", "query:x"] {
        error(
            &text("rate_limit", &format!("of = \"requests\"\nrate = \"1/s\"\nkey = {key:?}")),
            &format!("6:7: `key` must be `ip`, or `header:NAME` or `cookie:NAME`, not {key:?}"),
        );
    }
    error(
        "[load_balancer.rate_limit]\nof = \"requests\"\nrate = \"1/s\"\n[[server]]",
        "2:6: layer 4 knows of no requests (write `of = \"connections\"`, or `layer = \"L7\"`)",
    );
    error(
        &text("rate_limit", "of = \"requests\""),
        "3:1: the rate limit has no `rate` (write `rate = \"200/s\"`, for example)",
    );
}

/// A directory, gone with the test.
struct Files(PathBuf);

impl Files {
    fn new(test: &str, files: &[(&str, &str)]) -> Self {
        let path = std::env::temp_dir().join(format!("deston-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        for (name, text) in files {
            std::fs::write(path.join(name), text).unwrap();
        }
        Self(path)
    }

    fn parse(&self, text: &str) -> Result<Model, Report> {
        let name = self.0.join("config.toml").display().to_string();
        parse_with(&name, text, &mut Resolver::new(lookup))
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn error_pages_are_read_from_beside_the_configuration() {
    let files = Files::new("pages", &[("down.html", "<p>later"), ("slow.json", "{}"), ("x", "")]);
    let parse = |pages: &str| files.parse(&text("http", &format!("error_pages = {pages}")));
    let pages = parse("{ 503 = \"down.html\", 429 = \"slow.json\" }").map(l7).unwrap().error_pages;
    let told: Vec<_> =
        pages.0.iter().map(|(status, page)| (*status, &page.body[..], page.content_type)).collect();
    assert_eq!(
        told,
        [
            (429, &b"{}"[..], "application/json"),
            (503, &b"<p>later"[..], "text/html; charset=utf-8")
        ]
    );
    for (pages, place, expected) in [
        ("1", "4:15", "`error_pages` must be a table such as { 503 = \"errors/503.html\" }"),
        (
            "{ 200 = \"x\" }",
            "4:17",
            "`error_pages` has \"200\", which is no status from 400 to 599",
        ),
        ("{ 503 = \"none.html\" }", "4:23", "`none.html` cannot be read: "),
        ("{ 503 = \"x\" }", "4:23", "`x` has no type that is known (its name must end in"),
        ("{ 503 = 1 }", "4:23", "`503` must be text in quotes"),
    ] {
        let report = parse(pages).expect_err("the text is invalid");
        let lines: Vec<String> = report.lines().collect();
        assert_eq!(lines.len(), 1, "{lines:?}");
        let expected = format!("config.toml:{place}: {expected}");
        assert!(lines[0].contains(&expected), "{expected}, not {}", lines[0]);
    }
}

#[test]
fn users_are_read_from_beside_the_configuration() {
    let hash = "$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
    let users = format!("alice:{hash}\n");
    let files = Files::new("users", &[("users", &users), ("plain", "alice:secret\n")]);
    let parse = |name: &str| {
        let text = format!("[load_balancer]\nlayer = \"L7\"\nauth = {name:?}\n[[server]]");
        files.parse(&text)
    };
    let auth = |name: &str| parse(name).map(l7).unwrap().auth;
    assert_eq!(auth("users").unwrap().hash("alice"), Some(hash));
    assert_eq!(auth(""), None);
    let fault = |name: &str| parse(name).expect_err("the text is invalid").lines().next().unwrap();
    let plain = fault("plain");
    assert!(
        plain.contains("3:8: `plain` is no list of users: line 1: the password of `alice` is not")
    );
    assert!(plain.contains("`htpasswd -B plain alice`") && !plain.contains("secret"), "{plain}");
    assert!(fault("none").contains("3:8: `none` cannot be read: "));
    error(
        "[load_balancer]\nauth = \"\"\n[[server]]",
        "2:1: `auth` is for layer 7 (remove it, or write `layer = \"L7\"`)",
    );
}

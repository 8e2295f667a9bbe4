//! Whole routes: which requests they are for, and what these become.

use http::HeaderMap;
use proptest::prelude::*;

use super::*;

fn conditions(host: &str, path: &str) -> Conditions {
    Conditions {
        host: if host.is_empty() { None } else { HostPattern::parse(host) },
        path: if path.is_empty() { None } else { PathPattern::parse(path).ok() },
        ..Conditions::default()
    }
}

fn route(conditions: Conditions, rewrite: &str) -> Route {
    let to = Destination::Pool("p".to_owned());
    let rewrite = Some(Template::parse(rewrite).unwrap());
    let action = Action::Forward(Forward { to, rewrite });
    Route { place: 1, conditions, action, edits: MessageEdits::default() }
}

/// Asks with a GET for `target` of host `a.example`.
fn asking<T>(target: &str, ask: impl FnOnce(&Asked<'_>) -> T) -> T {
    let headers: HeaderMap =
        [(HeaderName::from_static("x-beta"), HeaderValue::from_static("1"))].into_iter().collect();
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    ask(&Asked::new(&Method::GET, Some("a.example:80"), path, query, &headers))
}

#[test]
fn every_condition_must_hold_and_the_first_that_does_not_is_named() {
    let all = Conditions {
        methods: vec![Method::GET, Method::HEAD],
        headers: vec![(HeaderName::from_static("x-beta"), HeaderValue::from_static("1"))],
        query: vec![("v".to_owned(), "2".to_owned())],
        ..conditions("*.example", "/v1/*")
    };
    assert!(asking("/v1/a?v=2", |asked| all.check(asked).is_ok()));
    let without = |change: fn(&mut Conditions)| {
        let mut changed = all.clone();
        change(&mut changed);
        asking("/v1/a?v=2", |asked| changed.check(asked).unwrap_err().to_string())
    };
    let host = without(|all| all.host = HostPattern::parse("b.example"));
    assert_eq!(host, "the host is not b.example");
    let path = without(|all| all.path = PathPattern::parse("/v2/*").ok());
    assert_eq!(path, "the path is not /v2/*");
    let method = without(|all| all.methods = vec![Method::PUT, Method::POST]);
    assert_eq!(method, "the method is not PUT or POST");
    let header = without(|all| all.headers[0].1 = HeaderValue::from_static("2"));
    assert_eq!(header, "there is no header x-beta: 2");
    let query = without(|all| all.query[0].1 = "3".to_owned());
    assert_eq!(query, "the query has no v=3");
}

#[test]
fn a_request_without_a_host_is_for_no_route_that_asks_for_one() {
    let headers = HeaderMap::new();
    let asked = Asked::new(&Method::GET, None, "/", None, &headers);
    assert!(conditions("*.example", "").check(&asked).is_err());
    assert!(conditions("", "/").check(&asked).is_ok());
}

#[test]
fn a_rewritten_path_keeps_the_query_and_the_clients_spelling() {
    let rewritten = |path: &str, rewrite: &str, target: &str| {
        let route = route(conditions("", path), rewrite);
        asking(target, |asked| route.rewritten(asked).unwrap().unwrap().to_string())
    };
    assert_eq!(rewritten("/v1/*", "/$1", "/v1/a/b?c=d"), "/a/b?c=d");
    assert_eq!(rewritten("/v1/*", "/$1", "/v1"), "/");
    assert_eq!(rewritten("/v1/*", "/new/$1", "/v1/"), "/new/");
    assert_eq!(rewritten("/v1/*", "/$1", "/v1/a%2Fb%20c"), "/a%2Fb%20c");
    assert_eq!(rewritten("/v1/*", "/$1", "/v1/x/../a"), "/a");
    assert_eq!(rewritten("", "/app$path", "/a?b"), "/app/a?b");
    assert_eq!(rewritten("/a", "/b", "/a?"), "/b?");
}

#[test]
fn a_rewritten_path_cannot_leave_where_it_is_put() {
    let pattern = PathRegex::parse(r"/(\.\.|[a-z]+)x/(.*)").unwrap();
    let conditions =
        Conditions { path: Some(PathPattern::Regex(pattern)), ..Conditions::default() };
    let route = route(conditions, "/app/$1/$2");
    let rewritten = asking("/..x/a", |asked| route.rewritten(asked).unwrap().unwrap().to_string());
    assert_eq!(rewritten, "/a", "resolved here, not by the server");
}

#[test]
fn an_asterisk_is_not_rewritten() {
    let route = route(Conditions::default(), "/x");
    assert!(asking("*", |asked| route.rewritten(asked).is_none()));
}

fn location(path: &str, to: &str, target: &str) -> String {
    let redirect =
        Redirect { status: StatusCode::PERMANENT_REDIRECT, to: Template::parse(to).unwrap() };
    asking(target, |asked| redirect.location(asked, &conditions("", path)))
}

#[test]
fn a_redirect_keeps_path_and_query() {
    let to = "https://$host$path";
    assert_eq!(location("", to, "/a/b?c=d"), "https://a.example/a/b?c=d");
    assert_eq!(location("", to, "/a%20b"), "https://a.example/a%20b");
    assert_eq!(location("", to, "/"), "https://a.example/");
    assert_eq!(location("", to, "*"), "https://a.example/");
    assert_eq!(location("", to, "/%2Fevil.example"), "https://a.example/evil.example");
    assert_eq!(location("/old/*", "/new/$1", "/old/x?y"), "/new/x?y");
}

#[test]
fn a_redirect_that_has_a_question_mark_says_what_the_query_is() {
    assert_eq!(location("", "/a?b=c", "/x?y"), "/a?b=c");
    assert_eq!(location("", "/a?", "/x?y"), "/a");
    assert_eq!(location("", "/a?b=c&$query", "/x?y"), "/a?b=c&y");
    assert_eq!(location("", "/a?$query", "/x"), "/a");
}

#[test]
fn what_a_client_sends_does_not_lead_to_another_host() {
    assert_eq!(location("", "/$1", "//evil.example"), "/");
    assert_eq!(location("/a/*", "/$1", "/a/%2F%2Fevil.example"), "/evil.example");
    assert_eq!(location("/a/*", "/$1", "/a/\\evil.example"), "/%5Cevil.example");
    let pattern = PathRegex::parse("/a(/.*)").unwrap();
    let conditions =
        Conditions { path: Some(PathPattern::Regex(pattern)), ..Conditions::default() };
    let to = Template::parse("/$1").unwrap();
    let redirect = Redirect { status: StatusCode::FOUND, to };
    let location = asking("/a/evil.example", |asked| redirect.location(asked, &conditions));
    assert_eq!(location, "/evil.example");
}

#[test]
fn a_route_covers_what_it_would_take_first() {
    let any = Conditions::default();
    let host = |text| conditions(text, "");
    let path = |text| conditions("", text);
    assert!(any.cover(&conditions("a.example", "/a")));
    assert!(host("*.example").cover(&host("a.example")));
    assert!(host("*.example").cover(&host("*.b.example")));
    assert!(!host("*.b.example").cover(&host("*.example")));
    assert!(!host("a.example").cover(&any));
    assert!(path("/a/*").cover(&path("/a")) && path("/a/*").cover(&path("/a/b/*")));
    assert!(path("/*").cover(&path("/a/*")) && !path("/a/*").cover(&path("/ab")));
    assert!(path("/a").cover(&conditions("b", "/a")) && !conditions("b", "/a").cover(&path("/a")));
    let gets = Conditions { methods: vec![Method::GET], ..Conditions::default() };
    assert!(any.cover(&gets) && !gets.cover(&any) && gets.cover(&gets));
}

proptest! {
    #[test]
    fn no_path_makes_another_host_of_a_location(sent in "/(/|%2F|[.]|%2e|[!-~]){0,16}") {
        let sent = sent.replace(['?', '#'], "/");
        let absolute = location("", "https://a.example$path", &sent);
        prop_assert!(absolute.starts_with("https://a.example/"), "{}", absolute);
        for location in [location("/*", "/$1", &sent), location("", "/$path", &sent)] {
            prop_assert!(location.starts_with('/'), "{}", location);
            prop_assert!(!location.starts_with("//") && !location.contains('\\'), "{}", location);
            prop_assert!(HeaderValue::try_from(&location).is_ok(), "{}", location);
        }
    }

    #[test]
    fn no_path_leaves_where_it_is_rewritten_to(sent in "/(/|%2F|[.]|%2e|a){0,16}") {
        let route = route(conditions("", "/*"), "/app/$1");
        let rewritten = asking(&sent, |asked| route.rewritten(asked).unwrap().unwrap());
        prop_assert!(Path::new(rewritten.path()).plain().starts_with(b"/app/"), "{}", rewritten);
    }
}

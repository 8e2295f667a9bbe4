//! Routes and edits of fields: what they mean, and what is said of mistakes.

use super::{errors, valid};
use crate::model::route::{Action, Destination, Forward, Route};
use crate::model::{Layer, Model};

const WEB: &str = "[[listener]]\nname = \"web\"\nlayer = \"L7\"\n";
const SERVER: &str = "[[server]]\n";

/// The model of a route of one listener, `web`.
fn routed(lines: &str) -> Model {
    valid(&format!("{WEB}[[route]]\n{lines}\n{SERVER}"))
}

fn routes<'m>(model: &'m Model, listener: &str) -> Vec<&'m Route> {
    let listener = model.listeners.iter().find(|other| other.name == listener).unwrap();
    match &listener.layer {
        Layer::L4(_) => Vec::new(),
        Layer::L7(l7) => l7.routes.iter().map(AsRef::as_ref).collect(),
    }
}

/// The one error of a route, which begins on line 4.
#[track_caller]
fn wrong(lines: &str, expected: &str) {
    let text = format!("{WEB}[[route]]\n{lines}\n{SERVER}");
    assert_eq!(errors(&text), [expected], "of:\n{text}");
}

#[test]
fn a_route_without_a_listener_is_for_every_listener_of_layer_7() {
    let other = WEB.replace("web", "b") + "port = 81\n";
    let l4 = "[[listener]]\nname = \"tcp\"\nport = 82\n";
    let all = "[[route]]\npath = \"/a\"\npool = \"default\"\n";
    let one = "[[route]]\nlistener = \"b\"\npool = \"default\"\n";
    let model = valid(&format!("{WEB}{other}{l4}{all}{one}{SERVER}"));
    let places = |name| routes(&model, name).iter().map(|route| route.place).collect::<Vec<_>>();
    assert_eq!([places("web"), places("b"), places("tcp")], [vec![1], vec![1, 2], vec![]]);
}

#[test]
fn conditions_are_told_as_they_are_written() {
    let model = routed(
        "host = \"*.Example.com\"\npath = \"/a/*\"\nmethods = [\"GET\", \"PURGE\"]\n\
         header = { X-Beta = \"1\" }\nquery = { v = \"2\" }\npool = \"default\"",
    );
    let expected = "route 1 (host *.example.com, path /a/*, method GET or PURGE, \
                    header x-beta: 1, query v=2)";
    assert_eq!(routes(&model, "web")[0].to_string(), expected);
}

#[test]
fn a_pool_that_only_a_route_uses_is_used() {
    let text = "[load_balancer]\nlayer = \"L7\"\n[[route]]\npath = \"/a\"\npool = \"other\"\n\
                [[pool]]\nname = \"other\"\n[pool.timeouts]\nresponse_head = \"1s\"\n\
                [[server]]\n[[server]]\nport = 1\npool = \"other\"\n";
    assert_eq!(routes(&valid(text), "default")[0].pools().collect::<Vec<_>>(), ["other"]);
    // The pool `default`, which no table is about, exists as soon as a route uses it.
    let text = "[[listener]]\nname = \"a\"\nlayer = \"L7\"\npool = \"p\"\n[[pool]]\nname = \"p\"\n\
                [[route]]\nsplit = { p = 1, default = 1 }\n[[server]]\n[[server]]\nport = 1\n\
                pool = \"p\"\n";
    assert_eq!(valid(text).pools.len(), 2);
}

#[test]
fn a_split_keeps_the_order_of_the_file() {
    let text = format!(
        "{WEB}[[route]]\nsplit = {{ b = 9, a = 1, c = 0 }}\n[[pool]]\nname = \"a\"\n\
         [[pool]]\nname = \"b\"\n[[pool]]\nname = \"c\"\n{SERVER}\
         [[server]]\nport = 1\npool = \"a\"\n[[server]]\nport = 2\npool = \"b\"\n\
         [[server]]\nport = 4\npool = \"c\"\n"
    );
    let model = valid(&text);
    let Action::Forward(Forward { to: Destination::Split(split), .. }) =
        &routes(&model, "web")[0].action
    else {
        panic!("a split")
    };
    let shares: Vec<_> = split.shares.iter().map(|s| (s.pool.as_str(), s.weight)).collect();
    assert_eq!(shares, [("b", 9), ("a", 1), ("c", 0)]);
}

#[test]
fn a_redirect_and_an_answer_have_defaults() {
    let model = routed("redirect = { to = \"/a\" }");
    let Action::Redirect(redirect) = &routes(&model, "web")[0].action else { panic!("a redirect") };
    assert_eq!(redirect.status, 308);
    let model = routed("respond = {}");
    let Action::Respond(respond) = &routes(&model, "web")[0].action else { panic!("an answer") };
    assert_eq!((respond.status.as_u16(), respond.body.len()), (200, 0));
}

#[test]
fn a_route_does_one_thing() {
    wrong(
        "path = \"/a\"",
        "4:1: this route does nothing with its requests (add one of `pool`, `split`, `redirect` \
         and `respond`)",
    );
    wrong(
        "pool = \"default\"\nredirect = { to = \"/\" }",
        "6:12: a route has `pool` or `redirect`, not both",
    );
    wrong(
        "split = { default = 1 }\npool = \"default\"",
        "5:1: a route has `pool` or `split`, not both",
    );
}

#[test]
fn unknown_pools_and_listeners_are_named_with_a_suggestion() {
    wrong("pool = \"defualt\"", "5:8: unknown pool `defualt`, did you mean `default`?");
    wrong(
        "split = { default = 1, canary = 1 }",
        "5:24: unknown pool `canary` (add a [[pool]] with `name = \"canary\"`)",
    );
    wrong(
        "listener = \"wen\"\npool = \"default\"",
        "5:12: unknown listener `wen`, did you mean `web`?",
    );
    wrong(
        "listener = \"metrics\"\npool = \"default\"",
        "5:12: unknown listener `metrics` (the listeners are `web`)",
    );
}

#[test]
fn routes_are_of_layer_7() {
    let route = "[[route]]\npool = \"default\"\n";
    assert_eq!(
        errors(&format!("{route}{SERVER}")),
        ["1:1: this route is for no listener (routes are of listeners with `layer = \"L7\"`)"]
    );
    let text = format!(
        "{WEB}[[listener]]\nname = \"tcp\"\nport = 81\n{route}listener = \"tcp\"\n{SERVER}"
    );
    assert_eq!(
        errors(&text),
        ["9:12: listener `tcp` is of layer 4, and routes are of requests (name a listener with \
          `layer = \"L7\"`)"]
    );
}

#[test]
fn conditions_that_no_request_meets_are_refused() {
    let pool = "\npool = \"default\"";
    let cases = [
        (
            "host = \"a:80\"",
            "5:8: `host` must be a host without a port, such as \"example.com\" or \
             \"*.example.com\", not \"a:80\"",
        ),
        (
            "host = \"é.example\"",
            "5:8: `host` must be a host without a port, such as \"example.com\" or \
             \"*.example.com\", not \"é.example\" (write an international name as clients send \
             it: `xn--..`)",
        ),
        (
            "path = \"/a*\"",
            "5:8: `path` must have `*` only at its end, behind a `/`, not be \"/a*\" (write a path \
             such as \"/a\", all below it as \"/a/*\", or use `path_regex`)",
        ),
        (
            "path = \"/a/../b\"",
            "5:8: `path` must have no `//`, no `.` and no `..` as a part, which no matched path \
             has, not be \"/a/../b\" (write a path such as \"/a\", all below it as \"/a/*\", or use \
             `path_regex`)",
        ),
        ("path_regex = \"(\"", "5:14: `path_regex` is no regular expression: unclosed group"),
        (
            "path = \"/a\"\npath_regex = \"/b\"",
            "6:1: `path_regex` stands beside `path`: a route has one of them",
        ),
        (
            "methods = [\"get\"]",
            "5:12: unknown method `get`, did you mean `GET`? (case matters in methods)",
        ),
        ("methods = [\"TRACE\"]", "5:12: `TRACE` is answered with 405: no route sees it"),
        ("methods = [\"A B\"]", "5:12: \"A B\" is no method"),
        (
            "header = { Host = \"a\" }",
            "5:12: `Host` is asked for by `host`, which ignores case and port",
        ),
        ("header = { \"a b\" = \"1\" }", "5:12: \"a b\" is no name of a header field"),
        ("header = { a = 1 }", "5:16: `a` must be text in quotes, not an integer"),
        ("query = \"v=2\"", "5:9: `query` must be a table such as { v = \"2\" }, not a string"),
    ];
    for (lines, expected) in cases {
        wrong(&format!("{lines}{pool}"), expected);
    }
}

#[test]
fn a_split_has_weights() {
    wrong("split = { default = 0 }", "5:9: `split` must have a pool whose weight is not 0");
    wrong("split = {}", "5:9: `split` must have a pool whose weight is not 0");
    wrong(
        "split = { default = 70000 }",
        "5:21: `default` must be a whole number from 0 to 65535, not 70000",
    );
}

#[test]
fn a_rewritten_path_is_a_path_of_what_was_matched() {
    let with = |rewrite: &str| format!("path = \"/a/*\"\npool = \"default\"\nrewrite = {rewrite}");
    for right in ["\"/$1\"", "\"/x/$1/$path\"", "\"$path\"", "\"/$$1\""] {
        routed(&with(right));
    }
    for text in ["\"a\"", "\"/a?b\"", "\"/a b\"", "\"/a#b\"", "\"//a\"", "\"\"", "\"/é\""] {
        let expected = format!(
            "7:11: `rewrite` must be a path that begins with `/`, without a query, not {text} (the \
             request's query is kept)"
        );
        wrong(&with(text), &expected);
    }
    wrong(
        &with("\"/$host\""),
        "7:11: `$host` is for redirects: `rewrite` is a path, and the query stays",
    );
    wrong(
        &with("\"/$2\""),
        "7:11: `$2` of `rewrite` stands for nothing: the path has one part, `$1` (`$1` is what the \
         `*` of `path` or the first group of `path_regex` matched)",
    );
    wrong(
        "pool = \"default\"\nrewrite = \"/$1\"",
        "6:11: `$1` of `rewrite` stands for nothing: the path has no `*` and no group (`$1` is \
         what the `*` of `path` or the first group of `path_regex` matched)",
    );
    wrong(
        &with("\"/$pth\""),
        "7:11: unknown variable `$pth` in `rewrite` (the variables are `$path`, `$host` and \
         `$query` (the last two in redirects), and `$1`, `$2` .. for what `*` or the groups of \
         `path_regex` matched; `$$` is a dollar sign)",
    );
}

#[test]
fn a_redirect_leads_somewhere_and_clients_do_not_choose_the_host() {
    let with = |to: &str| format!("path = \"/a/*\"\nredirect = {{ to = {to} }}");
    for right in [
        "\"https://$host$path\"",
        "\"https://$host:8443/$1\"",
        "\"https://www.example.com\"",
        "\"https://www.example.com?$query\"",
        "\"/b/$1?c=d\"",
    ] {
        routed(&with(right));
    }
    for text in [
        "\"$path\"",
        "\"//example.com\"",
        "\"ftp://a\"",
        "\"a\"",
        "\"\"",
        "\"/a b\"",
        "\"https://\"",
        "\"https://u@a/\"",
    ] {
        let expected = format!(
            "6:19: `to` must begin with `https://`, `http://` or `/` and be a valid location, not \
             {text} (such as \"https://$host$path\")"
        );
        wrong(&with(text), &expected);
    }
    for variable in ["$1", "$query"] {
        let expected = format!(
            "6:19: `{variable}` would be part of the host, which clients must not choose (put a \
             `/` before it)"
        );
        wrong(&with(&format!("\"https://example.com{variable}\"")), &expected);
    }
    wrong(
        "redirect = { status = 302 }",
        "5:12: this redirect leads nowhere (add `to = \"https://$host$path\"` or another location)",
    );
    wrong(
        "redirect = { status = 200, to = \"/\" }",
        "5:23: `status` of a redirect must be 301, 302, 303, 307 or 308, not 200",
    );
}

#[test]
fn an_answer_is_a_final_one_whose_status_may_have_a_body() {
    wrong(
        "respond = { status = 100 }",
        "5:22: `status` must be a whole number from 200 to 599, not 100",
    );
    wrong(
        "respond = { status = 204, body = \"x\" }",
        "5:27: a response with status 204 has no body",
    );
    wrong(
        "respond = { content_type = \"text\" }",
        "5:28: `content_type` must be a media type such as \"text/html\", not \"text\"",
    );
    wrong(
        "respond = \"ok\"",
        "5:1: `respond` must be a table: write [route.respond], not a string",
    );
}

#[test]
fn what_changes_requests_is_for_those_that_go_to_a_server() {
    wrong(
        "respond = {}\nrewrite = \"/\"",
        "6:1: `rewrite` is for requests that go to a server, not for `respond` (remove it)",
    );
    wrong(
        "redirect = { to = \"/\" }\nrequest = { remove = [\"A\"] }",
        "6:11: `request` is for requests that go to a server, not for `redirect` (remove it)",
    );
}

#[test]
fn fields_that_messages_live_by_cannot_be_changed() {
    let with = |edit: &str| format!("pool = \"default\"\n{edit}");
    let refused = |name: &str, why: &str| format!("6:21: `{name}` cannot be changed: {why}");
    for (name, why) in [
        ("content-length", "it says where the body ends, which Deston derives"),
        ("transfer-encoding", "it says where the body ends, which Deston derives"),
        ("connection", "it concerns one connection, and is not passed on"),
        ("upgrade", "it concerns one connection, and is not passed on"),
        ("te", "it concerns one connection, and is not passed on"),
        ("expect", "it is answered before the request is passed on"),
    ] {
        wrong(&with(&format!("request = {{ set = {{ {name} = \"a\" }} }}")), &refused(name, why));
    }
    wrong(
        &with("request = { add = { Host = \"a\" } }"),
        "6:21: `host` cannot be changed: a request has exactly one: use `set`",
    );
    wrong(
        &with("request = { set = { Host = \"a b\" } }"),
        "6:21: `Host` must be a host name or address, perhaps with a port",
    );
    wrong(
        &with("response = { remove = [\"Server\", \"Connection\"] }"),
        "6:34: `connection` cannot be changed: it concerns one connection, and is not passed on",
    );
    wrong(
        &with("response = { set = { A = \"1\\r\\nB: 2\" } }"),
        "6:26: `A` must be visible ASCII characters, with spaces and tabs only between them, not \
         \"1\\r\\nB: 2\"",
    );
    wrong(
        &with("response = { set = { A = \"1\", a = \"2\" } }"),
        "6:31: `a` is here already: case does not matter",
    );
}

#[test]
fn a_listener_changes_fields_too_and_only_on_layer_7() {
    let text = |layer: &str| {
        format!(
            "[load_balancer]\nlayer = \"{layer}\"\n[load_balancer.headers]\n\
             request = {{ set = {{ X-Env = \"prod\" }}, remove = [\"X-Internal\"] }}\n{SERVER}"
        )
    };
    let model = valid(&text("L7"));
    let Layer::L7(l7) = &model.listeners[0].layer else { panic!("layer 7") };
    assert_eq!((l7.edits.request.set.len(), l7.edits.request.remove.len()), (1, 1));
    assert!(l7.edits.response.is_empty());
    assert_eq!(
        errors(&text("L4")),
        ["3:1: `headers` is for layer 7 (remove it, or write `layer = \"L7\"`)"]
    );
}

#[test]
fn a_routes_pool_that_is_the_listener_itself_is_refused() {
    let text = format!(
        "{WEB}address = \"127.0.0.1\"\n[[route]]\npool = \"p\"\n[[pool]]\nname = \"p\"\n{SERVER}\
         [[server]]\naddress = \"127.0.0.1\"\nport = 8080\npool = \"p\"\n"
    );
    assert_eq!(
        errors(&text),
        ["11:11: 127.0.0.1:8080 is listener `web` itself, which this pool's route is for"]
    );
}

#[test]
fn a_pool_of_a_route_serves_a_listener_with_a_port() {
    let text = format!(
        "{WEB}pool = \"web\"\n[[listener]]\nname = \"all\"\naddress = \"192.0.2.1\"\nport = 0\n\
         pool = \"p\"\n[[pool]]\nname = \"p\"\n[[pool]]\nname = \"web\"\n[[route]]\npool = \"p\"\n\
         [[server]]\npool = \"web\"\n[[server]]\npool = \"p\"\nport = 0\naddress = \"192.0.2.2\"\n"
    );
    let errors = errors(&text);
    assert!(errors[0].contains("pool `p` serves a listener with `port = 0`"), "{errors:?}");
}

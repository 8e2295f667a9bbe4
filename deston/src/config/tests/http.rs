//! `[listener.http]` and `[listener.limits]`.

use super::{errors, valid};
use crate::model::{L7, Layer, Limits, Mode, Rules, Underscores};

fn text(lines: &str) -> String {
    format!("[load_balancer]\nlayer = \"L7\"\n{lines}\n[[server]]")
}

fn l7(lines: &str) -> L7 {
    match &valid(&text(lines)).listeners[0].layer {
        Layer::L7(l7) => l7.clone(),
        Layer::L4(_) => panic!("the text says L7"),
    }
}

/// Asserts the one error of a text.
#[track_caller]
fn error(lines: &str, expected: &str) {
    assert_eq!(errors(&text(lines)), [expected], "of:\n{lines}");
}

#[test]
fn a_listener_is_strict_by_default() {
    let l7 = l7("");
    assert_eq!((l7.rules, l7.limits, l7.h2), (Rules::default(), Limits::default(), true));
    assert_eq!((Rules::default().mode, Rules::default().trace), (Mode::Strict, false));
}

#[test]
fn every_rule_is_read() {
    let l7 = l7(
        "[load_balancer.http]\nmode = \"lenient\"\nh2 = false\nmethods = [\"GET\", \"PURGE\"]\n\
         trace = true\nupgrades = [\"WebSocket\", \"spdy/3.1\"]\nunderscores = \"keep\"",
    );
    let expected = Rules {
        mode: Mode::Lenient,
        methods: vec![http::Method::GET, http::Method::from_bytes(b"PURGE").unwrap()],
        trace: true,
        upgrades: vec!["websocket".to_owned(), "spdy/3.1".to_owned()],
        underscores: Underscores::Keep,
    };
    assert_eq!((l7.rules, l7.h2), (expected, false));
}

#[test]
fn every_limit_is_read() {
    let l7 = l7("[load_balancer.limits]\nconnections = 9\nconnections_per_ip = 3\n\
         header_bytes = \"64KiB\"\nheaders = 200\nuri_bytes = \"4096\"\nbody_bytes = \"1GiB\"");
    let expected = Limits {
        connections: 9,
        connections_per_ip: 3,
        header_bytes: 65_536,
        headers: 200,
        uri_bytes: 4_096,
        body_bytes: 1 << 30,
    };
    assert_eq!(l7.limits, expected);
}

#[test]
fn sizes_that_are_none_are_pointed_at() {
    error(
        "[load_balancer.limits]\nheader_bytes = 4096",
        "4:16: `header_bytes` must be a size in quotes from 1KiB to 256KiB, such as \"512\", \"8KiB\" \
         or \"1MiB\", not an integer",
    );
    error(
        "[load_balancer.limits]\nheader_bytes = \"1GiB\"",
        "4:16: `header_bytes` must be a size in quotes from 1KiB to 256KiB, such as \"512\", \"8KiB\" \
         or \"1MiB\", not \"1GiB\"",
    );
}

#[test]
fn a_target_has_to_fit_into_a_head() {
    error(
        "[load_balancer.limits]\nheader_bytes = \"4KiB\"",
        "4:16: a target of 8192 bytes does not fit into a head of 4096 (make `uri_bytes` smaller \
         than `header_bytes`)",
    );
}

#[test]
fn what_is_no_method_is_pointed_at() {
    error(
        "[load_balancer.http]\nmethods = [\"GET\", \"A B\"]",
        "4:19: `methods` has \"A B\", which is no method",
    );
    error(
        "[load_balancer.http]\nmethods = \"GET\"",
        "4:11: `methods` must be a list of methods such as [\"GET\", \"HEAD\"], not a string",
    );
    error(
        "[load_balancer.http]\nmethods = [\"CONNECT\"]",
        "4:12: CONNECT is not available in this version",
    );
}

#[test]
fn a_listed_method_is_taken() {
    error(
        "[load_balancer.http]\nmethods = [\"TRACE\"]",
        "4:11: `methods` has TRACE, which is refused (write `trace = true` too, or remove it)",
    );
}

#[test]
fn what_is_no_tunnel_is_pointed_at() {
    error(
        "[load_balancer.http]\nupgrades = [\"h2c\"]",
        "4:13: `upgrades` has \"h2c\", which is no tunnel but another way of HTTP (`h2` lets clients \
         speak HTTP/2 from the start)",
    );
    error(
        "[load_balancer.http]\nupgrades = [\"web socket\"]",
        "4:13: `upgrades` has \"web socket\", which is no token of `Upgrade`",
    );
}

#[test]
fn keys_of_later_versions_are_told_from_typos() {
    for key in ["connect = true", "compression = []"] {
        let name = key.split(' ').next().unwrap();
        let expected = format!("4:1: `{name}` is not available in this version");
        error(&format!("[load_balancer.http]\n{key}"), &expected);
    }
}

#[test]
fn rules_and_limits_are_for_layer_7() {
    for table in ["http", "limits"] {
        let found = errors(&format!("[load_balancer]\n[load_balancer.{table}]\n[[server]]"));
        let expected =
            format!("2:1: `{table}` is for layer 7 (remove it, or write `layer = \"L7\"`)");
        assert_eq!(found, [expected]);
    }
}

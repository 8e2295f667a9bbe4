//! Guards, checks and the rest of what a pool and the process are set to.

use std::num::NonZeroU32;
use std::time::Duration;

use super::{errors, valid};
use crate::model::{
    Access, Algorithm, HashOn, Health, Kernel, Layer, Log, Model, OnDown, OnStop, Outlier,
    RateLimit, Sticky, Template,
};

/// Asserts the one error of a text.
#[track_caller]
fn error(text: &str, expected: &str) {
    assert_eq!(errors(text), [expected], "of:\n{text}");
}

fn balancer(lines: &str) -> Model {
    valid(&format!("[load_balancer]\n{lines}\n[[server]]"))
}

fn rate_limit(lines: &str) -> RateLimit {
    balancer(&format!("[load_balancer.rate_limit]\n{lines}")).listeners[0].guard.rate_limit.unwrap()
}

#[test]
fn without_keys_of_a_guard_everybody_is_admitted() {
    assert!(balancer("").listeners[0].guard.is_open());
}

#[test]
fn source_lists_are_read_on_both_layers() {
    for layer in ["L4", "L7"] {
        let model = balancer(&format!(
            "layer = \"{layer}\"\nallow = [\"192.0.2.0/24\", \"2001:db8::/32\"]\n\
             deny = [\"192.0.2.9\"]"
        ));
        let guard = &model.listeners[0].guard;
        assert_eq!((guard.allow.len(), guard.deny.len()), (2, 1));
        assert!(guard.admits("192.0.2.1".parse().unwrap()));
        assert!(!guard.admits("192.0.2.9".parse().unwrap()));
    }
}

#[test]
fn what_is_no_prefix_is_pointed_at() {
    let cases = [
        (
            "allow = \"192.0.2.0/24\"",
            "2:9: `allow` must be a list of prefixes such as [\"10.0.0.0/8\", \"2001:db8::/32\"], \
             not a string",
        ),
        (
            "allow = [\"192.0.2.0/24\", \"192.0.2.0/33\"]",
            "2:26: `allow` has \"192.0.2.0/33\", which is no prefix such as \"10.0.0.0/8\"",
        ),
        (
            "deny = [\"192.0.2.1/24\"]",
            "2:9: `deny` has \"192.0.2.1/24\", which has bits behind its length \
             (write \"192.0.2.0/24\")",
        ),
    ];
    for (line, expected) in cases {
        error(&format!("[load_balancer]\n{line}\n[[server]]"), expected);
    }
}

#[test]
fn a_listener_has_at_most_10_000_prefixes() {
    let list = |count: u32| {
        let prefixes = (0..count).map(|n| format!("\"198.18.{}.{}\"", n >> 8, n & 255));
        prefixes.collect::<Vec<_>>().join(",")
    };
    let model = balancer(&format!("allow = [{}]\ndeny = [\"192.0.2.1\"]", list(9_999)));
    assert_eq!(model.listeners[0].guard.allow.len(), 9_999);
    error(
        &format!("[load_balancer]\nallow = [{}]\ndeny = [\"192.0.2.1\"]\n[[server]]", list(10_000)),
        "3:8: the listener has 10001 prefixes: at most 10000 are possible",
    );
}

#[test]
fn a_rate_is_kept_as_the_time_between_connections() {
    let limit = rate_limit("rate = \"200/s\"\nburst = 400");
    let burst = NonZeroU32::new(400).unwrap();
    assert_eq!(limit, RateLimit { interval: Duration::from_millis(5), burst });
    let limit = rate_limit("of = \"connections\"\nkey = \"ip\"\nrate = \"100/m\"");
    let burst = NonZeroU32::new(100).unwrap();
    assert_eq!(limit, RateLimit { interval: Duration::from_millis(600), burst });
}

#[test]
fn a_rate_limit_needs_a_rate() {
    error(
        "[load_balancer.rate_limit]\nburst = 1\n[[server]]",
        "1:1: the rate limit has no `rate` (write `rate = \"200/s\"`, for example)",
    );
    error(
        "[load_balancer.rate_limit]\nrate = \"fast\"\n[[server]]",
        "2:8: `rate` must be a rate such as \"200/s\", \"100/m\" or \"10/h\", not \"fast\"",
    );
}

#[test]
fn an_echo_is_answered_unless_switched_off() {
    let echo = |model: &Model| match &model.listeners[0].layer {
        Layer::L4(l4) => l4.icmp_echo,
        Layer::L7(_) => panic!("layer 4"),
    };
    assert!(echo(&balancer("")));
    assert!(!echo(&balancer("icmp_echo = false")));
    error(
        "[load_balancer]\nicmp_echo = \"yes\"\n[[server]]",
        "2:13: `icmp_echo` must be `true` or `false`, not a string",
    );
}

#[test]
fn maglev_hashes_flows_for_layer_4_and_clients_for_layer_7_alone() {
    let algorithm =
        |lines: &str| balancer(&format!("algorithm = \"maglev\"\n{lines}")).pools[0].algorithm;
    assert_eq!(algorithm(""), Algorithm::Maglev(HashOn::Flow));
    assert_eq!(algorithm("layer = \"L7\""), Algorithm::Maglev(HashOn::Ip));
    assert_eq!(algorithm("hash_on = \"IP+Port\""), Algorithm::Maglev(HashOn::IpPort));
    let both = "[[listener]]\nname = \"web\"\nport = 1\nlayer = \"L7\"";
    assert_eq!(algorithm(both), Algorithm::Maglev(HashOn::Flow));
}

#[test]
fn every_algorithm_has_a_name() {
    let algorithm = |name: &str| balancer(&format!("algorithm = \"{name}\"")).pools[0].algorithm;
    assert_eq!(algorithm("LeastConnections"), Algorithm::LeastConnections);
    assert_eq!(algorithm("P2C"), Algorithm::P2c);
    assert_eq!(algorithm("random"), Algorithm::Random);
}

#[test]
fn http_probes_ask_what_they_are_told() {
    let health = |lines: &str| {
        balancer(&format!("[load_balancer.health]\nkind = \"http\"\n{lines}")).pools[0]
            .health
            .clone()
    };
    let Health::Http(check, checks) = health("") else { panic!("http") };
    assert_eq!((check.path.as_str(), check.host), ("/", None));
    assert_eq!((check.expect, checks.port), (vec![200..=399], None));
    let lines =
        "path = \"/up?q=1\"\nhost = \"a.example\"\nexpect = \"200, 204,301-303\"\nport = 81";
    let Health::Http(check, checks) = health(lines) else { panic!("http") };
    assert_eq!((check.path.as_str(), check.host.as_deref()), ("/up?q=1", Some("a.example")));
    assert_eq!(check.expect, [200..=200, 204..=204, 301..=303]);
    assert_eq!(checks.port.unwrap().get(), 81);
}

#[test]
fn what_an_http_probe_cannot_ask_is_an_error() {
    let cases = [
        ("path = \"up\"", "3:8: `path` must be a path that begins with `/`, not \"up\""),
        ("path = \"/a b\"", "3:8: `path` must be a path that begins with `/`, not \"/a b\""),
        (
            "host = \"a b\"",
            "3:8: `host` must be a host name or address, perhaps with a port, not \"a b\"",
        ),
        (
            "expect = \"ok\"",
            "3:10: `expect` must be statuses from 100 to 599 such as \"200-399\" or \"200,204\", \
             not \"ok\"",
        ),
        (
            "expect = \"300-200\"",
            "3:10: `expect` must be statuses from 100 to 599 such as \"200-399\" or \"200,204\", \
             not \"300-200\"",
        ),
    ];
    for (line, expected) in cases {
        error(&format!("[load_balancer.health]\nkind = \"http\"\n{line}\n[[server]]"), expected);
    }
}

#[test]
fn failures_eject_after_three_for_ten_seconds_and_at_most_half() {
    let expected = Outlier { failures: 3, eject: Duration::from_secs(10), max_ejected: 50 };
    assert_eq!(balancer("").pools[0].outlier, expected);
    let table = "[load_balancer.outlier]\nfailures = 5\neject = \"1m\"\nmax_ejected = 1";
    let expected = Outlier { failures: 5, eject: Duration::from_secs(60), max_ejected: 100 };
    assert_eq!(balancer(table).pools[0].outlier, expected);
    error(
        "[load_balancer.outlier]\nmax_ejected = 1.5\n[[server]]",
        "2:15: `max_ejected` must be a share from 0.0 to 1.0, not 1.5",
    );
}

#[test]
fn stickiness_says_what_clients_are_known_by() {
    assert_eq!(balancer("").pools[0].sticky, None);
    let three_hours = Sticky { ttl: Duration::from_secs(3 * 60 * 60) };
    let model = balancer("[load_balancer.sticky]\nby = \"ip\"");
    assert_eq!(model.pools[0].sticky, Some(three_hours));
    error(
        "[load_balancer.sticky]\nttl = \"1h\"\n[[server]]",
        "1:1: [pool.sticky] does not say what clients are known by (write `by = \"ip\"` or \
         `by = \"cookie\"`)",
    );
}

#[test]
fn connections_of_a_server_that_is_down_go_on_except_for_udp() {
    assert_eq!(balancer("").pools[0].on_down, OnDown::Drain);
    assert_eq!(balancer("protocol = \"udp\"").pools[0].on_down, OnDown::Rehash);
    assert_eq!(balancer("on_down = \"Reset\"").pools[0].on_down, OnDown::Reset);
}

#[test]
fn a_server_can_be_told_to_drain() {
    assert!(!valid("[[server]]").pools[0].servers[0].drain);
    assert!(valid("[[server]]\ndrain = true").pools[0].servers[0].drain);
}

#[test]
fn the_kernel_datapath_is_pinned_under_its_instance() {
    let kernel = |lines: &str| valid(&format!("[kernel]\n{lines}\n[[server]]")).kernel;
    let Kernel { instance, pin, on_stop, half_open, flood_gate, .. } = kernel("");
    assert_eq!((instance.as_str(), pin, on_stop), ("default", true, OnStop::Detach));
    assert_eq!((half_open, flood_gate), (65_536, 125_000));
    let set =
        "instance = \"a-1\"\npin = true\non_stop = \"KEEP\"\nhalf_open = 1024\nflood_gate = 0";
    let Kernel { instance, pin, on_stop, half_open, flood_gate, .. } = kernel(set);
    assert_eq!((instance.as_str(), pin, on_stop), ("a-1", true, OnStop::Keep));
    assert!(!kernel("pin = false").pin);
    assert_eq!((half_open, flood_gate), (1_024, 0));
    for name in ["", "a/b", "..", "a b"] {
        error(
            &format!("[kernel]\ninstance = \"{name}\"\n[[server]]"),
            &format!("2:12: `instance` must be 1 to 64 letters, digits, `_` and `-`, not {name:?}"),
        );
    }
}

#[test]
fn traffic_is_logged_whole_or_by_sample_and_failures_always() {
    let log = |lines: &str| valid(&format!("[log]\n{lines}\n[[server]]")).log;
    let whole = |access| Log { access, sample: 1_000_000, errors_always: true };
    assert_eq!(log("access = \"json\""), whole(Access::Json));
    assert_eq!(log("access = \"combined\""), whole(Access::Combined));
    assert!(!log("access = \"json\"\nerrors_always = false").errors_always);
    assert_eq!(log("access = \"JSON\"\nsample = 0.001").sample, 1_000);
    assert_eq!(log("access = \"off\"\nsample = 1").sample, 1_000_000);
    error("[log]\nsample = 2\n[[server]]", "2:10: `sample` must be a share from 0.0 to 1.0, not 2");
    error("[log]\nlevel = \"info\"\n[[server]]", "2:1: `level` is not available in this version");
}

#[test]
fn a_template_of_the_access_log_is_read_and_checked() {
    let text = |lines: &str| format!("[log]\n{lines}\n[[server]]");
    let log = valid(&text("access = \"template\"\ntemplate = \"$client $path\"")).log;
    assert_eq!(log.access, Access::Template(Template::parse("$client $path").unwrap()));
    error(
        &text("access = \"template\""),
        "2:10: there is no `template` (write `template = \"$time $client $method $path $status\"`, \
         say)",
    );
    error(
        &text("template = \"$path\""),
        "2:1: `template` is for `access = \"template\"` (remove it, or write `access = \
         \"template\"`)",
    );
    let report = errors(&text("access = \"template\"\ntemplate = \"$pth\""));
    assert_eq!(report.len(), 1, "{report:?}");
    assert!(
        report[0].starts_with("3:12: `template` is no template: `$pth` is no field"),
        "{report:?}"
    );
    assert!(report[0].contains("`time`, `listener`"), "{report:?}");
}

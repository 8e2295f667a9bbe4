//! How much trouble a pool takes for requests.

use std::time::Duration;

use super::{errors, valid};
use crate::model::{Algorithm, HashKey, HashOn, Overflow, Pool, Queue, Retry, StickyCookie};

/// Asserts the one error of a pool's keys.
#[track_caller]
fn error(keys: &str, expected: &str) {
    let text = format!("{keys}\n[[server]]");
    assert_eq!(errors(&text), [expected], "of:\n{text}");
}

fn pool(keys: &str) -> Pool {
    Pool::clone(&valid(&format!("[load_balancer]\nlayer = \"L7\"\n{keys}\n[[server]]")).pools[0])
}

#[test]
fn a_queue_has_a_size_and_a_time() {
    let pool = pool("overflow = \"any\"\n[load_balancer.queue]\nsize = 0\ntimeout = \"500ms\"");
    let queue = Queue { size: 0, timeout: Duration::from_millis(500) };
    assert_eq!((pool.treatment.queue, pool.treatment.overflow), (queue, Overflow::Any));
}

#[test]
fn nobody_waits_for_ever() {
    error("[load_balancer.queue]\ntimeout = \"0\"", "2:11: `timeout` must be longer than zero");
}

#[test]
fn a_queue_has_an_end() {
    error(
        "[load_balancer.queue]\nsize = -1",
        "2:8: `size` must be a whole number from 0 to 1000000, not -1",
    );
}

#[test]
fn overflow_is_rejected_or_goes_anywhere() {
    error(
        "[load_balancer]\noverflow = \"rejekt\"",
        "2:12: unknown treatment of overflow `rejekt`, did you mean `reject`? (`overflow` may be \
         `reject` or `any`)",
    );
}

#[test]
fn what_failed_is_tried_once_more_if_that_is_harmless() {
    let retry = pool("").treatment.retry;
    assert_eq!(retry, Retry::default());
    assert_eq!((retry.on_connect, retry.on_reset, retry.on_5xx), (true, true, false));
    assert_eq!((retry.attempts, retry.budget, retry.floor), (1, 200_000, 10));
    assert_eq!(retry.replay_bytes, 0);
}

#[test]
fn retries_are_what_they_are_set_to() {
    let keys = "[load_balancer.retry]\nattempts = 3\non = [\"5xx\", \"Reset\"]\nbudget = 0.5\n\
                floor = 0\nreplay_bytes = \"64KiB\"\n[load_balancer.timeouts]\ntotal = \"30s\"";
    let pool = pool(keys);
    let expected = Retry {
        attempts: 3,
        on_connect: false,
        on_reset: true,
        on_5xx: true,
        budget: 500_000,
        floor: 0,
        replay_bytes: 65_536,
    };
    assert_eq!(pool.treatment.retry, expected);
    assert_eq!(pool.timeouts.total, Duration::from_secs(30));
    assert!(!pool_retry("on = []").on_connect);
}

fn pool_retry(key: &str) -> Retry {
    pool(&format!("[load_balancer.retry]\n{key}")).treatment.retry
}

#[test]
fn what_is_no_retry_is_pointed_at() {
    let cases = [
        ("attempts = 11", "2:12: `attempts` must be a whole number from 0 to 10, not 11"),
        (
            "on = \"reset\"",
            "2:6: `on` must be a list such as [\"connect\", \"reset\"], not a string",
        ),
        (
            "on = [\"connect\", \"rezet\"]",
            "2:18: unknown cause of a retry `rezet`, did you mean `reset`? (`on` may be `connect`, \
             `reset` or `5xx`)",
        ),
        ("budget = 2", "2:10: `budget` must be a share from 0.0 to 1.0, not 2"),
        (
            "replay_bytes = \"64K\"",
            "2:16: `replay_bytes` must be a size in quotes up to 16MiB, such as \"512\", \"8KiB\" or \
             \"1MiB\", not \"64K\"",
        ),
        (
            "replay_bytes = \"17MiB\"",
            "2:16: `replay_bytes` must be a size in quotes up to 16MiB, such as \"512\", \"8KiB\" or \
             \"1MiB\", not \"17MiB\"",
        ),
    ];
    for (key, expected) in cases {
        error(&format!("[load_balancer.retry]\n{key}"), expected);
    }
}

#[test]
fn errors_count_against_a_server_if_that_is_set() {
    assert!(!pool("").treatment.count_5xx);
    assert!(pool("[load_balancer.outlier]\ncount_5xx = true").treatment.count_5xx);
}

#[test]
fn a_server_is_a_backup_if_that_is_set() {
    let model = valid("[[server]]\nport = 1\n[[server]]\nport = 2\nbackup = true");
    let backups: Vec<bool> = model.pools[0].servers.iter().map(|server| server.backup).collect();
    assert_eq!(backups, [false, true]);
}

#[test]
fn layer_4_sends_nothing_again() {
    let expected = "is for layer 7, and pool `default` serves layer 4 (remove it)";
    for key in ["attempts = 2", "floor = 1", "budget = 0.1", "replay_bytes = \"1KiB\""] {
        let name = key.split(' ').next().unwrap_or_default();
        error(&format!("[load_balancer.retry]\n{key}"), &format!("2:1: `{name}` {expected}"));
    }
    error("[load_balancer.outlier]\ncount_5xx = true", &format!("2:1: `count_5xx` {expected}"));
    error("[load_balancer.timeouts]\ntotal = \"1s\"", &format!("2:1: `total` {expected}"));
}

#[test]
fn maglev_hashes_a_part_of_a_request() {
    let hashed = |hash_on: &str| {
        let pool = pool(&format!("algorithm = \"maglev\"\nhash_on = \"{hash_on}\""));
        assert_eq!(pool.algorithm, Algorithm::Maglev(HashOn::Ip), "{hash_on}");
        pool.hash_key
    };
    assert_eq!(hashed("ip"), None);
    assert_eq!(hashed("Path"), Some(HashKey::Path));
    assert_eq!(hashed("header:X-User"), Some(HashKey::Header("x-user".parse().unwrap())));
    assert_eq!(hashed("cookie:id"), Some(HashKey::Cookie("id".to_owned())));
    assert_eq!(hashed("query:k"), Some(HashKey::Query("k".to_owned())));
}

#[test]
fn what_cannot_be_hashed_is_pointed_at() {
    let cases = [
        ("header:", "`hash_on` must name a field, not \"\""),
        ("cookie:a b", "`hash_on` must name a cookie, not \"a b\""),
        ("query:a=b", "`hash_on` must name a parameter, not \"a=b\""),
        (
            "heder:X",
            "unknown thing to hash `heder:X` (it may be `header:NAME`, `cookie:NAME` or \
             `query:NAME`)",
        ),
        (
            "header:X",
            "this `hash_on` names a part of a request, and pool `default` serves layer 4 (write \
             `flow`, `ip` or `ip+port`, or use another pool)",
        ),
    ];
    for (hash_on, expected) in cases {
        let text = format!("[load_balancer]\nalgorithm = \"maglev\"\nhash_on = \"{hash_on}\"");
        error(&text, &format!("3:11: {expected}"));
    }
}

#[test]
fn load_is_bounded_if_that_is_set() {
    assert_eq!(pool("algorithm = \"maglev\"").treatment.load_factor, 0);
    assert_eq!(pool("algorithm = \"maglev\"\nload_factor = 1.25").treatment.load_factor, 125);
    assert_eq!(pool("algorithm = \"maglev\"\nload_factor = 2").treatment.load_factor, 200);
    error(
        "[load_balancer]\nlayer = \"L7\"\nalgorithm = \"maglev\"\nload_factor = 0.9",
        "4:15: `load_factor` must be a number from 1.0 to 100.0, not 0.9",
    );
    error(
        "[load_balancer]\nlayer = \"L7\"\nload_factor = 1.25",
        "3:1: `load_factor` is for the algorithm `maglev` (remove it, or write `algorithm = \
         \"maglev\"`)",
    );
}

#[test]
fn peak_ewma_is_for_layer_7() {
    assert_eq!(pool("algorithm = \"PeakEwma\"").algorithm, Algorithm::PeakEwma);
    error(
        "[load_balancer]\nalgorithm = \"peak_ewma\"",
        "2:13: `peak_ewma` goes by the time of responses, and pool `default` serves layer 4 (write \
         `least_connections` or `p2c`)",
    );
}

#[test]
fn clients_are_known_by_a_cookie_if_that_is_set() {
    let pool_of = |keys: &str| pool(&format!("[load_balancer.sticky]\nby = \"cookie\"\n{keys}"));
    let cookie = |name: &str, seconds| {
        Some(StickyCookie { name: name.to_owned(), ttl: Duration::from_secs(seconds) })
    };
    assert_eq!((pool_of("").sticky, pool_of("").cookie), (None, cookie("deston", 10_800)));
    assert_eq!(pool_of("cookie = \"id\"\nttl = \"20m\"").cookie, cookie("id", 1_200));
    assert_eq!(pool("[load_balancer.sticky]\nby = \"ip\"").cookie, None);
}

#[test]
fn what_is_no_stickiness_by_cookie_is_pointed_at() {
    let sticky = "[load_balancer]\nlayer = \"L7\"\n[load_balancer.sticky]";
    error(
        "[load_balancer.sticky]\nby = \"cookie\"",
        "2:6: cookies are for layer 7, and pool `default` serves layer 4 (write `by = \"ip\"`)",
    );
    error(
        "[load_balancer.sticky]\nby = \"ip\"\ncookie = \"id\"",
        "3:1: `cookie` is for clients that are known by one (remove it, or write `by = \"cookie\"`)",
    );
    error(
        &format!("{sticky}\nby = \"cookie\"\nttl = \"100ms\""),
        "5:7: a cookie cannot live for less than a second (write `ttl = \"1s\"` or more)",
    );
    error(
        &format!("{sticky}\nby = \"cookie\"\ncookie = \"a;b\""),
        "5:10: `cookie` must be the name of a cookie, 1 to 64 letters, digits, `_` and the like, \
         not \"a;b\"",
    );
}

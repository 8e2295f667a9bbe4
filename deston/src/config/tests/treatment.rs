//! How much trouble a pool takes for requests.

use std::time::Duration;

use super::{errors, valid};
use crate::model::{Overflow, Pool, Queue};

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

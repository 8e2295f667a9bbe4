//! Guards of listeners.

use std::num::NonZeroU32;

use crate::config::file;
use crate::config::names::Limited;
use crate::config::problem::{Problem, Problems};
use crate::config::section::Field;
use crate::model::{Guard, LimitKey, RateLimit, RequestLimit};

/// Prefixes that one listener may have, allowed and denied together.
const MAX_PREFIXES: usize = 10_000;

/// `allow`, `deny` and `[listener.rate_limit]`.
pub(super) fn guard(file: &file::Listener, problems: &Problems) -> Option<Guard> {
    let (allow, deny) = (file.allow.or(Vec::new()), file.deny.or(Vec::new()));
    let rate_limit = rate_limit(&file.rate_limit, problems);
    let (allow, deny) = (allow?, deny?);
    let count = allow.len() + deny.len();
    if count > MAX_PREFIXES {
        problems.add(Problem::near(
            file.deny.span().or(file.allow.span()),
            format!("the listener has {count} prefixes: at most {MAX_PREFIXES} are possible"),
        ));
        return None;
    }
    Some(Guard {
        allow: allow.into_iter().collect(),
        deny: deny.into_iter().collect(),
        rate_limit: rate_limit?,
    })
}

/// The limit, if there is one; `None` if what is written is wrong.
fn rate_limit(file: &file::RateLimit, problems: &Problems) -> Option<Option<RateLimit>> {
    let Some(header) = &file.header else { return Some(None) };
    if matches!(file.rate, Field::Absent) {
        problems.add(
            Problem::at(header.clone(), "the rate limit has no `rate`")
                .help("write `rate = \"200/s\"`, for example"),
        );
        return None;
    }
    let rate = rate(file)?;
    match file.of.or(Limited::Connections)? {
        Limited::Connections => {}
        // It is no guard's: `request_limit` reads it.
        Limited::Requests => return Some(None),
    }
    match file.key.given() {
        Some(at) if at.value != LimitKey::Ip => {
            let message = "connections are limited by address: they have no header fields yet";
            problems.add(
                Problem::at(at.span.clone(), message)
                    .help("write `key = \"ip\"`, or `of = \"requests\"`"),
            );
            None
        }
        Some(_) | None => Some(Some(rate)),
    }
}

fn rate(file: &file::RateLimit) -> Option<RateLimit> {
    let rate = file.rate.given()?.value;
    let burst = NonZeroU32::new(file.burst.or(rate.count)?)?;
    Some(RateLimit { interval: rate.interval, burst })
}

/// The limit on requests, if there is one; `None` if what is written is wrong, which `guard` has
/// said.
pub(super) fn request_limit(file: &file::RateLimit) -> Option<Option<RequestLimit>> {
    let of = file.of.or(Limited::Connections)?;
    if file.header.is_none() || of == Limited::Connections {
        return Some(None);
    }
    Some(Some(RequestLimit { key: file.key.or(LimitKey::Ip)?, rate: rate(file)? }))
}

/// Reports a limit on requests where there are none.
pub(super) fn check_connections(file: &file::RateLimit, problems: &Problems) {
    if let Some(at) = file.of.given().filter(|at| at.value == Limited::Requests) {
        problems.add(
            Problem::at(at.span.clone(), "layer 4 knows of no requests")
                .help("write `of = \"connections\"`, or `layer = \"L7\"`"),
        );
    }
}

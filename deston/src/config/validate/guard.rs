//! Guards of listeners.

use std::num::NonZeroU32;

use crate::config::file;
use crate::config::names::Limited;
use crate::config::problem::{Problem, Problems};
use crate::config::section::Field;
use crate::model::{Guard, RateLimit};

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
    match file.of.or(Limited::Connections)? {
        Limited::Connections => {}
    }
    file.key.or(())?;
    let rate = file.rate.given()?.value;
    let burst = NonZeroU32::new(file.burst.or(rate.count)?)?;
    Some(Some(RateLimit { interval: rate.interval, burst }))
}

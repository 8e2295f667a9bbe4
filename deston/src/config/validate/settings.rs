//! Settings of a pool: its algorithm, its checks, and what clients keep.

use std::num::NonZeroU16;
use std::time::Duration;

use deston_common::sequence;
use deston_common::server::ServerId;
use deston_common::table::{Member, Table, TableError};

use super::pools::Draft;
use crate::config::file;
use crate::config::names::{AlgorithmName, Hashed, HealthKind, StickyBy};
use crate::config::problem::{Problem, Problems};
use crate::config::section::Field;
use crate::model::{
    Algorithm, Checks, HashKey, HashOn, Health, HttpCheck, OnDown, Outlier, ServerPort, Sticky,
    StickyCookie,
};

/// `algorithm` and `hash_on`.
pub(super) fn algorithm(draft: &Draft<'_>, problems: &Problems) -> Option<Algorithm> {
    let name = draft.file.algorithm.or(AlgorithmName::RoundRobin)?;
    let of_maglev =
        [("hash_on", draft.file.hash_on.key()), ("load_factor", draft.file.load_factor.key())];
    let keys = of_maglev.into_iter().filter(|_| name != AlgorithmName::Maglev);
    for (key, span) in keys.filter_map(|(key, span)| Some((key, span?))) {
        problems.add(
            Problem::at(span, format!("`{key}` is for the algorithm `maglev`"))
                .see(draft.file.algorithm.span(), "the algorithm")
                .help("remove it, or write `algorithm = \"maglev\"`"),
        );
    }
    Some(match name {
        AlgorithmName::RoundRobin => Algorithm::RoundRobin,
        AlgorithmName::WeightedRoundRobin => {
            check_cycle(draft, problems)?;
            Algorithm::WeightedRoundRobin
        }
        AlgorithmName::IpHashing => Algorithm::IpHashing,
        AlgorithmName::Maglev => {
            // A connection of HTTP carries many requests, which shall not part by connection.
            let default = if draft.users.l4 { HashOn::Flow } else { HashOn::Ip };
            Algorithm::Maglev(match draft.file.hash_on.or(Hashed::Address(default))? {
                Hashed::Address(hash_on) => hash_on,
                Hashed::Request(_) => HashOn::Ip,
            })
        }
        AlgorithmName::LeastConnections => Algorithm::LeastConnections,
        AlgorithmName::P2c => Algorithm::P2c,
        AlgorithmName::PeakEwma => {
            check_latency(draft, problems)?;
            Algorithm::PeakEwma
        }
        AlgorithmName::Random => {
            check_cycle(draft, problems)?;
            Algorithm::Random
        }
    })
}

/// `hash_on`, if it names a part of a request; `None` if what is written is wrong.
pub(super) fn hash_key(draft: &Draft<'_>, problems: &Problems) -> Option<Option<HashKey>> {
    let at = match &draft.file.hash_on {
        Field::Wrong => return None,
        Field::Absent => return Some(None),
        Field::Given(at) => at,
    };
    let Hashed::Request(key) = &at.value else { return Some(None) };
    if draft.users.l4 {
        let message = format!(
            "this `hash_on` names a part of a request, and pool `{}` serves layer 4",
            draft.name
        );
        let help = "write `flow`, `ip` or `ip+port`, or use another pool";
        problems.add(Problem::at(at.span.clone(), message).help(help));
        return None;
    }
    Some(Some(key.clone()))
}

/// Reports an algorithm that needs responses where there are none.
fn check_latency(draft: &Draft<'_>, problems: &Problems) -> Option<()> {
    if !draft.users.l4 {
        return Some(());
    }
    let message = format!(
        "`peak_ewma` goes by the time of responses, and pool `{}` serves layer 4",
        draft.name
    );
    let place = draft.file.algorithm.span().or(draft.place());
    problems.add(Problem::near(place, message).help("write `least_connections` or `p2c`"));
    None
}

/// Reports weights whose sequence has no room in a table.
fn check_cycle(draft: &Draft<'_>, problems: &Problems) -> Option<()> {
    let members: Vec<Member> = draft
        .servers
        .iter()
        .map(|draft| Member { id: ServerId(1), identity: 0, weight: draft.server.weight.get() })
        .collect();
    match sequence::fill_weighted(&mut Box::new(Table::EMPTY), &members) {
        Ok(()) => Some(()),
        Err(TableError::CycleTooLong) => {
            problems.add(
                Problem::near(
                    draft.file.algorithm.span().or(draft.place()),
                    format!("the weights of pool `{}` make too long a cycle", draft.name),
                )
                .help(format!(
                    "divided by their common divisor they may add up to {}: use smaller weights",
                    deston_common::limits::MAGLEV_SLOTS
                )),
            );
            None
        }
        // Both are reported where the count and the weights are read.
        Err(TableError::TooManyServers | TableError::ZeroWeight) => None,
    }
}

/// `[pool.health]`.
pub(super) fn health(draft: &Draft<'_>, problems: &Problems) -> Option<Health> {
    let file = &draft.file.health;
    let port = file.port.or(0);
    let kept = draft.servers.iter().any(|draft| draft.server.port() == ServerPort::Kept);
    let has_port = !kept || port != Some(0);
    // A UDP server need not listen on TCP, so a TCP probe must be asked for.
    let wanted = file.header.is_some() || (draft.servers.len() > 1 && !draft.users.udp && has_port);
    let default = if wanted { HealthKind::Tcp } else { HealthKind::Off };
    let kind = file.kind.or(default)?;
    if kind != HealthKind::Http {
        check_request(file, problems);
    }
    if kind != HealthKind::Off && !has_port {
        let message = "the servers keep the client's port, so probes need a `port` of their own";
        problems.add(Problem::near(file.header.clone(), message).help("write `port = 80`, say"));
        return None;
    }
    let checks = Checks {
        port: NonZeroU16::new(port?),
        interval: file.interval.or(Duration::from_secs(5))?,
        timeout: file.timeout.or(Duration::from_secs(2))?,
        rise: file.rise.or(2)?,
        fall: file.fall.or(3)?,
    };
    let request = HttpCheck {
        path: file.path.or("/".to_owned())?,
        host: file.host.or(None)?,
        expect: file.expect.or(vec![200..=399])?,
    };
    Some(match kind {
        HealthKind::Tcp => Health::Tcp(checks),
        HealthKind::Http => Health::Http(request, checks),
        HealthKind::Off => Health::Off,
    })
}

/// Reports keys of a request where none is sent.
fn check_request(file: &file::Health, problems: &Problems) {
    let keys = [
        ("path", file.path.given().map(|at| &at.key)),
        ("host", file.host.given().filter(|at| at.value.is_some()).map(|at| &at.key)),
        ("expect", file.expect.given().map(|at| &at.key)),
    ];
    for (key, span) in keys {
        let Some(span) = span else { continue };
        problems.add(
            Problem::at(span.clone(), format!("`{key}` is for HTTP probes"))
                .see(file.kind.span(), "the kind of probe")
                .help("remove it, or write `kind = \"http\"`"),
        );
    }
}

/// `[pool.outlier]`.
pub(super) fn outlier(file: &file::Outlier) -> Option<Outlier> {
    let default = Outlier::default();
    Some(Outlier {
        failures: file.failures.or(default.failures)?,
        eject: file.eject.or(default.eject)?,
        max_ejected: file.max_ejected.or(default.max_ejected)?,
    })
}

/// What clients are known by, if they keep their server.
pub(super) enum Known {
    Ip(Sticky),
    Cookie(StickyCookie),
}

/// `[pool.sticky]`, if there is one; `None` if what is written is wrong.
pub(super) fn sticky(draft: &Draft<'_>, problems: &Problems) -> Option<Option<Known>> {
    let file = &draft.file.sticky;
    let Some(header) = &file.header else { return Some(None) };
    let by = match &file.by {
        Field::Absent => {
            problems.add(
                Problem::at(header.clone(), "[pool.sticky] does not say what clients are known by")
                    .help("write `by = \"ip\"` or `by = \"cookie\"`"),
            );
            return None;
        }
        Field::Wrong => return None,
        Field::Given(at) => at,
    };
    let ttl = file.ttl.or(Duration::from_secs(3 * 60 * 60))?;
    if by.value == StickyBy::Ip {
        if let Some(span) = file.cookie.key() {
            let message = "`cookie` is for clients that are known by one";
            problems.add(Problem::at(span, message).help("remove it, or write `by = \"cookie\"`"));
        }
        return Some(Some(Known::Ip(Sticky { ttl })));
    }
    if draft.users.l4 {
        let name = &draft.name;
        let message = format!("cookies are for layer 7, and pool `{name}` serves layer 4");
        problems.add(Problem::at(by.span.clone(), message).help("write `by = \"ip\"`"));
        return None;
    }
    if ttl < Duration::from_secs(1) {
        let message = "a cookie cannot live for less than a second";
        problems.add(Problem::near(file.ttl.span(), message).help("write `ttl = \"1s\"` or more"));
        return None;
    }
    let name = file.cookie.or("deston".to_owned())?;
    Some(Some(Known::Cookie(StickyCookie { name, ttl })))
}

/// `on_down`.
pub(super) fn on_down(draft: &Draft<'_>) -> Option<OnDown> {
    let default = if draft.users.udp { OnDown::Rehash } else { OnDown::Drain };
    draft.file.on_down.or(default)
}

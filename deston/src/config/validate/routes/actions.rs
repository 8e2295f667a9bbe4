//! What a route does: one of four things.

use bytes::Bytes;
use http::{HeaderValue, StatusCode};

use super::super::pools::Pools;
use crate::config::file;
use crate::config::problem::{Problem, Problems, Span};
use crate::config::routing::PoolShare;
use crate::config::section::{At, Field};
use crate::model::route::{Action, Destination, Forward, Redirect, Respond, Share, Split};

/// One of them.
#[derive(Clone, Copy)]
enum Kind {
    Pool,
    Split,
    Redirect,
    Respond,
}

/// Where it is written; `None` if what is written is wrong.
type Place = Option<Span>;

/// Reads the one that is written.
pub(super) fn action(file: &file::Route, pools: &Pools<'_>, problems: &Problems) -> Option<Action> {
    let places: [(&str, Kind, Option<Place>); 4] = [
        ("pool", Kind::Pool, key(&file.pool)),
        ("split", Kind::Split, key(&file.split)),
        ("redirect", Kind::Redirect, file.redirect.header.clone().map(Some)),
        ("respond", Kind::Respond, file.respond.header.clone().map(Some)),
    ];
    let mut written =
        places.into_iter().filter_map(|(name, kind, place)| Some((name, kind, place?)));
    let Some((name, kind, place)) = written.next() else {
        problems.add(
            Problem::near(file.header.clone(), "this route does nothing with its requests")
                .help("add one of `pool`, `split`, `redirect` and `respond`"),
        );
        return None;
    };
    if let Some((second, _, at)) = written.next() {
        let message = format!("a route has `{name}` or `{second}`, not both");
        problems
            .add(Problem::near(at.or(file.header.clone()), message).see(place, "the other one"));
        return None;
    }
    match kind {
        Kind::Pool => {
            let at = file.pool.given()?;
            pools.find(&at.value, Some(at), file.header.as_ref(), problems)?;
            forward(file, Destination::Pool(at.value.clone()))
        }
        Kind::Split => {
            let split = split(file.split.given()?, pools, problems)?;
            forward(file, Destination::Split(split))
        }
        Kind::Redirect => {
            check_only_forwarded(file, name, place.as_ref(), problems);
            redirect(&file.redirect, problems).map(Action::Redirect)
        }
        Kind::Respond => {
            check_only_forwarded(file, name, place.as_ref(), problems);
            respond(&file.respond, problems).map(Action::Respond)
        }
    }
}

fn key<T: Clone>(field: &Field<T>) -> Option<Place> {
    match field {
        Field::Absent => None,
        Field::Wrong => Some(None),
        Field::Given(at) => Some(Some(at.key.clone())),
    }
}

fn split(at: &At<Vec<PoolShare>>, pools: &Pools<'_>, problems: &Problems) -> Option<Split> {
    // All of them, before anything is concluded: each unknown one is reported.
    let shares: Vec<Option<Share>> = at
        .value
        .iter()
        .map(|PoolShare { pool, weight }| {
            pools.find(&pool.value, Some(pool), None, problems)?;
            Some(Share { pool: pool.value.clone(), weight: *weight })
        })
        .collect();
    Some(Split { shares: shares.into_iter().collect::<Option<_>>()? })
}

fn forward(file: &file::Route, to: Destination) -> Option<Action> {
    let rewrite = match &file.rewrite {
        Field::Wrong => return None,
        Field::Absent => None,
        Field::Given(at) => Some(at.value.clone()),
    };
    Some(Action::Forward(Forward { to, rewrite }))
}

/// What is changed about a request that no server gets is changed in vain.
fn check_only_forwarded(
    file: &file::Route,
    action: &str,
    span: Option<&Span>,
    problems: &Problems,
) {
    let rewrite = file.rewrite.given().map(|at| &at.key);
    for (key, at) in [("rewrite", rewrite), ("request", file.edits.request.header.as_ref())] {
        if let Some(at) = at {
            let message =
                format!("`{key}` is for requests that go to a server, not for `{action}`");
            problems
                .add(Problem::at(at.clone(), message).see(span.cloned(), "here").help("remove it"));
        }
    }
}

fn redirect(file: &file::Redirect, problems: &Problems) -> Option<Redirect> {
    file.written.then_some(())?;
    if matches!(file.to, Field::Absent) {
        problems.add(
            Problem::near(file.header.clone(), "this redirect leads nowhere")
                .help("add `to = \"https://$host$path\"` or another location"),
        );
    }
    let status = file.status.or(StatusCode::PERMANENT_REDIRECT)?;
    Some(Redirect { status, to: file.to.given()?.value.clone() })
}

fn respond(file: &file::Respond, problems: &Problems) -> Option<Respond> {
    file.written.then_some(())?;
    let status = file.status.or(StatusCode::OK)?;
    let body = file.body.or(String::new())?;
    // RFC 9110 15.3.5, 15.3.6 and 15.4.5.
    let bodiless = [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::NOT_MODIFIED];
    if let (true, Some(at)) = (bodiless.contains(&status) && !body.is_empty(), file.body.given()) {
        let message = format!("a response with status {} has no body", status.as_u16());
        problems.add(Problem::at(at.key.clone(), message).see(file.status.span(), "the status"));
    }
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    let content_type = file.content_type.or(plain)?;
    Some(Respond { status, body: Bytes::from(body), content_type })
}

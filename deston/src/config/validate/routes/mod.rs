//! Routes: which listeners they are for, what they do, and whether their pools are there.

mod actions;
mod targets;

use std::sync::Arc;

use super::DEFAULT;
use super::edits::edits;
use super::listeners::{self, is_listener};
use super::pools::Pools;
use crate::config::file::{self, File};
use crate::config::names::LayerName;
use crate::config::problem::{Problem, Problems, Span};
use crate::config::section::Field;
use crate::config::value;
use crate::model::route::{Conditions, Route};
use crate::model::{Layer, Listener};

/// Reads every `[[route]]` and gives each to its listeners. `None` if one is wrong.
pub(super) fn read(
    file: &File,
    pools: &Pools<'_>,
    listeners: &mut [listeners::Draft],
    problems: &Problems,
) -> Option<()> {
    let mut all_valid = true;
    for (place, route) in (1..).zip(&file.routes) {
        let listener = listener(route, file, problems);
        check_loops(route, listener.as_ref(), pools, listeners, problems);
        match (self::route(place, route, pools, problems), listener) {
            (Some(route), Some(listener)) => give(&Arc::new(route), &listener, listeners),
            _ => all_valid = false,
        }
    }
    all_valid.then_some(())
}

/// Whom a route is for.
enum For<'f> {
    Every,
    One(&'f str),
}

impl For<'_> {
    fn is(&self, listener: &Listener) -> bool {
        match self {
            Self::Every => true,
            Self::One(name) => listener.name == *name,
        }
    }
}

fn give(route: &Arc<Route>, whom: &For<'_>, listeners: &mut [listeners::Draft]) {
    let listeners = listeners.iter_mut().filter_map(|draft| draft.listener.as_mut());
    for listener in listeners.filter(|listener| whom.is(listener)) {
        match &mut listener.layer {
            Layer::L4(_) => {}
            Layer::L7(l7) => l7.routes.push(Arc::clone(route)),
        }
    }
}

fn listener<'f>(route: &'f file::Route, file: &'f File, problems: &Problems) -> Option<For<'f>> {
    let implicit = file.implicit_listener().map(|listener| (DEFAULT, listener));
    let named = file.listeners.iter();
    let named =
        named.filter_map(|listener| Some((listener.name.given()?.value.as_str(), listener)));
    let all: Vec<(&str, &file::Listener)> = implicit.into_iter().chain(named).collect();
    // A layer that is written wrongly may be this one.
    let may_be_l7 = |listener: &file::Listener| {
        listener.layer.or(LayerName::L4).is_none_or(|layer| layer == LayerName::L7)
    };
    let at = match &route.listener {
        Field::Wrong => return None,
        Field::Absent => {
            if !all.iter().any(|(_, listener)| may_be_l7(listener)) {
                problems.add(
                    Problem::near(route.header.clone(), "this route is for no listener")
                        .help("routes are of listeners with `layer = \"L7\"`"),
                );
                return None;
            }
            return Some(For::Every);
        }
        Field::Given(at) => at,
    };
    match all.iter().find(|(name, _)| *name == at.value) {
        Some((name, listener)) if may_be_l7(listener) => Some(For::One(name)),
        Some((name, listener)) => {
            let message = format!("listener `{name}` is of layer 4, and routes are of requests");
            problems.add(
                Problem::at(at.span.clone(), message)
                    .see(listener.header.clone(), "this listener")
                    .help("name a listener with `layer = \"L7\"`"),
            );
            None
        }
        None => {
            let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
            let name = &at.value;
            let problem = match value::nearest(name, names.iter().copied()) {
                Some(near) => {
                    let message = format!("unknown listener `{name}`, did you mean `{near}`?");
                    Problem::at(at.span.clone(), message)
                }
                None => Problem::at(at.span.clone(), format!("unknown listener `{name}`"))
                    .help(format!("the listeners are {}", value::list(&names, "and"))),
            };
            problems.add(problem);
            None
        }
    }
}

fn route(
    place: usize,
    file: &file::Route,
    pools: &Pools<'_>,
    problems: &Problems,
) -> Option<Route> {
    let conditions = conditions(file, problems);
    let action = actions::action(file, pools, problems);
    targets::check(file, problems);
    Some(Route { place, conditions: conditions?, action: action?, edits: edits(&file.edits)? })
}

fn conditions(file: &file::Route, problems: &Problems) -> Option<Conditions> {
    if let (Some(path), Some(regex)) = (file.path.given(), file.path_regex.given()) {
        let message = "`path_regex` stands beside `path`: a route has one of them";
        problems.add(
            Problem::at(regex.key.clone(), message).see(Some(path.key.clone()), "the other one"),
        );
    }
    let path = file.path.given().or(file.path_regex.given()).map(|at| at.value.clone());
    if file.path.is_wrong() || file.path_regex.is_wrong() || file.host.is_wrong() {
        // A wrong one is no missing one.
        return None;
    }
    Some(Conditions {
        host: file.host.given().map(|at| at.value.clone()),
        path,
        methods: file.methods.or(Vec::new())?,
        headers: file.fields.or(Vec::new())?,
        query: file.query.or(Vec::new())?,
    })
}

/// A server that is the route's own listener gets each request again and again.
fn check_loops(
    file: &file::Route,
    whom: Option<&For<'_>>,
    pools: &Pools<'_>,
    listeners: &[listeners::Draft],
    problems: &Problems,
) {
    let Some(whom) = whom else { return };
    let is_for = |listener: &&Listener| match &listener.layer {
        Layer::L4(_) => false,
        Layer::L7(_) => whom.is(listener),
    };
    let place: Option<Span> = file.pool.span().or(file.split.span());
    for listener in listeners.iter().filter_map(|draft| draft.listener.as_ref()).filter(is_for) {
        let used = pools.drafts.iter().filter(|pool| file.pools().any(|name| name == pool.name));
        for server in used.flat_map(|pool| &pool.servers) {
            let address = server.server.address;
            if is_listener(listener.address, address) {
                let name = &listener.name;
                let message = format!(
                    "{address} is listener `{name}` itself, which this pool's route is for"
                );
                problems.add(
                    Problem::near(server.span.clone(), message).see(place.clone(), "this route"),
                );
            }
        }
    }
}

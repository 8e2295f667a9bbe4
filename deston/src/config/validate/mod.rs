//! From what is written to what is valid: defaults, names, addresses, and keys that do not go
//! together.
//!
//! A value that is already reported as wrong concludes nothing: what depends on it is skipped, so
//! that one mistake is one error.

mod edits;
mod guard;
mod http;
mod layers;
mod listeners;
mod log;
mod origin;
mod pools;
mod reach;
mod routes;
mod servers;
mod settings;
mod tls;
mod treatment;

use std::sync::Arc;
use std::time::Duration;

use deston_common::limits;

use super::file::{self, File};
use super::names::Workers;
use super::problem::{Problem, Problems, Span};
use super::resolve::Resolver;
use super::section::Field;
use crate::model::{Kernel, Model, OnStop, Runtime, XdpMode};

/// The name of the listener and the pool that `[load_balancer]` stands for.
const DEFAULT: &str = "default";

/// The port of a listener that names none.
const DEFAULT_PORT: u16 = 8080;

/// Keys all hashing unless `hash_seed` says otherwise: fixed, so that a restart and a second node
/// choose alike.
const DEFAULT_SEED: &str = "deston";

/// The model, or `None` if something is wrong.
pub(super) fn model(
    file: &File,
    resolver: &mut Resolver<'_>,
    problems: &Problems,
) -> Option<Model> {
    let pools = pools::read(file, resolver, problems);
    let mut listeners = listeners::read(file, &pools, resolver, problems);
    let routes = routes::read(file, &pools, &mut listeners, problems);
    pools::check_use(file, &pools, &listeners, problems);
    let runtime = runtime(&file.runtime);
    let kernel = kernel(&file.kernel, problems);
    let log = log::log(&file.log, problems);
    // All of them, before anything is concluded: each reports its own mistakes.
    let pools: Vec<_> = pools.drafts.into_iter().map(|draft| draft.pool(problems)).collect();
    routes?;
    Some(Model {
        listeners: all(listeners.into_iter().map(|draft| draft.listener.map(Arc::new)))?,
        pools: all(pools.into_iter().map(|pool| pool.map(Arc::new)))?,
        runtime: runtime?,
        kernel: kernel?,
        log: log?,
    })
}

fn all<T>(parts: impl Iterator<Item = Option<T>>) -> Option<Vec<T>> {
    parts.collect()
}

fn runtime(file: &file::Runtime) -> Option<Runtime> {
    let workers = match file.workers.or(Workers::Auto)? {
        Workers::Auto => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        Workers::Exactly(workers) => workers,
    };
    Some(Runtime {
        workers,
        drain_timeout: file.drain_timeout.or(Duration::from_secs(30))?,
        hash_seed: file.hash_seed.or(DEFAULT_SEED.to_owned())?,
    })
}

fn kernel(file: &file::Kernel, problems: &Problems) -> Option<Kernel> {
    let keep = file.on_stop.given().filter(|at| at.value == OnStop::Keep);
    let unpinned = file.pin.given().filter(|at| !at.value);
    if let (Some(keep), Some(unpinned)) = (keep, unpinned) {
        let message = "`on_stop = \"keep\"` needs what is pinned, and `pin` is false";
        problems
            .add(Problem::at(keep.span.clone(), message).see(Some(unpinned.span.clone()), "here"));
    }
    Some(Kernel {
        instance: file.instance.or(DEFAULT.to_owned())?,
        pin: file.pin.or(true)?,
        on_stop: file.on_stop.or(OnStop::Detach)?,
        xdp_mode: file.xdp_mode.or(XdpMode::Native)?,
        flows: file.flows.or(limits::DEFAULT_FLOWS)?,
        half_open: file.half_open.or(65_536)?,
        flood_gate: file.flood_gate.or(125_000)?,
    })
}

/// The host that a key names, looked up; `localhost` if it is not written.
fn host(
    address: &Field<String>,
    resolver: &mut Resolver<'_>,
    header: Option<&Span>,
    problems: &Problems,
) -> Option<std::net::IpAddr> {
    let host = address.or("localhost".to_owned())?;
    match resolver.resolve(&host) {
        Ok(address) => Some(address),
        Err(fault) => {
            let span = address.span().or(header.cloned());
            problems.add(Problem::near(span, format!("`address` {fault}")));
            None
        }
    }
}

/// Reports every name that is taken already.
fn check_names<'a>(
    what: &str,
    names: impl Iterator<Item = (&'a str, Option<Span>)>,
    problems: &Problems,
) {
    let mut taken: Vec<(&str, Option<Span>)> = Vec::new();
    for (name, span) in names {
        match taken.iter().find(|(other, _)| *other == name) {
            Some((_, first)) => problems.add(
                Problem::near(
                    span,
                    format!("another {what} is called `{name}`: choose another name"),
                )
                .see(first.clone(), "the first one"),
            ),
            None => taken.push((name, span)),
        }
    }
}

/// Reports a table without its name.
fn check_named(what: &str, name: &Field<String>, header: Option<&Span>, problems: &Problems) {
    if matches!(name, Field::Absent) {
        problems.add(
            Problem::near(header.cloned(), format!("this {what} has no name"))
                .help("add `name = \"..\"`, unique among its kind"),
        );
    }
}

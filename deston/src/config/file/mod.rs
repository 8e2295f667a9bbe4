//! Every table and key of the file, as the user wrote them: read, typed, not yet judged together.
//!
//! `[load_balancer]` is read as a listener and as a pool from the same table. Keys that belong to a
//! later version are named beside those of this one, so that an error can tell them from typos.

mod auth;
mod edits;
mod http;
mod identity;
mod listener;
mod log;
mod origin;
mod pages;
mod pool;
mod route;
mod tls;
mod treatment;

use std::path::Path;
use std::time::Duration;

use toml::de::DeTable;

use super::names::{ON_STOP, Workers, XDP_MODES};
use super::problem::Problems;
use super::section::{Field, Section};
use super::value::{self, Zero};
use crate::model::{OnStop, XdpMode};
pub(super) use edits::{Edits, MessageEdits};
pub(super) use http::{Http, Limits};
pub(super) use identity::Identity;
pub(super) use listener::{Listener, RateLimit};
pub(super) use log::Log;
pub(super) use origin::Origin;
pub(super) use pool::{Health, Outlier, Pool, Server};
pub(super) use route::{Redirect, Respond, Route};
pub(super) use tls::{Certificate, ServerTls, Tls};
pub(super) use treatment::{Queue, Retry};

/// The file.
pub(super) struct File {
    pub(super) load_balancer: LoadBalancer,
    pub(super) listeners: Vec<Listener>,
    pub(super) pools: Vec<Pool>,
    pub(super) servers: Vec<Server>,
    pub(super) routes: Vec<Route>,
    pub(super) runtime: Runtime,
    pub(super) kernel: Kernel,
    pub(super) log: Log,
}

impl File {
    /// The listener of `[load_balancer]`, if there is one.
    pub(super) fn implicit_listener(&self) -> Option<&Listener> {
        let there = self.load_balancer.written || self.listeners.is_empty();
        there.then_some(&self.load_balancer.listener)
    }
}

/// `[load_balancer]`: the listener and the pool `default`.
pub(super) struct LoadBalancer {
    pub(super) written: bool,
    pub(super) listener: Listener,
    pub(super) pool: Pool,
}

/// `[runtime]`.
pub(super) struct Runtime {
    pub(super) workers: Field<Workers>,
    pub(super) drain_timeout: Field<Duration>,
    pub(super) hash_seed: Field<String>,
}

/// `[kernel]`.
pub(super) struct Kernel {
    pub(super) instance: Field<String>,
    pub(super) pin: Field<bool>,
    pub(super) on_stop: Field<OnStop>,
    pub(super) xdp_mode: Field<XdpMode>,
    pub(super) flows: Field<u32>,
    pub(super) half_open: Field<u32>,
    pub(super) flood_gate: Field<u32>,
}

/// Reads the whole file.
pub(super) fn read(table: &DeTable<'_>, base: &Path, problems: &Problems) -> File {
    let mut root = Section::root(table, base, problems);
    root.later(&["include", "admin", "tracing"]);
    let file = File {
        load_balancer: load_balancer(root.child("load_balancer")),
        listeners: root.each("listener", Listener::named),
        pools: root.each("pool", Pool::named),
        servers: root.each("server", Server::read),
        routes: root.each("route", Route::read),
        runtime: runtime(root.child("runtime")),
        kernel: kernel(root.child("kernel")),
        log: Log::read(root.child("log")),
    };
    root.finish();
    file
}

fn load_balancer(section: &mut Section<'_>) -> LoadBalancer {
    LoadBalancer {
        written: section.is_written(),
        listener: Listener::unnamed(section),
        pool: Pool::unnamed(section),
    }
}

fn runtime(section: &mut Section<'_>) -> Runtime {
    section.later(&["watch"]);
    Runtime {
        workers: section.get("workers", value::workers),
        drain_timeout: section.get("drain_timeout", value::duration(Zero::Off)),
        hash_seed: section.get("hash_seed", value::text),
    }
}

fn kernel(section: &mut Section<'_>) -> Kernel {
    Kernel {
        instance: section.get("instance", value::instance),
        pin: section.get("pin", value::flag),
        on_stop: section.get("on_stop", value::one_of(&ON_STOP)),
        xdp_mode: section.get("xdp_mode", value::one_of(&XDP_MODES)),
        flows: section.get("flows", value::number(1_024..=16_777_216)),
        half_open: section.get("half_open", value::number(1_024..=16_777_216)),
        flood_gate: section.get("flood_gate", value::number(0..=u32::MAX)),
    }
}

//! Listeners: their names and addresses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use deston_common::limits::MAX_LISTENERS;

use super::guard::guard;
use super::layers::layer;
use super::origin::origin;
use super::pools::{self, Pools};
use super::{DEFAULT, DEFAULT_PORT, check_named, check_names, host};
use crate::config::file::{self, File};
use crate::config::problem::{Problem, Problems, Span};
use crate::config::resolve::Resolver;
use crate::model::{DatapathChoice, Layer, Listener};

/// A listener on its way into the model.
pub(super) struct Draft {
    /// `None` if something about it is wrong.
    pub(super) listener: Option<Listener>,
    /// Name of its pool; empty if what is written is wrong.
    pub(super) pool: String,
    /// Where its address stands.
    span: Option<Span>,
    /// Where its datapath stands.
    datapath: Option<Span>,
}

impl Draft {
    pub(super) fn layer(&self) -> Option<&Layer> {
        self.listener.as_ref().map(|listener| &listener.layer)
    }
}

/// Reads `[[listener]]` and the listener of `[load_balancer]`.
pub(super) fn read(
    file: &File,
    pools: &Pools<'_>,
    resolver: &mut Resolver<'_>,
    problems: &Problems,
) -> Vec<Draft> {
    let implicit = file.implicit_listener();
    let mut names: Vec<(&str, Option<Span>)> = Vec::new();
    if let Some(listener) = implicit {
        names.push((DEFAULT, listener.header.clone()));
    }
    for listener in &file.listeners {
        check_named("listener", &listener.name, listener.header.as_ref(), problems);
        names.extend(listener.name.given().map(|at| (at.value.as_str(), Some(at.span.clone()))));
    }
    check_names("listener", names.into_iter(), problems);
    if file.listeners.len() >= MAX_LISTENERS as usize {
        let count = file.listeners.len();
        let most = MAX_LISTENERS - 1;
        problems.add(Problem::of_file(format!(
            "there are {count} listeners: at most {most} are possible"
        )));
    }

    let implicit = implicit.map(|listener| (Some(DEFAULT.to_owned()), listener));
    let written =
        file.listeners.iter().map(|file| (file.name.given().map(|at| at.value.clone()), file));
    let drafts: Vec<Draft> = implicit
        .into_iter()
        .chain(written)
        .map(|(name, file)| draft(name, file, pools, resolver, problems))
        .collect();
    check_addresses(&drafts, problems);
    drafts
}

fn draft(
    name: Option<String>,
    file: &file::Listener,
    pools: &Pools<'_>,
    resolver: &mut Resolver<'_>,
    problems: &Problems,
) -> Draft {
    let span = file.port.span().or(file.address.span()).or(file.header.clone());
    let pool = file.pool.or(DEFAULT.to_owned());
    let found = pool
        .as_deref()
        .and_then(|pool| pools.find(pool, file.pool.given(), file.header.as_ref(), problems));
    let ip = host(&file.address, resolver, file.header.as_ref(), problems)
        .filter(|ip| check_is_ours(file, *ip, problems));
    let guard = guard(file, problems);
    let origin = origin(file, found, problems);
    let layer = layer(file, ip, found, problems);
    let address = ip.zip(file.port.or(DEFAULT_PORT)).map(|(ip, port)| SocketAddr::new(ip, port));
    if let (Some(address), Some(found)) = (address, found) {
        check_loop(file, address, found, problems);
    }
    let listener = (|| {
        let (name, pool) = (name?, pool.clone()?);
        let (guard, origin) = (guard?, origin?);
        Some(Listener { name, address: address?, pool, guard, origin, layer: layer? })
    })();
    let datapath = file.datapath.span();
    Draft { listener, pool: pool.unwrap_or_default(), span, datapath }
}

/// Reports an address that is no single host's, and so is never this host's own.
fn check_is_ours(file: &file::Listener, ip: IpAddr, problems: &Problems) -> bool {
    let what = if ip.is_multicast() {
        "a multicast address"
    } else if ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
        "the broadcast address"
    } else {
        return true;
    };
    let message = format!("`address` must be an address of this host, and {ip} is {what}");
    problems.add(Problem::near(file.address.span().or(file.header.clone()), message));
    false
}

fn check_loop(
    file: &file::Listener,
    address: SocketAddr,
    pool: &pools::Draft<'_>,
    problems: &Problems,
) {
    let is_itself = |draft: &&pools::ServerDraft| is_listener(address, draft.server.address);
    if let Some(server) = pool.servers.iter().find(is_itself) {
        let server_address = server.server.address;
        problems.add(
            Problem::near(server.span.clone(), format!("{server_address} is the listener itself"))
                .see(file.address.span().or(file.header.clone()), "this listener"),
        );
    }
}

/// Whether what is sent to `server` comes back to the listener at `address`.
pub(super) fn is_listener(address: SocketAddr, server: SocketAddr) -> bool {
    // On every address, it is on those of the loopback too.
    let every = address.ip().is_unspecified()
        && server.ip().is_loopback()
        && server.is_ipv4() == address.is_ipv4();
    server.port() == address.port() && (server.ip() == address.ip() || every)
}

fn check_addresses(drafts: &[Draft], problems: &Problems) {
    let key = |draft: &Draft| {
        let listener = draft.listener.as_ref()?;
        Some((listener.address, listener.protocol()))
    };
    for (place, draft) in drafts.iter().enumerate() {
        let Some((address, protocol)) = key(draft) else { continue };
        let same = |other: &&Draft| key(other) == Some((address, protocol));
        if let Some(first) = drafts.iter().take(place).find(same) {
            problems.add(
                Problem::near(
                    draft.span.clone(),
                    format!("another listener has {address}/{protocol}: choose another port"),
                )
                .see(first.span.clone(), "the first one"),
            );
        }
        check_beside(draft, drafts, problems);
    }
}

/// A listener on every address in the kernel takes packets before any socket has them, and leaves
/// alone what the kernel knows another listener of. One that sockets alone serve would get nothing.
fn check_beside(every: &Draft, drafts: &[Draft], problems: &Problems) {
    let Some(listener) = &every.listener else { return };
    let (address, protocol) = (listener.address, listener.protocol());
    let in_kernel =
        matches!(listener.layer, Layer::L4(_)) && listener.datapath() != DatapathChoice::Userspace;
    if !address.ip().is_unspecified() || !in_kernel {
        return;
    }
    let is_beside = |draft: &&Draft| {
        draft.listener.as_ref().is_some_and(|other| {
            // The guard of layer 7 is in the kernel too.
            let is_unguarded = matches!(other.layer, Layer::L7(_)) && other.guard.is_open();
            let by_sockets = is_unguarded || other.datapath() == DatapathChoice::Userspace;
            let same_port = other.address.port() == address.port();
            let same_family = other.address.is_ipv4() == address.is_ipv4();
            let named = !other.address.ip().is_unspecified() && !other.address.ip().is_loopback();
            by_sockets && named && same_port && same_family && other.protocol() == protocol
        })
    };
    let Some(beside) = drafts.iter().find(is_beside) else { return };
    let Some(other) = &beside.listener else { return };
    let message = format!(
        "the kernel would take packets for {address}/{protocol} that are listener `{}`'s, which is \
         served in userspace",
        other.name
    );
    problems.add(
        Problem::near(every.datapath.clone().or(every.span.clone()), message)
            .see(beside.span.clone(), "that listener")
            .help("write `datapath = \"userspace\"` here, or an address"),
    );
}

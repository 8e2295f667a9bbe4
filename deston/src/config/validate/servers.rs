//! Servers, each and within their pool.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32};

use deston_common::limits::MAX_POOL_SERVERS;

use super::pools::{Draft, ServerDraft, Users};
use super::{check_names, host, tls};
use crate::config::file;
use crate::config::names::ProtocolName;
use crate::config::problem::{Problem, Problems};
use crate::config::resolve::Resolver;
use crate::model::{Server, ServerProtocol, Speech};

/// The port of a server that names none.
const DEFAULT_PORT: u16 = 3000;

/// A server of a pool that `users` use; `None` if its pool is not known.
pub(super) fn server(
    file: &file::Server,
    users: Option<Users>,
    resolver: &mut Resolver<'_>,
    problems: &Problems,
) -> Option<ServerDraft> {
    let port = port(file, users, problems);
    let ip = host(&file.address, resolver, file.header.as_ref(), problems)?;
    let address = SocketAddr::new(ip, port?);
    let span = file.address.span().or(file.port.span()).or(file.header.clone());
    let everyone = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
    if ip.is_unspecified() || ip.is_multicast() || everyone {
        let message = format!("`address` must be the address of one server, not {ip}");
        problems.add(Problem::near(span, message));
        return None;
    }
    let speech = speech(file, users, problems);
    let unnamed = if address.port() == 0 { ip.to_string() } else { address.to_string() };
    let server = Server {
        name: file.name.or(unnamed)?,
        address,
        weight: NonZeroU16::new(file.weight.or(1)?)?,
        max_connections: NonZeroU32::new(file.max_connections.or(1000)?)?,
        drain: file.drain.or(false)?,
        backup: file.backup.or(false)?,
        speech: speech?,
    };
    Some(ServerDraft {
        server,
        span,
        name_span: file.name.span().or(file.header.clone()),
        port_span: file.port.span().or(file.header.clone()),
        proxy_span: file.proxy_protocol.given().map(|at| at.key.clone()),
    })
}

/// The port; 0 where the client's is kept, which is so for listeners on every port.
fn port(file: &file::Server, users: Option<Users>, problems: &Problems) -> Option<u16> {
    let any_port = users.is_some_and(|users| users.any_port);
    let port = file.port.or(if any_port { 0 } else { DEFAULT_PORT })?;
    let (message, help) = match (any_port, port) {
        (false, 0) if users.is_none() => return Some(port),
        (true, 0) | (false, 1..) => return Some(port),
        (true, 1..) => (
            "`port` cannot be changed for a listener with `port = 0`: servers see the client's",
            "remove it, or write `port = 0`",
        ),
        (false, 0) => (
            "`port = 0` keeps the client's port, which is for pools of listeners with `port = 0`",
            "write a port from 1 to 65535",
        ),
    };
    problems.add(Problem::near(file.port.span(), message).help(help));
    None
}

/// How it is spoken to.
fn speech(file: &file::Server, users: Option<Users>, problems: &Problems) -> Option<Speech> {
    let tls = tls::server(&file.tls, &file.address, file.protocol.given(), problems);
    let written = file.protocol.given().map(|at| at.key.clone()).or(file.tls.header.clone());
    if let Some(span) = written.filter(|_| users.is_some_and(|users| users.l4)) {
        let message = "`protocol` and [server.tls] are for layer 7, and this server's pool serves \
                       layer 4, which passes bytes as they are";
        problems.add(Problem::at(span, message).help("remove it, or use another pool"));
        return None;
    }
    let proxied = file.proxy_protocol.given().filter(|at| at.value.is_some());
    if let Some(at) = proxied.filter(|_| users.is_some_and(|users| users.udp)) {
        let message = "`proxy_protocol` is for TCP, and this server's pool serves UDP";
        problems.add(Problem::at(at.key.clone(), message).help("remove it"));
        return None;
    }
    let proxy_protocol = file.proxy_protocol.or(None)?;
    let protocol = match file.protocol.or(ProtocolName::Auto)? {
        ProtocolName::Auto => ServerProtocol::Auto,
        ProtocolName::H1 => ServerProtocol::Http1,
        ProtocolName::H2 | ProtocolName::H2c => ServerProtocol::Http2,
    };
    Some(Speech { protocol, proxy_protocol, tls: tls? })
}

/// Reports what is wrong with the servers of a pool together.
pub(super) fn check(draft: &Draft<'_>, problems: &Problems) {
    let name = &draft.name;
    if draft.servers.is_empty() && draft.complete {
        problems.add(
            Problem::near(draft.place(), format!("pool `{name}` has no servers"))
                .help(format!("add a [[server]] with `pool = \"{name}\"`")),
        );
    }
    if draft.servers.len() > MAX_POOL_SERVERS {
        let message = format!(
            "pool `{name}` has {} servers: at most {MAX_POOL_SERVERS} are possible",
            draft.servers.len()
        );
        problems.add(Problem::near(draft.place(), message));
        return;
    }
    for (place, server) in draft.servers.iter().enumerate() {
        let same = |other: &&ServerDraft| other.server.address == server.server.address;
        if let Some(first) = draft.servers.iter().take(place).find(same) {
            let address = server.server.address;
            problems.add(
                Problem::near(
                    server.span.clone(),
                    format!(
                        "{address} is in pool `{name}` already: use `weight` for a larger share"
                    ),
                )
                .see(first.span.clone(), "the first one"),
            );
        }
    }
    let unlike_addresses =
        draft.servers.iter().filter(|draft| draft.server.name != draft.server.address.to_string());
    let names = unlike_addresses.map(|draft| (draft.server.name.as_str(), draft.name_span.clone()));
    check_names(&format!("server of pool `{name}`"), names, problems);
}

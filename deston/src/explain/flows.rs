//! The flows of an instance that are asked for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::ControlFlow;

use deston_common::flow::{FlowEntry, ReplyEntry};
use deston_common::net::Ipv6Be;
use deston_common::server::{ServerEntry, ServerId};

use super::clock::Clock;
use super::flow::Flow;
use super::pattern::{Pattern, Prefix};
use crate::datapath::{KernelError, Maps};

/// Which flows.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Those of these clients alone.
    pub client: Option<Prefix>,
    /// Those at these servers alone.
    pub server: Option<Pattern>,
    /// Also those whose handshake is not finished, or that no server has answered.
    pub half_open: bool,
}

/// Where servers stand, looked up once each.
#[derive(Debug, Default)]
pub struct Servers(BTreeMap<ServerId, Option<SocketAddr>>);

impl Servers {
    /// Where a server stands; `None` if nothing is known of it.
    pub fn address(&mut self, maps: &Maps, id: ServerId) -> Option<SocketAddr> {
        *self.0.entry(id).or_insert_with(|| {
            let entry = maps.server(id).ok().filter(|entry| entry.state != 0)?;
            Some(address(&entry))
        })
    }
}

/// Where a server stands.
pub(super) fn address(entry: &ServerEntry) -> SocketAddr {
    SocketAddr::new(entry.address.into(), entry.port.to_host())
}

/// Tells every flow that is asked for, as it stands when it is read, until `tell` says that it is
/// enough.
pub fn flows(
    maps: &Maps,
    asked: &Asked,
    mut tell: impl FnMut(&Flow) -> ControlFlow<()>,
) -> Result<(), KernelError> {
    let clock = Clock::now();
    let mut servers = Servers::default();
    let mut one = |entry: FlowEntry<Ipv6Be>, reply: Option<ReplyEntry<Ipv6Be>>| {
        let server = servers.address(maps, entry.server);
        let flow = Flow::of(&entry, reply.as_ref(), server, &clock);
        let is_client = asked.client.is_none_or(|client| client.covers(flow.client.ip()));
        let is_server =
            asked.server.is_none_or(|wanted| flow.server.is_some_and(|it| wanted.covers(it)));
        if is_client && is_server { tell(&flow) } else { ControlFlow::Continue(()) }
    };
    for entry in maps.try_flows() {
        let entry = entry?;
        if one(entry, maps.reply(&entry.reply)).is_break() {
            return Ok(());
        }
    }
    if asked.half_open {
        for entry in maps.half_flows() {
            if one(entry, maps.half_reply(&entry.reply)).is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

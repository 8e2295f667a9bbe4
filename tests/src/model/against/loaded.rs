//! The loaded programs, taking steps.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use deston::datapath::{self, Action, Kernel, KernelError, Ran, Sizes};
use deston_common::flow::ExpireRequest;
use deston_common::fragment::FragmentEntry;
use deston_common::guard::{Bucket, Flood, verdict};
use deston_common::net::Ipv6Be;
use deston_common::server::{Load, ServerEntry, ServerId};
use deston_common::sticky::StickyEntry;
use deston_common::table::Table;

use super::super::outcome;
use super::super::settings::{self, Hook};
use super::super::step::{Entry, Step};
use super::super::tuple::Tuple;
use super::entries;

/// Servers and pools that runs use, at most.
pub(super) const SERVERS: u16 = 32;
pub(super) const POOLS: u32 = 128;

/// The programs, and what has to be undone before the next run.
pub(super) struct Loaded {
    pub(super) kernel: Kernel,
    sources: Vec<(u32, (IpAddr, u8))>,
    static_replies: Vec<(SocketAddr, u8)>,
    tables: BTreeMap<u32, settings::Table>,
    /// Pools whose table was made empty: one that was swapped in once cannot be taken away.
    pub(super) emptied: Vec<u32>,
}

impl Loaded {
    /// Loads the programs, with room for so many promoted flows of each family.
    pub(super) fn new(flows: u32) -> Result<Self, KernelError> {
        // Half-open flows are far fewer than fit, so that the kernel evicts none.
        let kernel = Kernel::load(Sizes { flows, half_open: 65_536 })?;
        Ok(Self {
            kernel,
            sources: vec![],
            static_replies: vec![],
            tables: BTreeMap::new(),
            emptied: vec![],
        })
    }

    /// Takes a step; what became of a packet.
    pub(super) fn take(&mut self, step: &Step) -> Result<Option<Ran>, KernelError> {
        let kernel = &mut self.kernel;
        match step {
            Step::Packet(hook, frame) => return kernel.run(hook_of(*hook), frame).map(Some),
            Step::Globals(globals) => kernel.put_globals(&entries::globals(globals))?,
            Step::Address(address, Some(meaning)) => {
                kernel.put_address(*address, &entries::address(meaning))?;
            }
            // What a shrunk run removes may not be there.
            Step::Address(address, None) => drop(kernel.remove_address(*address)),
            Step::Listener(side, protocol, Some(listener)) => {
                kernel.put_snat_addresses(listener.number, &listener.snat_addresses)?;
                let entry = entries::listener(listener);
                kernel.put_listener(side.ip(), side.port(), *protocol, &entry)?;
            }
            Step::Listener(side, protocol, None) => {
                drop(kernel.remove_listener(side.ip(), side.port(), *protocol));
            }
            Step::Server(id, server) => {
                kernel.put_server(ServerId(*id), &entries::server(server))?;
            }
            Step::Table(pool, table) => {
                // A swap waits for every processor: a table that is there already is left.
                if self.tables.get(pool) != Some(table) {
                    kernel.put_table(*pool, &entries::table(table))?;
                    self.tables.insert(*pool, table.clone());
                }
            }
            Step::StaticReply(server, protocol, reply) => {
                let is_tc = reply.hook == Hook::Tc;
                kernel.put_static_reply(*server, *protocol, reply.listener, is_tc)?;
                self.static_replies.push((*server, *protocol));
            }
            Step::Source(listener, prefix, allowed) => {
                let said = if *allowed { verdict::ALLOW } else { verdict::DENY };
                kernel.put_source(*listener, *prefix, said)?;
                self.sources.push((*listener, *prefix));
            }
            Step::Mtu(ifindex, mtu) => kernel.put_mtu(*ifindex, (*mtu).into())?,
            // The host's routes are the namespace's.
            Step::Route(..) => {}
            Step::Expire(idle) => self.expire(idle)?,
            Step::Lose(Entry::Flow, key) => drop(kernel.remove_flow(&entries::key(key))),
            Step::Lose(Entry::Reply, key) => drop(kernel.remove_reply(&entries::key(key))),
            Step::Lose(Entry::HalfFlow, key) => drop(kernel.remove_half_flow(&entries::key(key))),
            Step::Lose(Entry::HalfReply, key) => drop(kernel.remove_half_reply(&entries::key(key))),
        }
        Ok(None)
    }

    fn expire(&self, idle: &[(Tuple, (u64, u64))]) -> Result<(), KernelError> {
        for v6 in [false, true] {
            let family = idle.iter().filter(|(key, _)| key.is_v6() == v6);
            let requests: Vec<ExpireRequest<Ipv6Be>> = family
                .map(|(key, (flow_seen_ns, reply_seen_ns))| ExpireRequest {
                    key: entries::key(key),
                    flow_seen_ns: *flow_seen_ns,
                    reply_seen_ns: *reply_seen_ns,
                })
                .collect();
            self.kernel.end_if_still(&requests)?;
        }
        Ok(())
    }

    /// Forgets everything. Entries that cannot be removed are made as old as time, and tables that
    /// the next run replaces before its first packet are left.
    pub(super) fn reset(&mut self, next: &[Step]) -> Result<(), KernelError> {
        self.forget_flows()?;
        let kernel = &mut self.kernel;
        for (address, _) in kernel.addresses()? {
            kernel.remove_address(address)?;
        }
        for (side, protocol, _) in kernel.listeners()? {
            kernel.remove_listener(side.ip(), side.port(), protocol)?;
        }
        self.sources.sort();
        self.sources.dedup();
        for (listener, prefix) in self.sources.drain(..) {
            kernel.remove_source(listener, prefix)?;
        }
        self.static_replies.sort();
        self.static_replies.dedup();
        for (server, protocol) in self.static_replies.drain(..) {
            kernel.remove_static_reply(server, protocol)?;
        }
        let world = next.iter().take_while(|step| !matches!(step, Step::Packet(..)));
        let replaced: Vec<u32> = world
            .filter_map(|step| if let Step::Table(pool, _) = step { Some(*pool) } else { None })
            .collect();
        for (pool, _) in self.tables.extract_if(.., |pool, _| !replaced.contains(pool)) {
            kernel.put_table(pool, &Table::EMPTY)?;
            self.emptied.push(pool);
        }
        for id in 0..SERVERS {
            kernel.put_server(ServerId(id), &ServerEntry::default())?;
            kernel.put_load(ServerId(id), &Load::default())?;
        }
        for pool in 0..POOLS {
            kernel.put_cursor(pool, 0)?;
        }
        for (key, entry) in kernel.fragments()? {
            kernel.put_fragment(&key, &FragmentEntry { seen_ns: 0, ..entry })?;
        }
        for (key, _) in kernel.buckets()? {
            kernel.put_bucket(key.client.into(), key.listener, &Bucket::default())?;
        }
        for (key, _) in kernel.stickies()? {
            kernel.put_sticky(key.client.into(), key.pool, &StickyEntry::default())?;
        }
        kernel.put_mtu(1, 0)?;
        kernel.put_globals(&entries::globals(&settings::Globals::START))?;
        kernel.put_flood(Flood::default())
    }

    fn forget_flows(&mut self) -> Result<(), KernelError> {
        let kernel = &mut self.kernel;
        let flows: Vec<_> = kernel.flows().map(|flow| flow.key).collect();
        flows.iter().try_for_each(|key| kernel.remove_flow(key))?;
        let flows: Vec<_> = kernel.half_flows().map(|flow| flow.key).collect();
        flows.iter().try_for_each(|key| kernel.remove_half_flow(key))?;
        let replies = kernel.replies()?;
        replies.iter().try_for_each(|reply| kernel.remove_reply(&reply.key))?;
        let replies = kernel.half_replies()?;
        replies.iter().try_for_each(|reply| kernel.remove_half_reply(&reply.key))
    }
}

fn hook_of(hook: Hook) -> datapath::Hook {
    match hook {
        Hook::Xdp => datapath::Hook::Xdp,
        Hook::Tc => datapath::Hook::Tc,
    }
}

/// What the programs asked of the kernel, in the model's words.
pub(super) fn action(ran: &Ran) -> Option<outcome::Action> {
    match ran.action {
        Action::Drop => Some(outcome::Action::Drop),
        Action::Pass => Some(outcome::Action::Pass),
        Action::Redirect => Some(outcome::Action::Send),
        Action::Transmit | Action::Other(_) => None,
    }
}

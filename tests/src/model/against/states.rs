//! What the kernel remembers, read back in the model's words.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::IpAddr;

use deston::datapath::KernelError;
use deston_common::net::Ipv6Be;
use deston_common::outcome::Outcome as Counter;
use deston_common::server::ServerId;

use super::super::balance::Model;
use super::super::outcome::Outcome;
use super::super::tables::{Binding, Load, Ports, Tables};
use super::entries;
use super::loaded::{Loaded, POOLS, SERVERS};

/// Packets of each outcome.
pub(super) type Counts = BTreeMap<&'static str, u64>;

impl Loaded {
    /// Packets of each outcome since the programs were loaded.
    pub(super) fn counts(&self) -> Result<Counts, KernelError> {
        let counts = self.kernel.outcomes()?;
        Ok(Counter::ALL.iter().map(|outcome| outcome.name()).zip(counts).collect())
    }

    /// Everything that the kernel remembers.
    pub(super) fn tables(&self, processor: usize) -> Result<Tables, KernelError> {
        let kernel = &self.kernel;
        let mut tables = Tables {
            flows: kernel.flows().map(|flow| entries::flow(&flow)).collect(),
            replies: kernel.replies()?.iter().map(entries::reply).collect(),
            half_flows: kernel.half_flows().map(|flow| entries::flow(&flow)).collect(),
            half_replies: kernel.half_replies()?.iter().map(entries::reply).collect(),
            ..Tables::default()
        };
        for id in 0..SERVERS {
            let load = kernel.load_of(ServerId(id))?;
            let load = Load {
                in_use: load.in_use,
                entries: load.entries,
                opened: load.opened,
                unanswered: load.unanswered,
                refused: load.refused,
            };
            tables.loads.insert(id, load);
        }
        for pool in 0..POOLS {
            tables.cursors.insert(pool, kernel.cursor(pool)?);
        }
        for (key, bucket) in kernel.buckets()? {
            tables.buckets.insert((key.client.into(), key.listener), bucket.due_ns);
        }
        for (key, entry) in kernel.stickies()? {
            let binding = Binding { used: entry.last_used_ns, server: entry.server.0 };
            tables.bindings.insert((key.client.into(), key.pool), binding);
        }
        for (key, entry) in kernel.fragments()? {
            let datagram = (key.source.into(), key.destination.into(), id(key.source, key.id));
            let ports = Ports {
                seen: entry.seen_ns,
                source: entry.source_port.to_host(),
                destination: entry.destination_port.to_host(),
            };
            let (source, destination, id) = datagram;
            tables.fragments.insert((source, destination, id, key.protocol), ports);
        }
        if let Some(flood) = kernel.flood()?.get(processor) {
            tables.flood = (flood.since_ns, flood.count);
        }
        forget_nothings(&mut tables);
        Ok(tables)
    }
}

/// The identification of a datagram: 16 bits in IPv4.
fn id(source: Ipv6Be, as_it_stands: u32) -> u32 {
    match IpAddr::from(source) {
        IpAddr::V4(_) => u16::from_be(as_it_stands as u16).into(),
        IpAddr::V6(_) => u32::from_be(as_it_stands),
    }
}

/// Leaves out what is as if it were not there, so that only differences that matter are seen.
fn forget_nothings(tables: &mut Tables) {
    tables.loads.retain(|_, load| *load != Load::default());
    tables.cursors.retain(|_, cursor| *cursor != 0);
    tables.buckets.retain(|_, due| *due != 0);
    tables.bindings.retain(|_, binding| binding.used != 0);
    tables.fragments.retain(|_, ports| ports.seen != 0);
}

/// What differs between the model and the kernel, if anything does.
pub(super) fn difference(model: &Model, kernel: &Tables) -> Option<String> {
    let mut expected = model.tables.clone();
    forget_nothings(&mut expected);
    if expected == *kernel {
        return None;
    }
    let mut text = String::new();
    compare(&mut text, "flows", &expected.flows, &kernel.flows);
    compare(&mut text, "replies", &expected.replies, &kernel.replies);
    compare(&mut text, "half flows", &expected.half_flows, &kernel.half_flows);
    compare(&mut text, "half replies", &expected.half_replies, &kernel.half_replies);
    compare(&mut text, "loads", &expected.loads, &kernel.loads);
    compare(&mut text, "cursors", &expected.cursors, &kernel.cursors);
    compare(&mut text, "buckets", &expected.buckets, &kernel.buckets);
    compare(&mut text, "bindings", &expected.bindings, &kernel.bindings);
    compare(&mut text, "fragments", &expected.fragments, &kernel.fragments);
    if expected.flood != kernel.flood {
        text += &format!("flood: model {:?}, kernel {:?}\n", expected.flood, kernel.flood);
    }
    Some(text)
}

fn compare<K: Ord + Debug, V: PartialEq + Debug>(
    text: &mut String,
    name: &str,
    model: &BTreeMap<K, V>,
    kernel: &BTreeMap<K, V>,
) {
    for key in model.keys().chain(kernel.keys().filter(|key| !model.contains_key(key))) {
        let (expected, got) = (model.get(key), kernel.get(key));
        if expected != got {
            *text += &format!("{name} {key:?}:\n  model  {expected:?}\n  kernel {got:?}\n");
        }
    }
}

/// What differs between counters, if anything does.
pub(super) fn miscounted(
    expected: &BTreeMap<Outcome, u64>,
    before: &Counts,
    now: &Counts,
) -> Option<String> {
    let mut text = String::new();
    for (name, count) in now {
        let counted = count - before.get(name).copied().unwrap_or(0);
        let outcome = Outcome::ALL.iter().find(|outcome| outcome.name() == *name);
        let expected = outcome.and_then(|outcome| expected.get(outcome)).copied().unwrap_or(0);
        if expected != counted {
            text += &format!("{name}: model {expected}, kernel {counted}\n");
        }
    }
    (!text.is_empty()).then_some(text)
}

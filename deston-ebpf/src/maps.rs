//! Every map: key, value, who writes and who reads.

use aya_ebpf::btf_maps::{Array, ArrayOfMaps, HashMap, PerCpuArray};
use aya_ebpf::macros::btf_map;
use deston_common::flow::{FlowEntry, FlowKey, ReplyEntry};
use deston_common::limits::{DEFAULT_FLOWS, MAX_LISTENERS, MAX_POOLS, MAX_SERVERS};
use deston_common::listener::{ListenerEntry, ListenerKey};
use deston_common::outcome::Outcome;
use deston_common::server::{Load, ServerEntry};
use deston_common::table::{Table, TableWords};

/// Listener address -> what to do. Written by the process.
#[btf_map]
pub(crate) static LISTENERS: HashMap<ListenerKey, ListenerEntry, { MAX_LISTENERS as usize }> =
    HashMap::new();

/// Pool -> its table. The process swaps whole inner maps, so a packet sees one table or the other.
#[btf_map]
static POOL_TABLES: ArrayOfMaps<Array<TableWords, 1>, { MAX_POOLS as usize }> = ArrayOfMaps::new();

/// Pool -> cursor, advanced once for each new flow. Written by the kernel.
#[btf_map]
pub(crate) static CURSORS: Array<u64, { MAX_POOLS as usize }> = Array::new();

/// Server -> how packets reach it. Written by the process.
#[btf_map]
pub(crate) static SERVERS: Array<ServerEntry, { MAX_SERVERS as usize }> = Array::new();

/// Server -> flows opened and closed. Written by the kernel.
#[btf_map]
pub(crate) static LOADS: Array<Load, { MAX_SERVERS as usize }> = Array::new();

/// Client's tuple -> flow. Written by the kernel; the process reads it to find idle flows.
#[btf_map]
pub(crate) static FLOWS: HashMap<FlowKey, FlowEntry, { DEFAULT_FLOWS as usize }> = HashMap::new();

/// Server's tuple -> flow. An entry is the claim on its SNAT port. Written by the kernel.
#[btf_map]
pub(crate) static REPLIES: HashMap<FlowKey, ReplyEntry, { DEFAULT_FLOWS as usize }> =
    HashMap::new();

/// Outcome -> packets, for each processor. Written by the kernel.
#[btf_map]
pub(crate) static OUTCOMES: PerCpuArray<u64, { Outcome::COUNT as usize }> = PerCpuArray::new();

/// The table of a pool.
#[inline(always)]
pub(crate) fn table(pool: u32) -> Option<&'static Table> {
    let words: &TableWords = POOL_TABLES.get_value(pool, &0)?;
    // SAFETY: the same size and alignment, and the process writes nothing but tables there.
    Some(unsafe { &*core::ptr::from_ref(words).cast() })
}

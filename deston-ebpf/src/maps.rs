//! Every map: key, value, who writes and who reads. Maps in pairs are for IPv4 and IPv6; `family`
//! gives the pipeline the one it needs.

use aya_ebpf::btf_maps::{Array, ArrayOfMaps, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf};
use aya_ebpf::macros::btf_map;
use deston_common::address::AddressEntry;
use deston_common::event::TraceFilter;
use deston_common::flow::{FlowEntry, FlowKey, ReplyEntry};
use deston_common::fragment::{FragmentEntry, FragmentKey};
use deston_common::globals::Globals;
use deston_common::guard::{Bucket, BucketKey, Flood, SourceKey};
use deston_common::limits::{
    DEFAULT_FLOWS, DEFAULT_HALF_OPEN, EVENTS_BYTES, MAX_ADDRESSES, MAX_BUCKETS, MAX_FRAGMENTS,
    MAX_INTERFACES, MAX_LISTENERS, MAX_POOLS, MAX_SERVERS, MAX_SOURCES, MAX_STATIC_REPLIES,
    MAX_STICKY, TRACES_BYTES,
};
use deston_common::listener::{ListenerEntry, ListenerKey, SnatAddresses, StaticReply};
use deston_common::net::{Ipv4Be, Ipv6Be};
use deston_common::outcome::Outcome;
use deston_common::server::{Load, ServerEntry};
use deston_common::sticky::{StickyEntry, StickyKey};
use deston_common::table::{Table, TableWords};

pub(crate) const BPF_F_NO_PREALLOC: usize = 1;

pub(crate) type Addresses<A> = HashMap<A, AddressEntry, { MAX_ADDRESSES as usize }>;
pub(crate) type Listeners<A> =
    HashMap<ListenerKey<A>, ListenerEntry, { MAX_LISTENERS as usize }, BPF_F_NO_PREALLOC>;
pub(crate) type Flows<A> = HashMap<FlowKey<A>, FlowEntry<A>, { DEFAULT_FLOWS as usize }>;
pub(crate) type Replies<A> = HashMap<FlowKey<A>, ReplyEntry<A>, { DEFAULT_FLOWS as usize }>;
pub(crate) type HalfFlows<A> = LruHashMap<FlowKey<A>, FlowEntry<A>, { DEFAULT_HALF_OPEN as usize }>;
pub(crate) type HalfReplies<A> =
    LruHashMap<FlowKey<A>, ReplyEntry<A>, { DEFAULT_HALF_OPEN as usize }>;
pub(crate) type StaticReplies<A> =
    HashMap<ListenerKey<A>, StaticReply<A>, { MAX_STATIC_REPLIES as usize }, BPF_F_NO_PREALLOC>;
pub(crate) type Sources<A> =
    LpmTrie<SourceKey<A>, u32, { MAX_SOURCES as usize }, BPF_F_NO_PREALLOC>;
pub(crate) type Buckets<A> = LruHashMap<BucketKey<A>, Bucket, { MAX_BUCKETS as usize }>;
pub(crate) type Stickies<A> = LruHashMap<StickyKey<A>, StickyEntry, { MAX_STICKY as usize }>;
pub(crate) type Fragments<A> =
    LruHashMap<FragmentKey<A>, FragmentEntry, { MAX_FRAGMENTS as usize }>;

/// Address -> what it means to us. Written by the process.
#[btf_map]
pub(crate) static ADDRESSES4: Addresses<Ipv4Be> = Addresses::new();
#[btf_map]
pub(crate) static ADDRESSES6: Addresses<Ipv6Be> = Addresses::new();

/// Listener's address, port and protocol -> what to do. Written by the process.
#[btf_map]
pub(crate) static LISTENERS4: Listeners<Ipv4Be> = Listeners::new();
#[btf_map]
pub(crate) static LISTENERS6: Listeners<Ipv6Be> = Listeners::new();

/// Listener's number -> its SNAT addresses. Written by the process.
#[btf_map]
pub(crate) static SNAT_ADDRESSES: Array<SnatAddresses, { MAX_LISTENERS as usize + 1 }> =
    Array::new();

/// Pool -> its table. The process swaps whole inner maps, so a packet sees one table or the other.
#[btf_map]
static POOL_TABLES: ArrayOfMaps<Array<TableWords, 1>, { MAX_POOLS as usize }> = ArrayOfMaps::new();

/// Pool -> cursor, advanced once for each new flow. Written by the kernel.
#[btf_map]
pub(crate) static CURSORS: Array<u64, { MAX_POOLS as usize }> = Array::new();

/// Server -> how packets reach it. Written by the process.
#[btf_map]
pub(crate) static SERVERS: Array<ServerEntry, { MAX_SERVERS as usize }> = Array::new();

/// Server -> what is counted of it. Written by the kernel.
#[btf_map]
pub(crate) static LOADS: Array<Load, { MAX_SERVERS as usize }> = Array::new();

/// Client's tuple -> promoted flow. Written by the kernel; the process reads it to find idle flows.
#[btf_map]
pub(crate) static FLOWS4: Flows<Ipv4Be> = Flows::new();
#[btf_map]
pub(crate) static FLOWS6: Flows<Ipv6Be> = Flows::new();

/// Server's tuple -> promoted flow. An entry is the claim on its SNAT port. Written by the kernel.
#[btf_map]
pub(crate) static REPLIES4: Replies<Ipv4Be> = Replies::new();
#[btf_map]
pub(crate) static REPLIES6: Replies<Ipv6Be> = Replies::new();

/// Client's tuple -> flow that neither side has proved yet. Written by the kernel.
#[btf_map]
pub(crate) static HALF_FLOWS4: HalfFlows<Ipv4Be> = HalfFlows::new();
#[btf_map]
pub(crate) static HALF_FLOWS6: HalfFlows<Ipv6Be> = HalfFlows::new();

/// Server's tuple -> flow that neither side has proved yet. Written by the kernel.
#[btf_map]
pub(crate) static HALF_REPLIES4: HalfReplies<Ipv4Be> = HalfReplies::new();
#[btf_map]
pub(crate) static HALF_REPLIES6: HalfReplies<Ipv6Be> = HalfReplies::new();

/// Server's address, port and protocol -> its only listener with `dnat`. Written by the process.
#[btf_map]
pub(crate) static STATIC_REPLIES4: StaticReplies<Ipv4Be> = StaticReplies::new();
#[btf_map]
pub(crate) static STATIC_REPLIES6: StaticReplies<Ipv6Be> = StaticReplies::new();

/// Listener and prefix -> a `guard::verdict`. Written by the process.
#[btf_map]
pub(crate) static SOURCES4: Sources<Ipv4Be> = Sources::new();
#[btf_map]
pub(crate) static SOURCES6: Sources<Ipv6Be> = Sources::new();

/// Listener and client -> when its next new flow is due. Written by the kernel.
#[btf_map]
pub(crate) static BUCKETS4: Buckets<Ipv4Be> = Buckets::new();
#[btf_map]
pub(crate) static BUCKETS6: Buckets<Ipv6Be> = Buckets::new();

/// Pool and client -> its server. Written by the kernel.
#[btf_map]
pub(crate) static STICKY4: Stickies<Ipv4Be> = Stickies::new();
#[btf_map]
pub(crate) static STICKY6: Stickies<Ipv6Be> = Stickies::new();

/// Fragmented datagram -> its ports. Written by the kernel.
#[btf_map]
pub(crate) static FRAGMENTS4: Fragments<Ipv4Be> = Fragments::new();
#[btf_map]
pub(crate) static FRAGMENTS6: Fragments<Ipv6Be> = Fragments::new();

/// Interface -> largest IP packet that it sends. Written by the process.
#[btf_map]
pub(crate) static MTUS: HashMap<u32, u32, { MAX_INTERFACES as usize }> = HashMap::new();

/// New flows of this second, for each processor. Written by the kernel.
#[btf_map]
pub(crate) static FLOOD: PerCpuArray<Flood, 1> = PerCpuArray::new();

/// Outcome -> packets, for each processor. Written by the kernel.
#[btf_map]
pub(crate) static OUTCOMES: PerCpuArray<u64, { Outcome::COUNT as usize }> = PerCpuArray::new();

/// Settings that all packets share. Written by the process.
#[btf_map]
pub(crate) static GLOBALS: Array<Globals, 1> = Array::new();

/// Which packets are told of. Written by `deston trace`; the kernel counts its budget down.
#[btf_map]
pub(crate) static TRACE: Array<TraceFilter, 1> = Array::new();

/// Ended flows, read by the process. A ring has one place up to which it is read, so it has one reader.
#[btf_map]
pub(crate) static EVENTS: RingBuf<u8, { EVENTS_BYTES as usize }> = RingBuf::new();

/// Traced packets, read by `deston trace`.
#[btf_map]
pub(crate) static TRACES: RingBuf<u8, { TRACES_BYTES as usize }> = RingBuf::new();

/// Events that found no room, for each processor: at 0 of EVENTS, at 1 of TRACES. Written by the
/// kernel.
#[btf_map]
pub(crate) static LOST: PerCpuArray<u64, 2> = PerCpuArray::new();

/// The table of a pool.
#[inline(always)]
pub(crate) fn table(pool: u32) -> Option<&'static Table> {
    let words: &TableWords = POOL_TABLES.get_value(pool, &0)?;
    // SAFETY: the same size and alignment, and the process writes nothing but tables there.
    Some(unsafe { &*core::ptr::from_ref(words).cast() })
}

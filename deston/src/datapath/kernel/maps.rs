//! Typed handles to the maps that the process reads or writes, as `deston-ebpf/src/maps.rs` has them.

use aya::Ebpf;
use aya::maps::{Array, ArrayOfMaps, HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray};
use deston_common::address::AddressEntry;
use deston_common::event::TraceFilter;
use deston_common::flow::{FlowEntry, FlowKey, ReplyEntry};
#[cfg(feature = "testing")]
use deston_common::fragment::{FragmentEntry, FragmentKey};
use deston_common::globals::Globals;
use deston_common::guard::SourceKey;
#[cfg(feature = "testing")]
use deston_common::guard::{Bucket, BucketKey, Flood};
use deston_common::listener::{ListenerEntry, ListenerKey, SnatAddresses, StaticReply};
use deston_common::net::{Ipv4Be, Ipv6Be};
use deston_common::server::{Load, ServerEntry};
#[cfg(feature = "testing")]
use deston_common::sticky::{StickyEntry, StickyKey};
use deston_common::table::Table;

use super::error::{self, KernelError};
use super::family::Wire;
use super::flow_map::FlowMap;

/// Defines the maps that stand in pairs, and takes either of each pair out of the object.
macro_rules! pairs {
    ($($(#[$meta:meta])* $field:ident: $type:ty = $name:literal,)+) => {
        /// The maps of one address family.
        pub(super) struct Pairs<A: Wire> {
            $($(#[$meta])* pub(super) $field: $type,)+
        }

        impl Pairs<Ipv4Be> {
            pub(super) fn take_v4(ebpf: &mut Ebpf) -> Result<Self, KernelError> {
                Ok(Self { $($(#[$meta])* $field: take(ebpf, concat!($name, "4"))?,)+ })
            }
        }

        impl Pairs<Ipv6Be> {
            pub(super) fn take_v6(ebpf: &mut Ebpf) -> Result<Self, KernelError> {
                Ok(Self { $($(#[$meta])* $field: take(ebpf, concat!($name, "6"))?,)+ })
            }
        }
    };
}

pairs! {
    addresses: HashMap<MapData, A::Octets, AddressEntry> = "ADDRESSES",
    listeners: HashMap<MapData, ListenerKey<A>, ListenerEntry> = "LISTENERS",
    flows: FlowMap<FlowKey<A>, FlowEntry<A>> = "FLOWS",
    replies: FlowMap<FlowKey<A>, ReplyEntry<A>> = "REPLIES",
    half_flows: FlowMap<FlowKey<A>, FlowEntry<A>> = "HALF_FLOWS",
    half_replies: FlowMap<FlowKey<A>, ReplyEntry<A>> = "HALF_REPLIES",
    static_replies: HashMap<MapData, ListenerKey<A>, StaticReply<A>> = "STATIC_REPLIES",
    sources: LpmTrie<MapData, SourceKey<A>, u32> = "SOURCES",
    #[cfg(feature = "testing")]
    buckets: HashMap<MapData, BucketKey<A>, Bucket> = "BUCKETS",
    #[cfg(feature = "testing")]
    stickies: HashMap<MapData, StickyKey<A>, StickyEntry> = "STICKY",
    #[cfg(feature = "testing")]
    fragments: HashMap<MapData, FragmentKey<A>, FragmentEntry> = "FRAGMENTS",
}

/// The maps that both families share.
pub(super) struct Shared {
    pub(super) snat_addresses: Array<MapData, SnatAddresses>,
    pub(super) tables: ArrayOfMaps<MapData, Array<MapData, Table>>,
    pub(super) servers: Array<MapData, ServerEntry>,
    pub(super) loads: Array<MapData, Load>,
    pub(super) mtus: HashMap<MapData, u32, u32>,
    pub(super) outcomes: PerCpuArray<MapData, u64>,
    pub(super) globals: Array<MapData, Globals>,
    pub(super) trace: Array<MapData, TraceFilter>,
    #[cfg(feature = "testing")]
    pub(super) cursors: Array<MapData, u64>,
    #[cfg(feature = "testing")]
    pub(super) flood: PerCpuArray<MapData, Flood>,
}

impl Shared {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, KernelError> {
        Ok(Self {
            snat_addresses: take(ebpf, "SNAT_ADDRESSES")?,
            tables: take(ebpf, "POOL_TABLES")?,
            servers: take(ebpf, "SERVERS")?,
            loads: take(ebpf, "LOADS")?,
            mtus: take(ebpf, "MTUS")?,
            outcomes: take(ebpf, "OUTCOMES")?,
            globals: take(ebpf, "GLOBALS")?,
            trace: take(ebpf, "TRACE")?,
            #[cfg(feature = "testing")]
            cursors: take(ebpf, "CURSORS")?,
            #[cfg(feature = "testing")]
            flood: take(ebpf, "FLOOD")?,
        })
    }
}

/// Takes one map out of the object.
pub(super) fn take<T: TryFrom<Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<T, KernelError> {
    let taken = ebpf.take_map(name).ok_or(KernelError::Missing(name))?;
    T::try_from(taken).map_err(error::map(name))
}

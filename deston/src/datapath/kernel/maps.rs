//! Typed handles to the maps that the process reads or writes, as `deston-ebpf/src/maps.rs` has them.

use std::path::Path;

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

/// Where maps come from.
pub(super) trait Source {
    /// The map of a name.
    fn map(&mut self, name: &'static str) -> Result<Map, KernelError>;
}

impl Source for Ebpf {
    fn map(&mut self, name: &'static str) -> Result<Map, KernelError> {
        self.take_map(name).ok_or(KernelError::Missing(name))
    }
}

/// A directory in which maps are pinned.
pub(super) struct Pins<'a>(pub(super) &'a Path);

impl Source for Pins<'_> {
    fn map(&mut self, name: &'static str) -> Result<Map, KernelError> {
        MapData::from_pin(self.0.join(name)).and_then(Map::from_map_data).map_err(error::map(name))
    }
}

/// Defines the maps that stand in pairs, and takes either of each pair from their source.
macro_rules! pairs {
    ($($(#[$meta:meta])* $field:ident: $type:ty = $name:literal,)+) => {
        /// The maps of one address family.
        pub(super) struct Pairs<A: Wire> {
            $($(#[$meta])* pub(super) $field: $type,)+
        }

        impl Pairs<Ipv4Be> {
            pub(super) fn take_v4(source: &mut impl Source) -> Result<Self, KernelError> {
                Ok(Self { $($(#[$meta])* $field: take(source, concat!($name, "4"))?,)+ })
            }
        }

        impl Pairs<Ipv6Be> {
            pub(super) fn take_v6(source: &mut impl Source) -> Result<Self, KernelError> {
                Ok(Self { $($(#[$meta])* $field: take(source, concat!($name, "6"))?,)+ })
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
    pub(super) lost: PerCpuArray<MapData, u64>,
    #[cfg(feature = "testing")]
    pub(super) cursors: Array<MapData, u64>,
    #[cfg(feature = "testing")]
    pub(super) flood: PerCpuArray<MapData, Flood>,
}

impl Shared {
    fn take(source: &mut impl Source) -> Result<Self, KernelError> {
        Ok(Self {
            snat_addresses: take(source, "SNAT_ADDRESSES")?,
            tables: take(source, "POOL_TABLES")?,
            servers: take(source, "SERVERS")?,
            loads: take(source, "LOADS")?,
            mtus: take(source, "MTUS")?,
            outcomes: take(source, "OUTCOMES")?,
            globals: take(source, "GLOBALS")?,
            trace: take(source, "TRACE")?,
            lost: take(source, "LOST")?,
            #[cfg(feature = "testing")]
            cursors: take(source, "CURSORS")?,
            #[cfg(feature = "testing")]
            flood: take(source, "FLOOD")?,
        })
    }
}

/// All maps that are read or written: of this process's programs, or of those that an instance has
/// pinned, whoever runs it.
pub struct Maps {
    pub(super) v4: Pairs<Ipv4Be>,
    pub(super) v6: Pairs<Ipv6Be>,
    pub(super) shared: Shared,
}

impl Maps {
    pub(super) fn take(source: &mut impl Source) -> Result<Self, KernelError> {
        Ok(Self {
            v4: Pairs::take_v4(source)?,
            v6: Pairs::take_v6(source)?,
            shared: Shared::take(source)?,
        })
    }
}

/// Takes one map from its source.
pub(super) fn take<T: TryFrom<Map, Error = MapError>>(
    source: &mut impl Source,
    name: &'static str,
) -> Result<T, KernelError> {
    T::try_from(source.map(name)?).map_err(error::map(name))
}

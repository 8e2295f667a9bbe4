//! Every map of the kernel's, to write and to read back, keys and entries widened.

use std::net::IpAddr;

use aya::maps::{MapError, PerCpuValues};
use deston_common::flow::{FlowEntry, FlowKey, ReplyEntry};
use deston_common::fragment::{FragmentEntry, FragmentKey};
use deston_common::guard::{Bucket, BucketKey, Flood};
use deston_common::net::{Address, Ipv6Be};
use deston_common::server::{Load, ServerId};
use deston_common::sticky::{StickyEntry, StickyKey};

use crate::datapath::kernel::error::map;
use crate::datapath::kernel::family::{
    in_family, narrow_flow, narrow_key, narrow_reply, widen_reply,
};
use crate::datapath::kernel::{Kernel, KernelError};

/// Writes and removes entries of flows under their own key.
macro_rules! entries {
    ($($(#[$doc:meta])* $put:ident, $remove:ident: $maps:ident, $entry:ident, $narrow:ident, $name:literal;)+) => {
        impl Kernel {
            $(
                $(#[$doc])*
                pub fn $put(&mut self, entry: &$entry<Ipv6Be>) -> Result<(), KernelError> {
                    in_family!(&mut, self, &entry.key, |maps, _source| {
                        maps.$maps.map.insert(narrow_key(&entry.key), $narrow(entry), 0)
                    })
                    .map_err(map($name))
                }

                /// Removes one.
                pub fn $remove(&mut self, key: &FlowKey<Ipv6Be>) -> Result<(), KernelError> {
                    in_family!(&mut, self, key, |maps, _source| {
                        maps.$maps.map.remove(&narrow_key(key))
                    })
                    .map_err(map($name))
                }
            )+
        }
    };
}

entries! {
    /// Writes a promoted flow.
    put_flow, remove_flow: flows, FlowEntry, narrow_flow, "FLOWS";
    /// Writes the reply entry of a promoted flow.
    put_reply, remove_reply: replies, ReplyEntry, narrow_reply, "REPLIES";
    /// Writes a half-open flow.
    put_half_flow, remove_half_flow: half_flows, FlowEntry, narrow_flow, "HALF_FLOWS";
    /// Writes the reply entry of a half-open flow.
    put_half_reply, remove_half_reply: half_replies, ReplyEntry, narrow_reply, "HALF_REPLIES";
}

/// Everything in a map of each family, with the keys widened.
macro_rules! all {
    ($kernel:ident.$maps:ident, $widen:expr, $name:literal) => {{
        let v4 =
            $kernel.v4.$maps.iter().map(|entry| entry.map(|(key, value)| ($widen(key), value)));
        let v6 =
            $kernel.v6.$maps.iter().map(|entry| entry.map(|(key, value)| ($widen(key), value)));
        v4.chain(v6).collect::<Result<_, MapError>>().map_err(map($name))
    }};
}

impl Kernel {
    /// The reply entries of promoted flows.
    pub fn replies(&self) -> Result<Vec<ReplyEntry<Ipv6Be>>, KernelError> {
        let v4 = self.v4.replies.entries().map(|entry| entry.map(widen_reply));
        let v6 = self.v6.replies.entries().map(|entry| entry.map(widen_reply));
        v4.chain(v6).collect::<Result<_, _>>().map_err(map("REPLIES"))
    }

    /// The reply entries of half-open flows.
    pub fn half_replies(&self) -> Result<Vec<ReplyEntry<Ipv6Be>>, KernelError> {
        let v4 = self.v4.half_replies.entries().map(|entry| entry.map(widen_reply));
        let v6 = self.v6.half_replies.entries().map(|entry| entry.map(widen_reply));
        v4.chain(v6).collect::<Result<_, _>>().map_err(map("HALF_REPLIES"))
    }

    /// Remembers the ports of a fragmented datagram.
    pub fn put_fragment(
        &mut self,
        key: &FragmentKey<Ipv6Be>,
        entry: &FragmentEntry,
    ) -> Result<(), KernelError> {
        in_family!(&mut, self, key.source, |maps, _source| {
            maps.fragments.insert(fragment_key(*key), entry, 0)
        })
        .map_err(map("FRAGMENTS"))
    }

    /// The fragmented datagrams whose ports are remembered.
    pub fn fragments(&self) -> Result<Vec<(FragmentKey<Ipv6Be>, FragmentEntry)>, KernelError> {
        all!(self.fragments, fragment_key, "FRAGMENTS")
    }

    /// Writes when the next new flow of a source is due.
    pub fn put_bucket(
        &mut self,
        client: IpAddr,
        listener: u32,
        bucket: &Bucket,
    ) -> Result<(), KernelError> {
        in_family!(&mut, self, client, |maps, client| {
            maps.buckets.insert(BucketKey { client, listener }, bucket, 0)
        })
        .map_err(map("BUCKETS"))
    }

    /// The sources whose rate is remembered.
    pub fn buckets(&self) -> Result<Vec<(BucketKey<Ipv6Be>, Bucket)>, KernelError> {
        all!(self.buckets, widen_bucket, "BUCKETS")
    }

    /// Binds a client to a server.
    pub fn put_sticky(
        &mut self,
        client: IpAddr,
        pool: u32,
        entry: &StickyEntry,
    ) -> Result<(), KernelError> {
        in_family!(&mut, self, client, |maps, client| {
            maps.stickies.insert(StickyKey { client, pool }, entry, 0)
        })
        .map_err(map("STICKY"))
    }

    /// The clients that are bound to a server.
    pub fn stickies(&self) -> Result<Vec<(StickyKey<Ipv6Be>, StickyEntry)>, KernelError> {
        all!(self.stickies, widen_sticky, "STICKY")
    }

    /// A pool's cursor: how many flows have entered its table.
    pub fn cursor(&self, pool: u32) -> Result<u64, KernelError> {
        self.shared.cursors.get(&pool, 0).map_err(map("CURSORS"))
    }

    /// Sets a pool's cursor.
    pub fn put_cursor(&mut self, pool: u32, cursor: u64) -> Result<(), KernelError> {
        self.shared.cursors.set(pool, cursor, 0).map_err(map("CURSORS"))
    }

    /// Sets a server's counts of flows.
    pub fn put_load(&mut self, id: ServerId, load: &Load) -> Result<(), KernelError> {
        self.shared.loads.set(u32::from(id.0), load, 0).map_err(map("LOADS"))
    }

    /// New flows of the present second, for each processor.
    pub fn flood(&self) -> Result<Vec<Flood>, KernelError> {
        let counts = self.shared.flood.get(&0, 0).map_err(map("FLOOD"))?;
        Ok(counts.to_vec())
    }

    /// Sets the new flows of the present second, the same on every processor.
    pub fn put_flood(&mut self, flood: Flood) -> Result<(), KernelError> {
        let processors = self.flood()?.len();
        let counts = PerCpuValues::try_from(vec![flood; processors])
            .map_err(|error| map("FLOOD")(error.into()))?;
        self.shared.flood.set(0, counts, 0).map_err(map("FLOOD"))
    }
}

fn fragment_key<A: Address, B: Address>(key: FragmentKey<A>) -> FragmentKey<B> {
    FragmentKey {
        source: B::narrowed(key.source.widened()),
        destination: B::narrowed(key.destination.widened()),
        id: key.id,
        protocol: key.protocol,
        pad: key.pad,
        pad2: key.pad2,
    }
}

fn widen_bucket<A: Address>(key: BucketKey<A>) -> BucketKey<Ipv6Be> {
    BucketKey { client: key.client.widened(), listener: key.listener }
}

fn widen_sticky<A: Address>(key: StickyKey<A>) -> StickyKey<Ipv6Be> {
    StickyKey { client: key.client.widened(), pool: key.pool }
}

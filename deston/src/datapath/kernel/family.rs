//! The two address families: callers speak of `IpAddr` and of widened entries, maps hold either.

use std::net::IpAddr;

use deston_common::flow::{FlowEntry, FlowKey, ReplyEntry};
use deston_common::net::{Address, Ipv4Be, Ipv6Be};

/// An address of either family as a map's key.
pub(super) trait Wire: Address {
    /// Its bytes, in the order they are written.
    type Octets: aya::Pod + AsRef<[u8]>;

    /// The bytes.
    fn bytes(self) -> Self::Octets;
}

impl Wire for Ipv4Be {
    type Octets = [u8; 4];

    fn bytes(self) -> [u8; 4] {
        self.octets()
    }
}

impl Wire for Ipv6Be {
    type Octets = [u8; 16];

    fn bytes(self) -> [u8; 16] {
        self.octets()
    }
}

/// An address as its family's maps have it. A mapped IPv4 address is an IPv4 address.
pub(super) enum Narrow {
    V4(Ipv4Be),
    V6(Ipv6Be),
}

impl From<IpAddr> for Narrow {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4.into()),
            IpAddr::V6(v6) => Self::V6(v6.into()),
        }
    }
}

impl From<&FlowKey<Ipv6Be>> for Narrow {
    /// The source, in the family of the tuple.
    fn from(key: &FlowKey<Ipv6Be>) -> Self {
        if is_v4(key) { Self::V4(Ipv4Be::narrowed(key.source)) } else { Self::V6(key.source) }
    }
}

impl From<Ipv6Be> for Narrow {
    fn from(wide: Ipv6Be) -> Self {
        IpAddr::from(wide).into()
    }
}

/// Whether a widened tuple is of IPv4. Both ends tell: an IPv6 client may claim any source, a mapped
/// address too.
pub(super) fn is_v4(key: &FlowKey<Ipv6Be>) -> bool {
    let is_v4 = |address| matches!(Narrow::from(address), Narrow::V4(_));
    is_v4(key.source) && is_v4(key.destination)
}

/// A widened tuple as its family's maps have it.
pub(super) fn narrow_key<A: Address>(key: &FlowKey<Ipv6Be>) -> FlowKey<A> {
    FlowKey::new(
        (A::narrowed(key.source), key.source_port),
        (A::narrowed(key.destination), key.destination_port),
        key.protocol,
    )
}

/// A flow entry with its addresses widened.
pub(super) fn widen_flow<A: Address>(entry: FlowEntry<A>) -> FlowEntry<Ipv6Be> {
    with_keys(&entry, entry.key.widened(), entry.reply.widened())
}

/// A reply entry with its addresses widened.
pub(super) fn widen_reply<A: Address>(entry: ReplyEntry<A>) -> ReplyEntry<Ipv6Be> {
    reply_with_keys(&entry, entry.key.widened(), entry.flow.widened())
}

/// A widened flow entry as its family's maps have it.
#[cfg(feature = "testing")]
pub(super) fn narrow_flow<A: Address>(entry: &FlowEntry<Ipv6Be>) -> FlowEntry<A> {
    with_keys(entry, narrow_key(&entry.key), narrow_key(&entry.reply))
}

/// A widened reply entry as its family's maps have it.
#[cfg(feature = "testing")]
pub(super) fn narrow_reply<A: Address>(entry: &ReplyEntry<Ipv6Be>) -> ReplyEntry<A> {
    reply_with_keys(entry, narrow_key(&entry.key), narrow_key(&entry.flow))
}

fn with_keys<A, B>(entry: &FlowEntry<A>, key: FlowKey<B>, reply: FlowKey<B>) -> FlowEntry<B> {
    FlowEntry {
        key,
        reply,
        state: entry.state,
        last_seen_ns: entry.last_seen_ns,
        idle_limit_ns: entry.idle_limit_ns,
        bytes: entry.bytes,
        listener: entry.listener,
        server: entry.server,
        flags: entry.flags,
        opened_ns: entry.opened_ns,
        next_seq: entry.next_seq,
        pad: entry.pad,
    }
}

fn reply_with_keys<A, B>(
    entry: &ReplyEntry<A>,
    key: FlowKey<B>,
    flow: FlowKey<B>,
) -> ReplyEntry<B> {
    ReplyEntry {
        key,
        flow,
        last_seen_ns: entry.last_seen_ns,
        opened_ns: entry.opened_ns,
        bytes: entry.bytes,
        hop: entry.hop,
        listener: entry.listener,
        server: entry.server,
        flags: entry.flags,
        last_ack: entry.last_ack,
        first_seq: entry.first_seq,
        next_seq: entry.next_seq,
    }
}

/// Does something with the maps of an address's family: `in_family!(&mut self, address, |maps,
/// narrow| ..)`. A macro, because the maps of the two families are of different types.
macro_rules! in_family {
    (& $($mutable:ident)?, $kernel:expr, $address:expr, |$maps:ident, $narrow:ident| $body:expr) => {
        match $crate::datapath::kernel::family::Narrow::from($address) {
            $crate::datapath::kernel::family::Narrow::V4($narrow) => {
                let $maps = & $($mutable)? $kernel.v4;
                $body
            }
            $crate::datapath::kernel::family::Narrow::V6($narrow) => {
                let $maps = & $($mutable)? $kernel.v6;
                $body
            }
        }
    };
}
pub(super) use in_family;

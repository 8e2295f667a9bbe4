//! What differs between IPv4 and IPv6: the maps, and the network header.

use deston_common::checksum::Change;
use deston_common::net::{Address, ICMP, ICMPV6, Ipv4Be, Ipv6Be};

use crate::context::{self, Context};
use crate::header::{Ipv4, Ipv6};
use crate::maps;
use crate::packet::Packet;

/// A family of addresses.
pub(crate) trait Family: 'static {
    /// Its addresses.
    type Address: Address;
    /// Whether it is IPv6.
    const V6: bool;
    /// Its control message protocol.
    const ICMP: u8;
    /// Bytes of its header without options.
    const HEADER: usize;

    fn context() -> Option<*mut Context<Self::Address>>;
    fn addresses() -> &'static maps::Addresses<Self::Address>;
    fn listeners() -> &'static maps::Listeners<Self::Address>;
    fn flows() -> &'static maps::Flows<Self::Address>;
    fn replies() -> &'static maps::Replies<Self::Address>;
    fn half_flows() -> &'static maps::HalfFlows<Self::Address>;
    fn half_replies() -> &'static maps::HalfReplies<Self::Address>;
    fn static_replies() -> &'static maps::StaticReplies<Self::Address>;
    fn sources() -> &'static maps::Sources<Self::Address>;
    fn buckets() -> &'static maps::Buckets<Self::Address>;
    fn stickies() -> &'static maps::Stickies<Self::Address>;
    fn fragments() -> &'static maps::Fragments<Self::Address>;

    /// Writes the tuple's addresses and the time to live into the network header.
    fn readdress<P: Packet>(packet: P, cx: &Context<Self::Address>, ttl: u8) -> Option<()>;
}

/// IPv4.
pub(crate) struct V4;
/// IPv6.
pub(crate) struct V6;

macro_rules! maps_of {
    ($($name:ident -> $kind:ident = $map:ident;)+) => {
        $(#[inline(always)]
        fn $name() -> &'static maps::$kind<Self::Address> {
            &maps::$map
        })+
    };
}

impl Family for V4 {
    type Address = Ipv4Be;
    const V6: bool = false;
    const ICMP: u8 = ICMP;
    const HEADER: usize = 20;

    #[inline(always)]
    fn context() -> Option<*mut Context<Ipv4Be>> {
        context::CONTEXT4.get_ptr_mut(0)
    }

    maps_of! {
        addresses -> Addresses = ADDRESSES4;
        listeners -> Listeners = LISTENERS4;
        flows -> Flows = FLOWS4;
        replies -> Replies = REPLIES4;
        half_flows -> HalfFlows = HALF_FLOWS4;
        half_replies -> HalfReplies = HALF_REPLIES4;
        static_replies -> StaticReplies = STATIC_REPLIES4;
        sources -> Sources = SOURCES4;
        buckets -> Buckets = BUCKETS4;
        stickies -> Stickies = STICKY4;
        fragments -> Fragments = FRAGMENTS4;
    }

    #[inline(always)]
    fn readdress<P: Packet>(packet: P, cx: &Context<Ipv4Be>, ttl: u8) -> Option<()> {
        let ip = packet.at::<Ipv4>(cx.l3 as usize)?;
        let change = cx
            .key
            .source
            .change(cx.to.source, Change::none())
            .and(cx.key.destination.change(cx.to.destination, Change::none()));
        // SAFETY: `at` checked the bounds; the same holds for every dereference below.
        unsafe {
            let aged = u16::from_ne_bytes([(*ip).ttl, (*ip).protocol]);
            let younger = u16::from_ne_bytes([ttl, (*ip).protocol]);
            (*ip).checksum = change.word16(aged, younger).apply((*ip).checksum);
            (*ip).ttl = ttl;
            (*ip).source = cx.to.source.word();
            (*ip).destination = cx.to.destination.word();
        }
        Some(())
    }
}

impl Family for V6 {
    type Address = Ipv6Be;
    const V6: bool = true;
    const ICMP: u8 = ICMPV6;
    const HEADER: usize = 40;

    #[inline(always)]
    fn context() -> Option<*mut Context<Ipv6Be>> {
        context::CONTEXT6.get_ptr_mut(0)
    }

    maps_of! {
        addresses -> Addresses = ADDRESSES6;
        listeners -> Listeners = LISTENERS6;
        flows -> Flows = FLOWS6;
        replies -> Replies = REPLIES6;
        half_flows -> HalfFlows = HALF_FLOWS6;
        half_replies -> HalfReplies = HALF_REPLIES6;
        static_replies -> StaticReplies = STATIC_REPLIES6;
        sources -> Sources = SOURCES6;
        buckets -> Buckets = BUCKETS6;
        stickies -> Stickies = STICKY6;
        fragments -> Fragments = FRAGMENTS6;
    }

    #[inline(always)]
    fn readdress<P: Packet>(packet: P, cx: &Context<Ipv6Be>, ttl: u8) -> Option<()> {
        let ip = packet.at::<Ipv6>(cx.l3 as usize)?;
        // SAFETY: `at` checked the bounds.
        unsafe {
            (*ip).ttl = ttl;
            (*ip).source = cx.to.source;
            (*ip).destination = cx.to.destination;
        }
        Some(())
    }
}

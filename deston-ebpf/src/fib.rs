//! Asking the kernel's routes for a way, where none is remembered.

use core::mem::size_of;

use deston_common::hop::Hop;
use deston_common::net::{Address, Mac};

use crate::context::Context;
use crate::family::Family;
use crate::packet::Packet;

/// What `bpf_fib_lookup` is asked and answers (`struct bpf_fib_lookup` of linux/bpf.h).
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Lookup {
    family: u8,
    protocol: u8,
    source_port: u16,
    destination_port: u16,
    /// Asked: 0, the length is not checked. Answered: the MTU of the route.
    total_len: u16,
    ifindex: u32,
    class: u32,
    source: [u32; 4],
    destination: [u32; 4],
    vlan: [u16; 2],
    source_mac: Mac,
    next_hop_mac: Mac,
}
const _: () = assert!(size_of::<Lookup>() == 64);

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// The next hop of `cx.to`, if the host forwards and knows its neighbour.
#[inline(always)]
pub(crate) fn next_hop<F: Family, P: Packet>(packet: P, cx: &Context<F::Address>) -> Option<Hop> {
    let words = |address: F::Address| {
        let wide = address.widened().words();
        if F::V6 { wide } else { [wide[3], 0, 0, 0] }
    };
    let mut lookup = Lookup {
        family: if F::V6 { AF_INET6 } else { AF_INET },
        protocol: cx.to.protocol,
        ifindex: packet.ifindex(),
        source: words(cx.to.source),
        destination: words(cx.to.destination),
        ..Lookup::default()
    };
    if !packet.fib(&mut lookup) {
        return None;
    }
    Some(Hop {
        ifindex: lookup.ifindex,
        source_mac: lookup.source_mac,
        next_hop_mac: lookup.next_hop_mac,
        ..Hop::default()
    })
}

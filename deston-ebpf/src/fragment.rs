//! Fragments: later ones borrow the ports of the first.

use aya_ebpf::bindings::BPF_ANY;
use deston_common::address;
use deston_common::fragment::{FragmentEntry, FragmentKey, LIFETIME_NS};
use deston_common::net::Address;
use deston_common::outcome::Outcome;

use crate::context::Context;
use crate::family::Family;
use crate::verdict::Verdict;

#[inline(always)]
fn key<A: Address>(cx: &Context<A>) -> FragmentKey<A> {
    FragmentKey {
        source: cx.key.source,
        destination: cx.key.destination,
        id: cx.fragment_id,
        protocol: cx.key.protocol,
        pad: 0,
        pad2: 0,
    }
}

/// Gives a later fragment the ports of its datagram; `false` if they are not known.
#[inline(never)]
pub(crate) fn borrow_ports<F: Family>(cx: &mut Context<F::Address>) -> bool {
    let key = key(cx);
    // SAFETY: copied at once.
    let Some(entry) = (unsafe { F::fragments().get(&key).copied() }) else { return false };
    if cx.now.saturating_sub(entry.seen_ns) > LIFETIME_NS {
        return false;
    }
    cx.key.source_port = entry.source_port;
    cx.key.destination_port = entry.destination_port;
    true
}

/// Remembers the ports of a datagram whose first fragment is carried.
#[inline(never)]
pub(crate) fn remember<F: Family>(cx: &Context<F::Address>) -> u32 {
    let key = key(cx);
    let entry = FragmentEntry {
        seen_ns: cx.now,
        source_port: cx.key.source_port,
        destination_port: cx.key.destination_port,
        pad: 0,
    };
    let _ = F::fragments().insert(&key, &entry, u64::from(BPF_ANY));
    0
}

/// A later fragment of nothing that is known. On an address of the host's own it may be of other
/// traffic.
#[inline(always)]
pub(crate) fn lost<A: Address>(cx: &Context<A>) -> Verdict {
    Verdict::of(if cx.role & address::flags::DEDICATED != 0 {
        Outcome::FragmentLost
    } else {
        Outcome::Fragment
    })
}

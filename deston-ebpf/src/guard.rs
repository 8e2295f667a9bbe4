//! Who may open a flow, and how fast: source lists and rates, where a flow begins.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::btf_maps::lpm_trie::Key;
use deston_common::guard::{BucketKey, LISTENER_BITS, SourceKey, verdict};
use deston_common::listener::{ListenerEntry, flags};
use deston_common::net::{Address, UDP};
use deston_common::outcome::Outcome;

use crate::context::Context;
use crate::family::Family;
use crate::{globals, maps};

/// Admits a packet that opens a flow of `listener`.
#[inline(always)]
pub(crate) fn admit<F: Family>(
    cx: &Context<F::Address>,
    listener: &ListenerEntry,
) -> Result<(), Outcome> {
    if listener.flags & (flags::LISTS | flags::DEFAULT_DENY) != 0 {
        lists::<F>(cx, listener)?;
    }
    // Which datagrams to a STACK listener begin a flow is known in userspace alone.
    let counts = listener.flags & flags::STACK == 0 || cx.key.protocol != UDP;
    if listener.rate_interval_ns != 0 && counts {
        rate::<F>(cx, listener)?;
    }
    Ok(())
}

#[inline(always)]
fn lists<F: Family>(cx: &Context<F::Address>, listener: &ListenerEntry) -> Result<(), Outcome> {
    let bits = LISTENER_BITS + size_of::<F::Address>() as u32 * 8;
    let data = SourceKey { listener: listener.number, address: cx.key.source };
    let denied = match F::sources().get(&Key::new(bits, data)) {
        Some(said) => *said == verdict::DENY,
        None => listener.flags & flags::DEFAULT_DENY != 0,
    };
    if denied { Err(Outcome::Denied) } else { Ok(()) }
}

/// Takes a token of the source. Two processors may take the same one: the error is bounded by their
/// number.
#[inline(always)]
fn rate<F: Family>(cx: &Context<F::Address>, listener: &ListenerEntry) -> Result<(), Outcome> {
    let key = BucketKey { client: cx.key.source.subscriber(), listener: listener.number };
    // SAFETY: one word, copied at once.
    let bucket = unsafe { F::buckets().get(&key).copied() }.unwrap_or_default();
    let now = globals::exactly_now();
    let taken = bucket.take(now, listener.rate_interval_ns, listener.rate_tolerance_ns);
    let Some(bucket) = taken else { return Err(Outcome::RateLimited) };
    let _ = F::buckets().insert(&key, &bucket, u64::from(BPF_ANY));
    Ok(())
}

/// Whether this processor may open one more flow in this second.
#[inline(always)]
pub(crate) fn flood_gate(now: u64) -> bool {
    let limit = globals::flood_gate();
    match maps::FLOOD.get_ptr_mut(0) {
        // SAFETY: this processor's map value; programs do not nest on one.
        Some(flood) => unsafe { (*flood).admit(now, limit) },
        None => true,
    }
}

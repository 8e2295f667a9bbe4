//! Settings of the process, the clock, and chance: what specs can hold still.

use aya_ebpf::helpers::{bpf_get_prandom_u32, bpf_ktime_get_coarse_ns, bpf_ktime_get_ns};
use deston_common::flow::FlowKey;
use deston_common::globals::Globals;
use deston_common::hash::{self, Seed};
use deston_common::net::Address;

use crate::maps;

/// The settings; the map has one value, so there always are some.
#[inline(always)]
fn get() -> Option<&'static Globals> {
    maps::GLOBALS.get(0)
}

/// Whether a flag of `globals::flags` is set.
#[inline(always)]
pub(crate) fn has(flag: u32) -> bool {
    get().is_some_and(|globals| globals.flags & flag != 0)
}

/// New flows a second and processor beyond which more are shed.
#[inline(always)]
pub(crate) fn flood_gate() -> u64 {
    get().map_or(0, |globals| globals.flood_gate.into())
}

/// Nanoseconds of CLOCK_MONOTONIC as of the kernel's last tick: it lags some milliseconds behind, and
/// costs a fifth of the time.
#[inline(always)]
pub(crate) fn now() -> u64 {
    match get() {
        Some(globals) if globals.clock_ns != 0 => globals.clock_ns,
        // SAFETY: a helper without arguments.
        _ => unsafe { bpf_ktime_get_coarse_ns() },
    }
}

/// Nanoseconds of CLOCK_MONOTONIC, for what happens more often than the kernel ticks.
#[inline(always)]
pub(crate) fn exactly_now() -> u64 {
    match get() {
        Some(globals) if globals.clock_ns != 0 => globals.clock_ns,
        // SAFETY: a helper without arguments.
        _ => unsafe { bpf_ktime_get_ns() },
    }
}

/// A random number for a new flow.
#[inline(always)]
pub(crate) fn random<A: Address>(key: &FlowKey<A>) -> u64 {
    match get() {
        Some(globals) if globals.random != 0 => hash::flow(Seed { k0: globals.random, k1: 0 }, key),
        // SAFETY: helpers without arguments.
        _ => unsafe { u64::from(bpf_get_prandom_u32()) << 32 | u64::from(bpf_get_prandom_u32()) },
    }
}

//! Which source ports are tried for a new flow.

use deston_common::hash::{self, Seed};
use deston_common::listener::ListenerEntry;
use deston_common::net::{Address, Be16};

use crate::context::Context;

/// The order in which ports are tried: the client's own, then a walk whose start and stride depend
/// on the flow. The SNAT address moves on by one with each try, from a place of its own: from the
/// same one, an even port and the second of two addresses would never meet.
pub(crate) struct Ports {
    min: u32,
    count: u32,
    start: u32,
    stride: u32,
    address: u32,
}

impl Ports {
    /// The walk of the packet's flow.
    #[inline(always)]
    pub(crate) fn new<A: Address>(cx: &Context<A>, listener: &ListenerEntry) -> Self {
        let hash = hash::flow(Seed { k0: 0, k1: 0 }, &cx.key);
        let min = u32::from(listener.snat_port_min);
        let count = u32::from(listener.snat_port_max).saturating_sub(min) + 1;
        Self {
            min,
            count,
            start: (hash as u32).checked_rem(count).unwrap_or(0),
            stride: stride((hash >> 32) as u32),
            address: (hash >> 48) as u32,
        }
    }

    /// The port of a try.
    #[inline(always)]
    pub(crate) fn candidate(&self, own: Be16, probe: u32) -> Option<Be16> {
        let beyond = u32::from(own.to_host()).wrapping_sub(self.min);
        if probe == 0 && beyond < self.count {
            return Some(own);
        }
        let place = self.start.wrapping_add(probe.wrapping_mul(self.stride));
        let port = self.min + place.checked_rem(self.count)?;
        Some(Be16::from_host(port as u16))
    }

    /// Which of `addresses` SNAT addresses a try has. Fewer ports than tries come round again, each
    /// time with the next address: in step with them, half of two ports of two addresses would never
    /// meet.
    #[inline(always)]
    pub(crate) fn address(&self, probe: u32, addresses: u8) -> Option<u32> {
        let rounds = probe.checked_div(self.count)?;
        let place = probe.wrapping_sub(rounds.wrapping_mul(self.count));
        let turn = self.address.wrapping_add(place).wrapping_add(rounds);
        turn.checked_rem(addresses.into())
    }
}

/// Primes above any number of ports, so that no range has a factor in common with one and no port
/// comes twice before all have come; several, so that flows that meet at a port part after it.
#[inline(always)]
fn stride(hash: u32) -> u32 {
    match hash & 3 {
        0 => 65_537,
        1 => 140_009,
        2 => 260_003,
        _ => 410_009,
    }
}

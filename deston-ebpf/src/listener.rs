//! The listener of a packet.

use deston_common::listener::{ListenerEntry, ListenerKey};
use deston_common::net::Be16;

use crate::family::Family;

/// The listener of an address, port and protocol; else the one of any port.
#[inline(always)]
pub(crate) fn lookup<F: Family>(
    address: F::Address,
    port: Be16,
    protocol: u8,
) -> Option<&'static ListenerEntry> {
    let exact = ListenerKey::new(address, port, protocol);
    // SAFETY: the map is not preallocated, so an element is freed after a grace period and never
    // recycled under a reader; the process replaces entries whole. The same below.
    if let Some(entry) = unsafe { F::listeners().get(&exact) } {
        return Some(entry);
    }
    let any = ListenerKey::new(address, Be16::default(), protocol);
    // SAFETY: as above.
    unsafe { F::listeners().get(&any) }
}

//! What a packet may be to us, told by its addresses alone.

use deston_common::address::flags;
use deston_common::globals;
use deston_common::net::Address;
use deston_common::outcome::Outcome;

use crate::context::Context;
use crate::family::Family;
use crate::globals as settings;
use crate::packet::Packet;
use crate::transmit;

/// Notes the role of the packet's addresses; foreign packets end here.
#[inline(always)]
pub(crate) fn of<F: Family>(cx: &mut Context<F::Address>) -> Result<(), Outcome> {
    // SAFETY: the process replaces entries whole; a recycled element is still an entry.
    if let Some(entry) = unsafe { F::addresses().get(&cx.key.destination) }
        && entry.flags & (flags::LISTENER | flags::SNAT) != 0
    {
        cx.role = entry.flags;
        cx.echo_pool = entry.echo_pool;
        cx.snat_port_min = entry.snat_port_min;
        cx.snat_port_max = entry.snat_port_max;
        if settings::has(globals::flags::DNAT) && is_dnat_server::<F>(&cx.key.source) {
            cx.role |= flags::DNAT_SERVER;
        }
        return Ok(());
    }
    if !settings::has(globals::flags::DNAT) {
        return Err(Outcome::Unrelated);
    }
    if is_dnat_server::<F>(&cx.key.source) {
        cx.role = flags::DNAT_SERVER;
        return Ok(());
    }
    // Routers on the way to a server send errors from addresses of their own.
    if cx.key.protocol == F::ICMP {
        cx.role = 0;
        return Ok(());
    }
    Err(Outcome::Unrelated)
}

/// Whether some client can have sent the packet, to us alone. Of others the host's own stack knows
/// what to think.
#[inline(always)]
pub(crate) fn is_of_a_client<A: Address, P: Packet>(packet: P, cx: &Context<A>) -> bool {
    !cx.key.source.is_martian_to(cx.key.destination) && transmit::is_unicast(packet)
}

/// Whether a server of a listener with `dnat` has this address.
#[inline(always)]
fn is_dnat_server<F: Family>(address: &F::Address) -> bool {
    // SAFETY: as in `of`.
    let entry = unsafe { F::addresses().get(address) };
    entry.is_some_and(|entry| entry.flags & flags::DNAT_SERVER != 0)
}

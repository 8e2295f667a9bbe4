//! Ending idle flows that the process has found.
//!
//! The process cannot do it by itself: a flow that wakes up at that moment would be taken off its
//! server's count twice. Here the same atomic decides as in the datapath.

use deston_common::event::reason;
use deston_common::flow::ExpireRequest;
use deston_common::limits::EXPIRE_BATCH;

use crate::conntrack;
use crate::family::Family;
use crate::packet::{Packet, Xdp};
use crate::repeat::{ONWARD, STOP, repeat};

/// Ends each flow of the request that has stood still since the process looked at it.
#[inline(always)]
pub(crate) fn run<F: Family>(packet: Xdp) {
    let mut packet = packet;
    repeat(EXPIRE_BATCH as u32, one::<F>, &mut packet);
}

extern "C" fn one<F: Family>(place: u32, packet: *mut Xdp) -> i64 {
    // SAFETY: `repeat` hands on what `run` gave it.
    let packet = unsafe { *packet };
    let size = size_of::<ExpireRequest<F::Address>>();
    let (start, end) = packet.bounds();
    let start = start + (place as usize & (EXPIRE_BATCH - 1)) * size;
    if start + size > end {
        return STOP;
    }
    // SAFETY: the bounds were checked; packet data may be unaligned.
    let request = unsafe { core::ptr::read_unaligned(start as *const ExpireRequest<F::Address>) };
    let Some(flow) = conntrack::promoted::<F>(&request.key) else { return ONWARD };
    // SAFETY: points into a live map value.
    let (seen, reply) = unsafe { ((*flow).last_seen_ns, (*flow).reply) };
    if seen == request.flow_seen_ns && conntrack::reply_seen::<F>(&reply) == request.reply_seen_ns {
        conntrack::end::<F>(flow, reason::IDLE);
    }
    ONWARD
}

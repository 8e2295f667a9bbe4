//! Ending idle flows that the process has found.
//!
//! The process cannot do it by itself: a flow that wakes up at that moment would be taken off its
//! server's count twice. Here the same atomic decides as in the datapath.

use deston_common::flow::ExpireRequest;
use deston_common::limits::EXPIRE_BATCH;

use crate::conntrack;
use crate::packet::Packet;

/// Ends each flow of the request that has stood still since the process looked at it.
#[inline(always)]
pub(crate) fn run(packet: &Packet) {
    for place in 0..EXPIRE_BATCH {
        let Ok(request) = packet.at::<ExpireRequest>(place * size_of::<ExpireRequest>()) else {
            return;
        };
        // SAFETY: `at` checked the bounds; packet data may be unaligned.
        let request = unsafe { core::ptr::read_unaligned(request) };
        let Some(flow) = conntrack::flow(&request.key) else { continue };
        // SAFETY: points into a live map value.
        let (seen, reply) = unsafe { ((*flow).last_seen_ns, (*flow).reply) };
        if seen == request.flow_seen_ns && conntrack::reply_seen(&reply) == request.reply_seen_ns {
            conntrack::end(&request.key, flow);
        }
    }
}

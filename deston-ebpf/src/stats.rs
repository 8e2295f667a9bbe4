//! Counting outcomes.

use deston_common::outcome::Outcome;

use crate::maps;

/// Counts one packet. A counter that cannot be found never changes what becomes of the packet.
#[inline(always)]
pub(crate) fn count(outcome: Outcome) {
    if let Some(counter) = maps::OUTCOMES.get_ptr_mut(outcome as u32) {
        // SAFETY: points into this processor's map value; programs do not nest on one.
        unsafe { *counter += 1 };
    }
}

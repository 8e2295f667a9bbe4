//! Loops whose body the verifier walks once, by `bpf_loop` (Linux 5.17): unrolled, a scan of 256
//! servers would be 256 bodies to it.

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_loop;

/// What a body returns for the next turn.
pub(crate) const ONWARD: i64 = 0;
/// What a body returns to end the loop.
pub(crate) const STOP: i64 = 1;

/// Calls `body` with 0, 1, 2 and so on, `times` times or until it says [`STOP`].
#[inline(always)]
pub(crate) fn repeat<T>(times: u32, body: extern "C" fn(u32, *mut T) -> i64, state: &mut T) {
    let state: *mut T = state;
    // SAFETY: the helper calls `body` with an index and with `state`, which outlives the call.
    unsafe { bpf_loop(times, body as *mut c_void, state.cast(), 0) };
}

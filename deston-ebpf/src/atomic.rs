//! Atomic read-modify-write on map values.
//!
//! `core::sync::atomic` has none on BPF, so these are the compiler's intrinsics. They need
//! `-Ctarget-cpu=v3`, and sequential consistency: with a relaxed order and the result in use,
//! LLVM 22 silently returns the operand instead of the old value.

use core::intrinsics::{AtomicOrdering, atomic_or, atomic_xadd};

/// Adds and returns the value before.
///
/// # Safety
/// `value` points into a live map value.
#[inline(always)]
pub(crate) unsafe fn fetch_add(value: *mut u64, more: u64) -> u64 {
    // SAFETY: the caller's; map values are 8-byte aligned.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(value, more) }
}

/// Subtracts and returns the value before.
///
/// # Safety
/// `value` points into a live map value.
#[inline(always)]
pub(crate) unsafe fn fetch_sub(value: *mut u64, less: u64) -> u64 {
    // SAFETY: the caller's.
    unsafe { fetch_add(value, less.wrapping_neg()) }
}

/// What this processor has written before is seen by the others before it reads what comes after: a
/// look-up does not wait for an update of another map. A read-modify-write that returns the old value
/// is such a barrier (Linux, Documentation/atomic_t.txt); `word` is any of a map's value
/// that this processor alone has.
#[inline(always)]
pub(crate) fn barrier(word: &mut u64) {
    // SAFETY: a reference is valid and aligned. The verifier wants a map's value.
    core::hint::black_box(unsafe { fetch_add(&raw mut *word, 0) });
}

/// Sets bits and returns the value before.
///
/// # Safety
/// `value` points into a live map value.
#[inline(always)]
pub(crate) unsafe fn fetch_or(value: *mut u64, bits: u64) -> u64 {
    // SAFETY: the caller's; map values are 8-byte aligned.
    unsafe { atomic_or::<u64, u64, { AtomicOrdering::SeqCst }>(value, bits) }
}

//! The only code that forms pointers into a packet.

use core::mem::size_of;

use aya_ebpf::bindings::xdp_md;
use deston_common::outcome::Outcome;

/// A packet under XDP.
#[derive(Clone, Copy)]
pub(crate) struct Packet {
    ctx: *mut xdp_md,
}

impl Packet {
    pub(crate) const fn new(ctx: *mut xdp_md) -> Self {
        Self { ctx }
    }

    /// A pointer to `T` at `offset`, if the packet is long enough. `T` is packed to 2 bytes: frames
    /// start at an even address and header lengths are even, and no more is sure.
    ///
    /// The bounds are read anew each time, since the verifier forgets them after some helpers.
    #[inline(always)]
    pub(crate) fn at<T>(&self, offset: usize) -> Result<*mut T, Outcome> {
        // SAFETY: the kernel hands a valid context to the program.
        let (start, end) = unsafe { ((*self.ctx).data as usize, (*self.ctx).data_end as usize) };
        if start + offset + size_of::<T>() > end {
            return Err(Outcome::Malformed);
        }
        Ok((start + offset) as *mut T)
    }

    /// Bytes from the start of the frame to its end.
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        // SAFETY: the kernel hands a valid context to the program.
        unsafe { ((*self.ctx).data_end - (*self.ctx).data) as usize }
    }

    /// The interface the packet came in by.
    #[inline(always)]
    pub(crate) fn ifindex(&self) -> u32 {
        // SAFETY: the kernel hands a valid context to the program.
        unsafe { (*self.ctx).ingress_ifindex }
    }
}

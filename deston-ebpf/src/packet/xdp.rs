//! A packet at the XDP hook.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::{bpf_fib_lookup, bpf_redirect, bpf_xdp_adjust_head, bpf_xdp_adjust_tail};
use aya_ebpf::programs::XdpContext;
use deston_common::hop::Vlan;

use crate::fib::Lookup;
use crate::stages;

use super::{Mend, Packet};

/// A frame in the driver's memory.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Xdp(*mut xdp_md);

impl Xdp {
    pub(crate) const fn new(ctx: *mut xdp_md) -> Self {
        Self(ctx)
    }
}

impl Packet for Xdp {
    const TC: bool = false;

    #[inline(always)]
    fn bounds(self) -> (usize, usize) {
        // Volatile: the compiler would load them in a subprogram's caller and pass them on as
        // numbers, which are no pointers to the verifier.
        // SAFETY: the kernel hands a valid context to the program.
        unsafe {
            (
                (&raw const (*self.0).data).read_volatile() as usize,
                (&raw const (*self.0).data_end).read_volatile() as usize,
            )
        }
    }

    #[inline(always)]
    fn len(self) -> usize {
        let (start, end) = self.bounds();
        end - start
    }

    #[inline(always)]
    fn ifindex(self) -> u32 {
        // SAFETY: the kernel hands a valid context to the program.
        unsafe { (*self.0).ingress_ifindex }
    }

    #[inline(always)]
    fn taken_off(self) -> Option<Vlan> {
        None
    }

    #[inline(always)]
    fn pull(self, _wanted: usize) {}

    #[inline(always)]
    fn segment(self) -> u32 {
        0
    }

    #[inline(always)]
    fn mend(self, mend: &Mend) -> Option<()> {
        let checksum = self.at::<u16>(mend.offset)?;
        let change = mend.pseudo.and(mend.header);
        // SAFETY: `at` checked the bounds.
        unsafe {
            *checksum =
                if mend.udp { change.apply_udp(*checksum) } else { change.apply(*checksum) };
        }
        Some(())
    }

    #[inline(always)]
    fn grow_front(self, more: i32) -> bool {
        // SAFETY: a helper on a valid context.
        unsafe { bpf_xdp_adjust_head(self.0, -more) == 0 }
    }

    #[inline(always)]
    fn encapsulate(self, len: i32, _v6: bool) -> bool {
        self.grow_front(len)
    }

    #[inline(always)]
    fn truncate(self, len: usize) -> bool {
        // Opaque: the compiler would take the end off the start plus `len`, a sum with a pointer
        // that the verifier refuses.
        let now = core::hint::black_box(self.len());
        // SAFETY: a helper on a valid context.
        unsafe { bpf_xdp_adjust_tail(self.0, len as i32 - now as i32) == 0 }
    }

    #[inline(always)]
    fn retag(self, from: u16, to: u16, _vlans: &[Vlan; 2]) -> bool {
        from == to || self.grow_front((i32::from(to) - i32::from(from)) * 4)
    }

    #[inline(always)]
    fn redirect(self, ifindex: u32) {
        // SAFETY: a helper on plain numbers. With flags 0 it cannot fail.
        unsafe { bpf_redirect(ifindex, 0) };
    }

    #[inline(always)]
    fn fib(self, lookup: &mut Lookup) -> bool {
        let params = core::ptr::from_mut(lookup).cast();
        // SAFETY: a helper on a valid context and a structure of the kernel's layout.
        unsafe { bpf_fib_lookup(self.0.cast(), params, size_of::<Lookup>() as i32, 0) == 0 }
    }

    #[inline(always)]
    fn go_on(self, stage: u32) {
        // SAFETY: the map holds programs of this hook alone.
        unsafe { stages::STAGES_XDP.tail_call(&XdpContext::new(self.0), stage) };
    }
}

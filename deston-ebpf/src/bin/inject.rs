//! Programs for measuring the balancer; no part of the product.
//!
//! `inject` writes a fresh packet over whatever the buffer holds, with one of many source ports, and
//! hands it on: by tail call to the program under test, to the network stack, or nowhere. Without
//! it a repeated run would see its own output. `count` counts and drops what arrives at a server.

#![no_std]
#![no_main]

use core::mem::size_of;

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS};
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::btf_maps::{Array, PerCpuArray, ProgramArray};
use aya_ebpf::macros::{btf_map, xdp};
use aya_ebpf::programs::XdpContext;

/// A packet of 64 bytes and what becomes of it.
#[repr(C)]
struct Order {
    /// Frame, by words of 16 bits.
    frame: [u16; 32],
    /// Flows less one; a power of two less one.
    mask: u32,
    /// 0: drop, 1: pass, 2: tail call.
    then: u32,
}

#[btf_map]
static ORDER: Array<Order, 1> = Array::new();

#[btf_map]
static SENT: PerCpuArray<u64, 1> = PerCpuArray::new();

#[btf_map]
static COUNTED: PerCpuArray<u64, 1> = PerCpuArray::new();

#[btf_map]
static NEXT: ProgramArray<1> = ProgramArray::new();

/// Place of the source port in an IPv4 frame without options, in words.
const SOURCE_PORT: usize = 17;

#[xdp]
fn inject(ctx: XdpContext) -> u32 {
    run(&ctx).unwrap_or(XDP_ABORTED)
}

#[inline(always)]
fn run(ctx: &XdpContext) -> Option<u32> {
    let order = ORDER.get(0)?;
    let sent = SENT.get_ptr_mut(0)?;
    // SAFETY: this processor's map value; XDP programs do not nest.
    let number = unsafe {
        *sent += 1;
        *sent as u32
    };
    let frame = at::<[u16; 32]>(ctx.ctx)?;
    // Steps through the flows out of order, so that neighbours in time are not neighbours in memory.
    let flow = number.wrapping_mul(0x9e37_79b1) & order.mask;
    // SAFETY: `at` checked the bounds; frames start at an even address.
    unsafe {
        *frame = order.frame;
        (*frame)[SOURCE_PORT] = (1_024 + (flow & 0x7fff) as u16).to_be();
        // More than 32,768 flows differ in the client's address too.
        (*frame)[14] = (*frame)[14].wrapping_add(((flow >> 15) as u16).to_be());
    }
    match order.then {
        0 => Some(XDP_DROP),
        1 => Some(XDP_PASS),
        _ => {
            // SAFETY: the slot holds an XDP program. Returns only if it does not.
            unsafe { NEXT.tail_call(ctx, 0) };
            Some(XDP_ABORTED)
        }
    }
}

/// Counts and drops IPv4 packets; the rest (ARP) passes.
#[xdp]
fn count(ctx: XdpContext) -> u32 {
    let Some(frame) = at::<[u16; 7]>(ctx.ctx) else { return XDP_PASS };
    // SAFETY: `at` checked the bounds.
    if unsafe { (*frame)[6] } != 0x0800_u16.to_be() {
        return XDP_PASS;
    }
    if let Some(counted) = COUNTED.get_ptr_mut(0) {
        // SAFETY: this processor's map value; XDP programs do not nest.
        unsafe { *counted += 1 };
    }
    XDP_DROP
}

#[inline(always)]
fn at<T>(ctx: *mut xdp_md) -> Option<*mut T> {
    // SAFETY: the kernel hands a valid context to the program.
    let (start, end) = unsafe { ((*ctx).data as usize, (*ctx).data_end as usize) };
    (start + size_of::<T>() <= end).then_some(start as *mut T)
}

/// The licence as the kernel knows it.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // Never linked: the programs have no panic path, and the verifier would refuse one.
    loop {}
}

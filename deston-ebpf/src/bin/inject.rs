//! Programs for measuring the balancer; no part of the product.
//!
//! A repeated run of a program would see its own output, so both measuring programs write a fresh
//! packet before each look at it. `inject` writes one, with one of many source ports, and hands it
//! on: to the program under test, to the network stack, or nowhere. `wrapper` does so many times in
//! one run and comes back after each, so that its own cost, and that of starting a run, can be told
//! from the cost of the program. `empty` stands in for that program, and `count` counts and drops
//! what arrives at a server.

#![no_std]
#![no_main]

use core::hint::black_box;
use core::mem::size_of;

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::btf_maps::{Array, PerCpuArray, ProgramArray};
use aya_ebpf::helpers::bpf_xdp_adjust_head;
use aya_ebpf::macros::{btf_map, xdp};
use aya_ebpf::programs::XdpContext;

/// Words of 64 bits of a frame.
const WORDS: usize = 10;
/// Bytes of a frame.
const FRAME: usize = WORDS * 8;

/// What `wrapper` and `inject` write: a frame whose flows differ in two words of 16 bits.
#[repr(C)]
struct Order {
    frame: [u64; WORDS],
    /// Flows less one; a power of two less one.
    mask: u32,
    /// Bits of the flow's number that go into the first word; the others go into the second.
    port_bits: u32,
    /// Where the first word is, usually a port; even.
    port: u32,
    /// Where the second word is, usually the end of an address; even.
    address: u32,
    /// `inject`: 0 to drop the frame, 1 to pass it, 2 to call the program under test.
    then: u32,
    /// `wrapper`: frames of each run, at most [`MOST_PASSES`].
    passes: u32,
}

#[btf_map]
static ORDER: Array<Order, 1> = Array::new();

/// Frames written so far, by either program.
#[btf_map]
static SENT: Array<u64, 1> = Array::new();

/// Verdict -> frames that `wrapper` saw it for.
#[btf_map]
static VERDICTS: Array<u64, 8> = Array::new();

#[btf_map]
static COUNTED: PerCpuArray<u64, 1> = PerCpuArray::new();

/// Frames that `count` still answers, so that their flows have replies.
#[btf_map]
static ANSWERS: Array<u64, 1> = Array::new();

/// The program under test.
#[btf_map]
static NEXT: ProgramArray<1> = ProgramArray::new();

/// The kernel allows 33 tail calls in one run, those of the program under test included.
const MOST_PASSES: u32 = 32;

#[xdp]
fn wrapper(ctx: XdpContext) -> u32 {
    let Some(order) = ORDER.get(0) else { return XDP_ABORTED };
    let mut pass = 0;
    while pass < MOST_PASSES && pass < order.passes {
        if write(ctx.ctx, order).is_none() {
            return XDP_ABORTED;
        }
        let verdict = call(ctx.ctx);
        if let Some(seen) = VERDICTS.get_ptr_mut(verdict & 7) {
            // SAFETY: a map value; the measurement runs on one processor.
            unsafe { *seen += 1 };
        }
        if restore(ctx.ctx).is_none() {
            return XDP_ABORTED;
        }
        pass += 1;
    }
    XDP_PASS
}

/// Comes back here after the program under test, since a subprogram of its own makes the tail call.
#[inline(never)]
fn call(ctx: *mut xdp_md) -> u32 {
    // SAFETY: the slot holds an XDP program. Returns only if it does not.
    unsafe { NEXT.tail_call(&XdpContext::new(ctx), 0) };
    // Opaque: the compiler does not know that the call may return anything else.
    black_box(XDP_ABORTED)
}

/// Takes off what the program under test has put before the frame.
#[inline(always)]
fn restore(ctx: *mut xdp_md) -> Option<()> {
    // SAFETY: the kernel hands a valid context to the program.
    let len = unsafe { ((*ctx).data_end - (*ctx).data) as i32 };
    let more = len - FRAME as i32;
    // SAFETY: a helper on a valid context.
    (more == 0 || unsafe { bpf_xdp_adjust_head(ctx, more) } == 0).then_some(())
}

#[xdp]
fn empty(_ctx: XdpContext) -> u32 {
    XDP_PASS
}

#[xdp]
fn inject(ctx: XdpContext) -> u32 {
    let Some(order) = ORDER.get(0) else { return XDP_ABORTED };
    if write(ctx.ctx, order).is_none() {
        return XDP_ABORTED;
    }
    match order.then {
        0 => XDP_DROP,
        1 => XDP_PASS,
        _ => {
            // SAFETY: the slot holds an XDP program. Returns only if it does not.
            unsafe { NEXT.tail_call(&ctx, 0) };
            XDP_ABORTED
        }
    }
}

/// Writes the next frame.
#[inline(always)]
fn write(ctx: *mut xdp_md, order: &Order) -> Option<()> {
    let sent = SENT.get_ptr_mut(0)?;
    // SAFETY: a map value; the measurement runs on one processor.
    let number = unsafe {
        *sent += 1;
        *sent as u32
    };
    let flow = scatter(number, order.mask);
    let frame = at::<[u64; WORDS]>(ctx, 0)?;
    // SAFETY: `at` checked the bounds; frames start at a multiple of 8.
    unsafe { *frame = order.frame };
    add(ctx, order.port, flow & !(u32::MAX << (order.port_bits & 31)))?;
    add(ctx, order.address, flow >> (order.port_bits & 31))
}

/// The flow of the `number`th frame: all of them in turn, in an order that neither caches nor
/// prefetching foresee.
#[inline(always)]
fn scatter(number: u32, mask: u32) -> u32 {
    let mut flow = number & mask;
    // Each step can be undone within the mask, so no flow comes twice before all have come.
    flow = flow.wrapping_mul(0x9e37_79b1) & mask;
    flow ^= flow >> 7;
    flow = flow.wrapping_mul(0x85eb_ca6b) & mask;
    flow ^ flow >> 9
}

/// Adds to a word of the frame.
#[inline(always)]
fn add(ctx: *mut xdp_md, place: u32, more: u32) -> Option<()> {
    let word = at::<u16>(ctx, (place & 0x7e) as usize)?;
    // SAFETY: `at` checked the bounds; the place is even.
    unsafe { *word = u16::from_be(*word).wrapping_add(more as u16).to_be() };
    Some(())
}

/// Counts IPv4 packets, then drops them or sends them back; the rest (ARP) passes.
#[xdp]
fn count(ctx: XdpContext) -> u32 {
    let Some(kind) = at::<u16>(ctx.ctx, 12) else { return XDP_PASS };
    // SAFETY: `at` checked the bounds.
    if unsafe { *kind } != 0x0800_u16.to_be() {
        return XDP_PASS;
    }
    if let Some(counted) = COUNTED.get_ptr_mut(0) {
        // SAFETY: this processor's map value; XDP programs do not nest.
        unsafe { *counted += 1 };
    }
    answer(&ctx).unwrap_or(XDP_DROP)
}

/// Makes a packet of UDP over IPv4 without options its own reply, if one is wanted. No checksum
/// changes: sums do not depend on the order of words.
#[inline(always)]
fn answer(ctx: &XdpContext) -> Option<u32> {
    let answers = ANSWERS.get_ptr_mut(0)?;
    // SAFETY: a map value; the measurement runs on one processor.
    unsafe {
        if *answers == 0 {
            return None;
        }
        *answers -= 1;
    }
    // Ethernet addresses, IPv4 addresses, ports.
    swap::<[u16; 3]>(ctx, 0)?;
    swap::<[u16; 2]>(ctx, 26)?;
    swap::<u16>(ctx, 34)?;
    Some(XDP_TX)
}

/// Exchanges two neighbours.
#[inline(always)]
fn swap<T: Copy>(ctx: &XdpContext, offset: usize) -> Option<()> {
    let pair = at::<[T; 2]>(ctx.ctx, offset)?;
    // SAFETY: `at` checked the bounds; the offset is even, and so is the alignment.
    unsafe {
        let [first, second] = *pair;
        *pair = [second, first];
    }
    Some(())
}

#[inline(always)]
fn at<T>(ctx: *mut xdp_md, offset: usize) -> Option<*mut T> {
    // SAFETY: the kernel hands a valid context to the program.
    let (start, end) = unsafe { ((*ctx).data as usize, (*ctx).data_end as usize) };
    (start + offset + size_of::<T>() <= end).then_some((start + offset) as *mut T)
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

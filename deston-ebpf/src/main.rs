//! Deston's kernel programs: the entry points and the pipeline.
//!
//! The stages live in files of their own; they say why they stop and never what happens to the
//! packet. That is decided in `verdict`, and counted.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch, core_intrinsics)]
#![expect(internal_features, reason = "BPF has no atomics in core::sync: see atomic.rs")]
#![expect(
    clippy::needless_borrows_for_generic_args,
    reason = "a key or entry that is passed whole is copied to the stack, which has 512 bytes"
)]

mod atomic;
mod claim;
mod complain;
mod conntrack;
mod context;
mod event;
mod expire;
mod family;
mod fib;
mod forward;
mod fragment;
mod globals;
mod guard;
mod half;
mod header;
mod icmp;
mod listener;
mod maps;
mod packet;
mod parse;
mod ports;
mod promote;
mod quote;
mod repeat;
mod reply;
mod reset;
mod role;
mod select;
mod stages;
mod static_reply;
mod stats;
mod takeover;
mod transmit;
mod tunnel;
mod verdict;

use aya_ebpf::bindings::xdp_action::XDP_PASS;
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};

use crate::family::{V4, V6};
use crate::packet::{Packet, Tc, Xdp};
use crate::verdict::Verdict;

/// Balances the packets of one interface, both directions, before the kernel has made buffers of
/// them.
#[xdp]
fn deston_xdp(ctx: XdpContext) -> u32 {
    stages::xdp(balance(Xdp::new(ctx.ctx)))
}

/// Balances the packets of one interface, both directions, as the kernel's own buffers.
#[classifier]
fn deston_tc(ctx: TcContext) -> i32 {
    stages::tc(balance(Tc::new(ctx.skb.skb)))
}

/// What becomes of a packet.
#[inline(always)]
fn balance<P: Packet>(packet: P) -> Verdict {
    packet.pull(packet::USUAL);
    match parse::link(packet) {
        Ok(link) if link.kind == header::IPV4 => stages::first::<V4, P>(packet, &link),
        Ok(link) => stages::first::<V6, P>(packet, &link),
        Err(outcome) => Verdict::of(outcome),
    }
}

/// Defines the programs of the later stages at both hooks.
macro_rules! later {
    ($($xdp:ident, $tc:ident = $stage:ident::<$family:ident>;)+) => {
        $(
            #[xdp]
            fn $xdp(ctx: XdpContext) -> u32 {
                stages::xdp(stages::$stage::<$family, _>(Xdp::new(ctx.ctx)))
            }

            #[classifier]
            fn $tc(ctx: TcContext) -> i32 {
                stages::tc(stages::$stage::<$family, _>(Tc::new(ctx.skb.skb)))
            }
        )+
    };
}

later! {
    xdp_slow4, tc_slow4 = slow::<V4>;
    xdp_slow6, tc_slow6 = slow::<V6>;
    xdp_begin4, tc_begin4 = begin::<V4>;
    xdp_begin6, tc_begin6 = begin::<V6>;
    xdp_icmp4, tc_icmp4 = control::<V4>;
    xdp_icmp6, tc_icmp6 = control::<V6>;
    xdp_answer4, tc_answer4 = answer::<V4>;
    xdp_answer6, tc_answer6 = answer::<V6>;
}

/// Ends idle IPv4 flows on behalf of the process; never attached, run by BPF_PROG_TEST_RUN.
#[xdp]
fn deston_expire4(ctx: XdpContext) -> u32 {
    expire::run::<V4>(Xdp::new(ctx.ctx));
    XDP_PASS
}

/// Ends idle IPv6 flows; see `deston_expire4`.
#[xdp]
fn deston_expire6(ctx: XdpContext) -> u32 {
    expire::run::<V6>(Xdp::new(ctx.ctx));
    XDP_PASS
}

/// The licence as the kernel knows it: MIT for users, GPL for GPL-only helpers.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // Never linked: the programs have no panic path, and the verifier would refuse one.
    loop {}
}

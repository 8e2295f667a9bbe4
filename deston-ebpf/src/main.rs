//! Deston's kernel programs: the entry points and the pipeline.
//!
//! The stages live in files of their own; they say why they stop and never what happens to the
//! packet. That is decided in `verdict`, and counted.

#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(internal_features, reason = "BPF has no atomics in core::sync: see atomic.rs")]

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
mod promote;
mod quote;
mod reply;
mod reset;
mod role;
mod select;
mod static_reply;
mod stats;
mod transmit;
mod tunnel;
mod verdict;

use aya_ebpf::bindings::xdp_action::XDP_PASS;
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use deston_common::outcome::Outcome;

use crate::context::part;
use crate::family::{V4, V6};
use crate::packet::{Packet, Tc, Xdp};
use crate::parse::{Link, Network};
use crate::quote::Quoted;
use crate::verdict::Verdict;

/// Balances the packets of one interface, both directions, before the kernel has made buffers of
/// them.
#[xdp]
fn deston_xdp(ctx: XdpContext) -> u32 {
    let verdict = balance(Xdp::new(ctx.ctx));
    let outcome = verdict.outcome().unwrap_or(Outcome::Malformed);
    stats::count(outcome);
    verdict.xdp(outcome)
}

/// Balances the packets of one interface, both directions, as the kernel's own buffers.
#[classifier]
fn deston_tc(ctx: TcContext) -> i32 {
    let verdict = balance(Tc::new(ctx.skb.skb));
    let outcome = verdict.outcome().unwrap_or(Outcome::Malformed);
    stats::count(outcome);
    verdict.tc(outcome)
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

/// What becomes of a packet.
#[inline(always)]
fn balance<P: Packet>(packet: P) -> Verdict {
    packet.pull();
    match parse::link(packet) {
        Ok(link) if link.kind == header::IPV4 => family::<V4, P>(packet, &link),
        Ok(link) => family::<V6, P>(packet, &link),
        Err(outcome) => Verdict::of(outcome),
    }
}

#[inline(always)]
fn family<F: Network + Quoted, P: Packet>(packet: P, link: &Link) -> Verdict {
    let Some(cx) = F::context() else { return Verdict::of(Outcome::Malformed) };
    // SAFETY: this processor's map value; programs do not nest on one.
    let cx = unsafe { &mut *cx };
    if let Err(outcome) = F::network(packet, link, cx) {
        return Verdict::of(outcome);
    }
    let verdict = match role::of::<F>(cx) {
        Ok(()) => stages::<F, P>(packet, cx),
        Err(outcome) => Verdict::of(outcome),
    };
    if globals::has(deston_common::globals::flags::TRACE) {
        event::traced::<F, P>(packet, cx, verdict.0 & 0xff);
    }
    verdict
}

/// The pipeline, for a packet whose addresses mean something to us.
#[inline(always)]
fn stages<F: Network + Quoted, P: Packet>(
    packet: P,
    cx: &mut context::Context<F::Address>,
) -> Verdict {
    cx.now = globals::now();
    if let Err(outcome) = parse::transport::<F, P>(packet, cx) {
        return Verdict::of(outcome);
    }
    if cx.key.protocol == F::ICMP {
        return icmp::run::<F, P>(packet, cx);
    }
    if cx.part == part::LATER && !fragment::borrow_ports::<F>(cx) {
        return fragment::lost(cx);
    }
    if reply::is_likely(cx) {
        let said = reply::run::<F, P>(packet, cx);
        if said != Verdict::GO_ON {
            return said;
        }
    }
    forward::run::<F, P>(packet, cx)
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

//! Deston's kernel programs: the entry points, and what the kernel does with each outcome.
//!
//! The pipeline lives in `forward` (client to server) and `reply` (server to client); their stages
//! say why they stop and never what happens to the packet. That is decided here, and counted.

#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(internal_features, reason = "BPF has no atomics in core::sync: see atomic.rs")]

mod atomic;
mod claim;
mod conntrack;
mod expire;
mod forward;
mod maps;
mod packet;
mod parse;
mod reply;
mod rewrite;
mod select;
mod stats;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_REDIRECT};
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use deston_common::outcome::Outcome;

use crate::packet::Packet;

/// Balances the packets of one interface, both directions.
#[xdp]
fn deston_xdp(ctx: XdpContext) -> u32 {
    let packet = Packet::new(ctx.ctx);
    let outcome = balance(&packet);
    stats::count(outcome);
    action(outcome)
}

/// Ends idle flows on behalf of the process; never attached, run by BPF_PROG_TEST_RUN.
#[xdp]
fn deston_expire(ctx: XdpContext) -> u32 {
    expire::run(&Packet::new(ctx.ctx));
    XDP_PASS
}

#[inline(always)]
fn balance(packet: &Packet) -> Outcome {
    let parsed = match parse::packet(packet) {
        Ok(parsed) => parsed,
        Err(outcome) => return outcome,
    };
    match forward::listener(&parsed) {
        Some(listener) => forward::run(packet, &parsed, listener),
        None => reply::run(packet, &parsed),
    }
}

/// The one table of what becomes of a packet. Only a listener's packets are ever dropped.
#[inline(always)]
fn action(outcome: Outcome) -> u32 {
    match outcome {
        Outcome::Forwarded | Outcome::Replied => XDP_REDIRECT,
        Outcome::Unrelated
        | Outcome::OtherProtocol
        | Outcome::Fragment
        | Outcome::Malformed
        | Outcome::ListenerClosed
        | Outcome::NoFlow => XDP_PASS,
        Outcome::NoServer
        | Outcome::ServersFull
        | Outcome::SnatExhausted
        | Outcome::FlowsFull
        | Outcome::TtlExpired
        | Outcome::Raced => XDP_DROP,
    }
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

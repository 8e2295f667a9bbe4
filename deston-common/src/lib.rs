//! What the kernel programs and the `deston` process share.
//!
//! This crate does no I/O, allocates nothing and cannot panic on any input. It holds the words of
//! a packet, the layout of every map key and value, the selection tables and the flow state
//! machine, each exactly once.
//!
//! # Layout contract
//! - Map keys and values are `#[repr(C)]`, have no implicit padding and hold no `bool`, `enum` or
//!   `Option`: the kernel and the process see the same bytes. A size assertion stands beside each.
//! - Addresses and ports are kept in network byte order, in types that say so.
//! - Zero means "unset" in every identifier.

#![no_std]

pub mod address;
pub mod checksum;
pub mod conntrack;
pub mod event;
pub mod flow;
pub mod fragment;
pub mod globals;
pub mod guard;
pub mod hash;
pub mod hop;
pub mod limits;
pub mod listener;
pub mod maglev;
pub mod net;
pub mod outcome;
pub mod select;
pub mod sequence;
pub mod server;
pub mod sticky;
pub mod table;

/// Asserts the size of a shared type and, for the process, marks it as plain bytes.
macro_rules! plain_bytes {
    ($type:ty, $size:literal) => {
        const _: () = assert!(core::mem::size_of::<$type>() == $size);
        // SAFETY: repr(C), only integers and arrays of integers inside, and the size assertion
        // above leaves no room for padding; every bit pattern is a valid value.
        #[cfg(feature = "user")]
        unsafe impl aya::Pod for $type {}
    };
}
pub(crate) use plain_bytes;

//! A model of the kernel datapath in plain Rust, written from docs/life-of-a-packet.md: what the
//! loaded programs are compared with, packet by packet.
//!
//! It shares no code with them. It keeps whole tables where they keep map entries, copies frames
//! where they patch, and knows nothing of other processors. Where the document leaves a detail
//! open, such as the order in which ports are tried, a comment says what was chosen.

pub mod against;
mod answer;
mod balance;
pub mod checksum;
mod claim;
mod conntrack;
mod expire;
mod forward;
mod fragment;
pub mod frame;
pub mod generate;
mod guard;
mod half;
pub mod hash;
mod icmp;
pub mod outcome;
pub mod phase;
mod promote;
mod reply;
mod select;
pub mod settings;
pub mod step;
pub mod tables;
mod transmit;
pub mod tuple;

pub use balance::{Model, Verdict};

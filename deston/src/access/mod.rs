//! The access log: a line on the standard output for each request, and for each flow of the kernel
//! datapath that has ended.
//!
//! Whoever has something to write never writes: a worker puts a [`Record`] into its own bounded
//! [`Lane`], without waiting, locking or formatting. One thread takes from all lanes, renders and
//! writes. What finds no room is dropped, counted and told of.

mod lane;
mod record;
mod render;
mod writer;

pub use lane::{Keep, Lane, Lines};
pub use record::{Record, Word};
pub use writer::{AccessLog, Started};

//! The loaded programs beside the model: both take the same steps, and have to agree.

mod entries;
mod loaded;
mod play;
pub(super) mod routes;
mod shrink;
mod states;

pub use play::{Run, Tally, play};

//! Deston: a load balancer with one configuration file.
//!
//! Data flows one way: [`config`] (what the user wrote) becomes a [`model`] (what is valid);
//! [`control`] compares models and applies the changes to [`live`] state, to the userspace
//! [`proxy`] and to the kernel [`datapath`]. Health and counters flow back to `control` alone.
//! `proxy` and `datapath` never see `config`, nor each other; what they tell of traffic, [`access`]
//! writes down. [`explain`] reads what the kernel datapath of any instance has pinned, and tells it.

pub mod access;
pub mod config;
pub mod control;
pub mod datapath;
pub mod doctor;
pub mod explain;
pub mod live;
pub mod model;
pub mod proxy;

use std::path::Path;

use tokio::sync::mpsc;

use control::{Control, Ending, Signal, StartError};

/// Why a run ended before it began; nothing was left started.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration is invalid.
    #[error(transparent)]
    Config(#[from] config::Report),
    /// It is valid, and something it needs cannot be had.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// Everything the program does between its arguments and its exit code.
///
/// Reads the file, binds every listener, opens them, and serves until a signal says stop.
pub async fn run(path: &Path, signals: mpsc::Receiver<Signal>) -> Result<Ending, RunError> {
    let model = config::load(path)?;
    Ok(Control::start(path, model)?.run(signals).await)
}

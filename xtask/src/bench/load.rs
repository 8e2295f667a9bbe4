//! A load: what the clients do, and what came of it.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;

use super::contest::Client;
use super::{download, wrk};

/// What clients do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) title: &'static str,
    pub(crate) connections: u32,
    pub(crate) traffic: Traffic,
    /// What is asked for, downloads aside.
    pub(crate) path: &'static str,
    /// Clients, contender and servers share one processor: what is waited for is work and not
    /// another processor's waking up.
    pub(crate) one_processor: bool,
}

/// What goes over a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// Small requests, one after the other.
    KeepAlive,
    /// One small request.
    Close,
    /// A download without end.
    Bulk,
}

impl Traffic {
    /// What is counted.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::KeepAlive | Self::Close => "request",
            Self::Bulk => "GB",
        }
    }
}

/// What came of one run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Report {
    /// Requests answered, or gigabytes read.
    pub(crate) amount: f64,
    pub(crate) per_second: f64,
    /// Latencies of requests, microseconds.
    pub(crate) p50_us: Option<f64>,
    /// See `p50_us`.
    pub(crate) p99_us: Option<f64>,
    pub(crate) errors: f64,
}

/// Puts the load on `to` for some seconds.
pub(crate) fn run(client: Client<'_>, to: SocketAddr, load: Load, seconds: u32) -> Result<Report> {
    match load.traffic {
        Traffic::KeepAlive | Traffic::Close => {
            wrk::run(client(Path::new("wrk")), to, load, seconds)
        }
        Traffic::Bulk => download::measure(client, to, load.connections, seconds),
    }
}

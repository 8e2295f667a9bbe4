//! `cargo xtask bench`: Deston beside the peers that are installed, under the same load.
//!
//! It only measures: nothing passes or fails by a time. Traffic stays on loopback and in namespaces
//! made for the run, and every load is bounded in time and connections.

mod contest;
mod cpu;
pub(crate) mod download;
mod instructions;
mod l4;
mod l7;
mod load;
mod packets;
mod peers;
mod table;
mod wrk;

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Result, bail};
use nix::unistd::Uid;

use crate::config::{Listener, Server};
use crate::workspace::{self, Profile};
use crate::{command, config, wait};

/// Measures Deston beside its peers
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What to measure; all of it unless given
    #[arg(value_enum)]
    what: Option<What>,
    /// How often each contender runs, in alternating order
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: u32,
    /// How long each measurement takes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// HTTP on loopback: nginx, HAProxy, and no proxy
    L7,
    /// TCP through namespaces: HAProxy, nginx, nftables, and plain routing (root)
    L4,
    /// Nanoseconds for each packet of the kernel programs (root)
    Packets,
}

/// How long and how often to measure.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    rounds: u32,
    seconds: u32,
}

/// Measures what was asked for and prints a table for each load.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    wait::catch_interrupts()?;
    let effort = Effort { rounds: arguments.rounds, seconds: arguments.seconds };
    let is_root = Uid::effective().is_root();
    let wants = |what| arguments.what.is_none_or(|wanted| wanted == what);
    let needs_root = |what| arguments.what == Some(what) && what != What::L7;
    if !is_root && [What::L4, What::Packets].into_iter().any(needs_root) {
        bail!("this measurement needs root: it makes network namespaces and loads programs");
    }
    machine();
    if wants(What::L7) || wants(What::L4) {
        for program in ["wrk", "nginx"] {
            if command::find(program).is_none() {
                bail!("{program} is missing: it makes the load, or answers it; install it");
            }
        }
        let deston = workspace::build_deston(Profile::Release)?;
        if wants(What::L7) {
            l7::run(&deston, effort)?;
            instructions::run(&deston)?;
        }
        if wants(What::L4) && is_root {
            l4::run(&deston, effort)?;
        }
    }
    if wants(What::Packets) && is_root {
        packets::run()?;
    }
    if !is_root {
        println!("\nNot measured without root: layer 4 through namespaces, the kernel programs.");
    }
    Ok(())
}

/// What a reader must know of the machine.
fn machine() {
    let first = |file: &str, key: &str| {
        let text = std::fs::read_to_string(Path::new(file)).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        line.trim_start_matches(key).trim_matches([' ', '\t', ':']).to_owned()
    };
    println!("- kernel: Linux {}", first("/proc/sys/kernel/osrelease", ""));
    println!("- processor: {} x {}", workers(), first("/proc/cpuinfo", "model name"));
    for (program, argument) in [("nginx", "-v"), ("haproxy", "-v"), ("nft", "-v"), ("wrk", "-v")] {
        let Some(path) = command::find(program) else {
            println!("- {program}: not installed, left out");
            continue;
        };
        let Ok(output) = command::output(std::process::Command::new(path).arg(argument)) else {
            continue;
        };
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        println!("- {program}: {}", text.lines().next().unwrap_or_default());
    }
}

/// Every proxy gets as many workers as there are processors.
fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Deston's configuration in a contest: one listener, its servers with room for every connection.
fn deston_config(
    listen: SocketAddr,
    layer: &str,
    datapath: Option<&str>,
    servers: &[SocketAddr],
) -> String {
    let names = ["one", "other"];
    let server = |(name, &address): (&'static str, &SocketAddr)| Server {
        name,
        address,
        weight: 1,
        max_connections: 60_000,
    };
    config::text(&[Listener {
        name: "bench",
        address: listen,
        layer,
        datapath,
        algorithm: "round_robin",
        servers: names.into_iter().zip(servers).map(server).collect(),
    }])
}

//! The part that needs nothing: layer 7 and layer 4 from userspace, on loopback.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::answers;
use super::server;
use crate::config::{self, Listener, Server};
use crate::process::Running;

/// A multiple of the servers and of the weights' sum, so that the counts come out even.
const REQUESTS: u32 = 30;
const SERVERS: [(&str, u16); 3] = [("alpha", 3), ("beta", 1), ("gamma", 1)];

/// Balances over three servers with equal shares on layer 7 and weighted ones on layer 4.
pub(crate) fn run(deston: &Path) -> Result<()> {
    let mut servers = Vec::new();
    for (name, weight) in SERVERS {
        servers.push((name, weight, server::start(name)?));
    }
    let pool = || {
        servers
            .iter()
            .map(|&(name, weight, address)| Server { name, address, weight, max_connections: 1000 })
            .collect()
    };
    let [web, raw] = free_addresses()?;
    let text = config::text(&[
        Listener {
            name: "web",
            address: web,
            layer: "L7",
            datapath: None,
            algorithm: "round_robin",
            servers: pool(),
        },
        Listener {
            name: "raw",
            address: raw,
            layer: "L4",
            datapath: Some("userspace"),
            algorithm: "weighted_round_robin",
            servers: pool(),
        },
    ]);
    let folder = tempfile::tempdir().context("making a folder for the configuration")?;
    let config = folder.path().join("config.toml");
    std::fs::write(&config, text)?;

    let mut command = Command::new(deston);
    command.env("NO_COLOR", "1").args(["run".as_ref(), "--config".as_ref(), config.as_os_str()]);
    let mut running = Running::start(&mut command, &folder.path().join("log"))?;
    running.accepts(web)?;
    running.accepts(raw)?;
    println!("Deston balances {web} (L7) and {raw} (L4) over three servers on this machine.");
    println!("{REQUESTS} requests through each, and who answered how often:\n");
    let ask = |to| answers::count(to, REQUESTS).map_err(|error| running.explain(error));
    let columns = [("L7 round_robin", ask(web)?), ("L4 weighted_round_robin 3:1:1", ask(raw)?)];
    println!("{}", answers::table(&columns));
    running.stop().map(drop)
}

/// Addresses that are free, and different because both are held at once.
fn free_addresses() -> Result<[SocketAddr; 2]> {
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("finding a free port");
    let (one, other) = (listen()?, listen()?);
    Ok([one.local_addr()?, other.local_addr()?])
}

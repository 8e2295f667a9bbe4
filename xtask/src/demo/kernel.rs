//! The part that needs root: layer 4 by the XDP program, in a lab of namespaces.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::answers;
use crate::config::{self, Listener, Server};
use crate::lab::{BALANCER, Lab, Links, Place};
use crate::process::Running;
use crate::{command, wait};

const CONNECTIONS: u32 = 100;
const SERVERS: [&str; 2] = ["alpha", "beta"];
const PORT: u16 = 80;

/// Balances connections between two namespaces and prints the kernel's counters beside the answers.
pub(crate) fn run(deston: &Path) -> Result<()> {
    println!("\nNow layer 4 in the kernel, between namespaces made for this run:");
    for program in ["ip", "ethtool"] {
        if command::find(program).is_none() {
            println!("  not shown: {program} is missing; install iproute2 and ethtool");
            return Ok(());
        }
    }
    let folder = tempfile::tempdir().context("making a folder for the configuration")?;
    let lab = Lab::new(SERVERS.len() as u8, Links::NativeXdp)?;
    let xtask = std::env::current_exe().context("finding this program")?;
    let mut running = Vec::new();
    let mut pool = Vec::new();
    for (index, name) in (0..).zip(SERVERS) {
        let address = SocketAddr::new(Lab::server(index).into(), PORT);
        let mut server = lab.command(Place::Server(index), &xtask);
        server.args(["demo-server", name, &address.to_string()]);
        running.push(Running::start(&mut server, &folder.path().join(name))?);
        pool.push(Server { name, address, weight: 1, max_connections: 1000 });
    }
    let listener = SocketAddr::new(BALANCER.into(), PORT);
    let text = config::text(&[Listener {
        name: "kernel",
        address: listener,
        layer: "L4",
        datapath: Some("xdp"),
        algorithm: "round_robin",
        servers: pool,
    }]);
    let config = folder.path().join("config.toml");
    std::fs::write(&config, text)?;
    let mut balancer = lab.command(Place::Balancer, deston);
    balancer.env("NO_COLOR", "1");
    balancer.args(["run".as_ref(), "--config".as_ref(), config.as_os_str()]);
    let mut balancer = Running::start(&mut balancer, &folder.path().join("log"))?;

    let client = |requests: u32| {
        let mut client = lab.command(Place::Client, &xtask);
        client.args(["demo-client", &listener.to_string(), &requests.to_string()]);
        client
    };
    // The kernel has no listening socket to look for: the first answer tells.
    wait::until("an answer through the kernel", Duration::from_secs(15), || {
        balancer.must_run()?;
        Ok(command::output(&mut client(1))?.status.success().then_some(()))
    })
    .map_err(|error| balancer.explain(error))?;

    let printed =
        command::text(&mut client(CONNECTIONS)).map_err(|error| balancer.explain(error))?;
    println!("{CONNECTIONS} connections to {listener}, and who answered how often:\n");
    let answers = answers::parse(&printed);
    println!("{}", answers::table(&[("L4 round_robin, datapath xdp", answers.clone())]));

    println!("\nThe kernel's own counters, as deston logs them when it stops:\n");
    for line in balancer.stop()?.lines() {
        println!("  {line}");
    }
    ensure!(answers.values().sum::<u32>() == CONNECTIONS, "not every connection was answered");
    Ok(())
}

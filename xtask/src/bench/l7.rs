//! Layer 7 on loopback: Deston, nginx, HAProxy and no proxy, before the same nginx servers.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::contest::{self, Contender, Started};
use super::load::{Load, Traffic};
use super::peers::{self, Mode};
use super::{Effort, deston_config};
use crate::command;
use crate::process::Running;

const LOADS: [Load; 6] = [
    load("L7, 64 connections, keep-alive", 64, Traffic::KeepAlive, "/"),
    Load { one_processor: true, ..load(ONE, 1, Traffic::KeepAlive, "/") },
    load("L7, 1,024 connections, keep-alive", 1_024, Traffic::KeepAlive, "/"),
    load("L7, a connection for each request, 64 at a time", 64, Traffic::Close, "/"),
    load("L7, bodies of 64 KiB, 64 connections", 64, Traffic::KeepAlive, peers::MIDDLING.0),
    load("L7, bodies of 4 MiB, 16 connections", 16, Traffic::KeepAlive, peers::LONG.0),
];

const ONE: &str = "L7, latency: 1 connection, keep-alive, everything on one processor";

const fn load(title: &'static str, connections: u32, traffic: Traffic, path: &'static str) -> Load {
    Load { title, connections, traffic, path, one_processor: false }
}

/// A listening address and two servers behind it.
pub(super) struct Ports {
    pub(super) listen: SocketAddr,
    pub(super) servers: [SocketAddr; 2],
}

/// Measures and prints.
pub(crate) fn run(deston: &Path, effort: Effort) -> Result<()> {
    let folder = tempfile::tempdir().context("making a folder for configurations")?;
    let folder = folder.path();
    let (servers_folder, peer_folder) = (&folder.join("servers"), &folder.join("peer"));
    let here = |program: &Path| Command::new(program);
    let [own, nginx, haproxy, direct] = free_ports()?;
    let listened: Vec<SocketAddr> =
        [&own, &nginx, &haproxy, &direct].iter().flat_map(|ports| ports.servers).collect();
    let text = peers::server(servers_folder, &listened)?;
    let mut servers = peers::start(&here, "nginx", servers_folder, &text)?;
    servers.accepts(direct.servers[0])?;

    let mut contenders = vec![Contender {
        name: "deston",
        listen: own.listen,
        start: Box::new(move || {
            let config = folder.join("deston.toml");
            std::fs::write(&config, deston_config(own.listen, "L7", None, &own.servers))?;
            let mut command = Command::new(deston);
            command.arg("run").arg("--config").arg(&config);
            let process = Running::start(&mut command, &folder.join("deston.log"))?;
            Ok(Started { process: Some(process), undo: None })
        }),
    }];
    contenders.push(Contender {
        name: "nginx",
        listen: nginx.listen,
        start: Box::new(move || {
            let text = peers::nginx_proxy(peer_folder, nginx.listen, &nginx.servers);
            let process = peers::start(&here, "nginx", peer_folder, &text)?;
            Ok(Started { process: Some(process), undo: None })
        }),
    });
    if command::find("haproxy").is_some() {
        contenders.push(Contender {
            name: "HAProxy",
            listen: haproxy.listen,
            start: Box::new(move || {
                let text = peers::haproxy(Mode::Http, haproxy.listen, &haproxy.servers);
                let process = peers::start(&here, "haproxy", peer_folder, &text)?;
                Ok(Started { process: Some(process), undo: None })
            }),
        });
    }
    contenders.push(Contender {
        name: "no proxy",
        listen: direct.servers[0],
        start: Box::new(|| Ok(Started::default())),
    });
    contest::run(&contenders, &LOADS, &here, &[servers], effort)
}

/// Ports that are free, and different because all are held at once.
pub(super) fn free_ports<const N: usize>() -> Result<[Ports; N]> {
    let mut held = Vec::new();
    let mut free = || -> Result<SocketAddr> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("finding a free port")?;
        let address = listener.local_addr()?;
        held.push(listener);
        Ok(address)
    };
    let mut ports = Vec::new();
    for _ in 0..N {
        ports.push(Ports { listen: free()?, servers: [free()?, free()?] });
    }
    ports.try_into().ok().context("finding free ports")
}

//! Layer 4 through a lab: Deston in the kernel and in userspace, HAProxy, nftables, plain routing.
//!
//! All contenders meet the same links, set as native XDP on a veth needs them; the figures of
//! links with segmentation offload are another class and must not stand beside these.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::contest::{self, Contender, Started};
use super::peers::{self, Mode};
use super::wrk::{Load, Reuse};
use super::{Effort, deston_config};
use crate::command;
use crate::lab::{BALANCER, Lab, Place};
use crate::process::Running;

const LOADS: [Load; 2] = [
    Load { title: "L4, 64 connections, keep-alive", connections: 64, reuse: Reuse::KeepAlive },
    Load {
        title: "L4, a connection for each request, 64 at a time",
        connections: 64,
        reuse: Reuse::Close,
    },
];

const SERVERS: u8 = 2;

/// The ports of the contenders, here and at the servers alike; the namespaces are ours, so they
/// are free.
const XDP: u16 = 8101;
const USERSPACE: u16 = 8102;
const HAPROXY: u16 = 8103;
const NFTABLES: u16 = 8104;
const ROUTING: u16 = 8105;

/// Measures and prints.
pub(crate) fn run(deston: &Path, effort: Effort) -> Result<()> {
    let folder = tempfile::tempdir().context("making a folder for configurations")?;
    let folder = folder.path();
    let peer_folder = &folder.join("peer");
    let lab = Lab::new(SERVERS)?;
    let mut servers = Vec::new();
    for server in 0..SERVERS {
        let own = folder.join(server.to_string());
        let listen = [XDP, USERSPACE, HAPROXY, NFTABLES, ROUTING].map(|port| address(server, port));
        let place = |program: &Path| lab.command(Place::Server(server), program);
        servers.push(peers::start(&place, "nginx", &own, &peers::server(&own, &listen))?);
    }
    let balancer = |program: &Path| lab.command(Place::Balancer, program);
    let client = |program: &Path| lab.command(Place::Client, program);
    let contenders = [
        own("deston xdp", XDP, "xdp", deston, folder, &balancer),
        own("deston userspace", USERSPACE, "userspace", deston, folder, &balancer),
        Contender {
            name: "HAProxy tcp",
            listen: listen(HAPROXY),
            start: Box::new(move || {
                let text = peers::haproxy(Mode::Tcp, listen(HAPROXY), &addresses(HAPROXY));
                let process = peers::start(&balancer, "haproxy", peer_folder, &text)?;
                Ok(Started { process: Some(process), undo: None })
            }),
        },
        Contender {
            name: "nftables DNAT",
            listen: listen(NFTABLES),
            start: Box::new(move || nftables(&balancer)),
        },
        Contender {
            name: "plain routing",
            listen: address(0, ROUTING),
            start: Box::new(|| Ok(Started::default())),
        },
    ];
    contest::run(&contenders, &LOADS, &client, effort)
}

fn own<'a>(
    name: &'static str,
    port: u16,
    datapath: &'static str,
    deston: &'a Path,
    folder: &'a Path,
    balancer: &'a (dyn Fn(&Path) -> Command + 'a),
) -> Contender<'a> {
    let start = move || {
        let config = folder.join(format!("{datapath}.toml"));
        let text = deston_config(listen(port), "L4", Some(datapath), &addresses(port));
        std::fs::write(&config, text)?;
        let mut command = balancer(deston);
        command.arg("run").arg("--config").arg(&config);
        let process = Running::start(&mut command, &config.with_extension("log"))?;
        Ok(Started { process: Some(process), undo: None })
    };
    Contender { name, listen: listen(port), start: Box::new(start) }
}

/// A rule that sends connections to the servers in turn; their answers come back this way.
fn nftables(balancer: &dyn Fn(&Path) -> Command) -> Result<Started> {
    let nft = command::find("nft").context("nft is not installed")?;
    let servers: Vec<String> =
        (0..SERVERS).map(|server| format!("{server} : {}", Lab::server(server))).collect();
    let rules = format!(
        "table ip bench {{ chain prerouting {{ type nat hook prerouting priority dstnat; \
         ip daddr {BALANCER} tcp dport {NFTABLES} dnat to numgen inc mod {SERVERS} map {{ {} }}; \
         }}; }}",
        servers.join(", ")
    );
    command::text(balancer(&nft).arg(rules))?;
    let mut undo = balancer(&nft);
    undo.args(["delete", "table", "ip", "bench"]);
    Ok(Started { process: None, undo: Some(undo) })
}

fn listen(port: u16) -> SocketAddr {
    SocketAddr::new(BALANCER.into(), port)
}

fn address(server: u8, port: u16) -> SocketAddr {
    SocketAddr::new(Lab::server(server).into(), port)
}

fn addresses(port: u16) -> Vec<SocketAddr> {
    (0..SERVERS).map(|server| address(server, port)).collect()
}

//! Layer 4 through a lab: Deston in the kernel and in userspace, HAProxy, nginx, nftables, plain
//! routing.
//!
//! Once over links as native XDP on a veth needs them, and once over links with every offload. All
//! contenders of a table meet the same links; the two kinds must not be compared.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::contest::{self, Contender, Started};
use super::load::{Load, Traffic};
use super::peers::{self, Mode};
use super::{Effort, deston_config};
use crate::command;
use crate::lab::{BALANCER, Lab, Links, Place};
use crate::process::Running;

const LOADS: [Load; 4] = [
    Load {
        title: "64 connections, keep-alive",
        connections: 64,
        traffic: Traffic::KeepAlive,
        path: "/",
        one_processor: false,
    },
    Load {
        title: "a connection for each request, 64 at a time",
        connections: 64,
        traffic: Traffic::Close,
        path: "/",
        one_processor: false,
    },
    Load {
        title: "bulk, 4 connections",
        connections: 4,
        traffic: Traffic::Bulk,
        path: "/",
        one_processor: false,
    },
    Load {
        title: "latency: 1 connection, keep-alive, everything on one processor",
        connections: 1,
        traffic: Traffic::KeepAlive,
        path: "/",
        one_processor: true,
    },
];

const SERVERS: u8 = 2;

/// The ports of the contenders, here and at the servers alike; the namespaces are ours, so they
/// are free.
const KERNEL: u16 = 8101;
const USERSPACE: u16 = 8102;
const HAPROXY: u16 = 8103;
const NFTABLES: u16 = 8104;
const ROUTING: u16 = 8105;
const NGINX: u16 = 8106;

/// Measures and prints.
pub(crate) fn run(deston: &Path, effort: Effort) -> Result<()> {
    println!("\n## Layer 4, XDP, links without segmentation offload");
    over(Links::NativeXdp, "deston xdp", "xdp", deston, effort)?;
    println!("\n## Layer 4, TC, links with every offload");
    over(Links::Offloads, "deston tc", "tc", deston, effort)
}

/// Measures over one kind of links; `name` is Deston with the `datapath` that these are for.
fn over(
    links: Links,
    name: &'static str,
    datapath: &'static str,
    deston: &Path,
    effort: Effort,
) -> Result<()> {
    let folder = tempfile::tempdir().context("making a folder for configurations")?;
    let folder = folder.path();
    let peer_folder = &folder.join("peer");
    let lab = Lab::new(SERVERS, links)?;
    let mut servers = Vec::new();
    for server in 0..SERVERS {
        let own = folder.join(server.to_string());
        let ports = [KERNEL, USERSPACE, HAPROXY, NFTABLES, ROUTING, NGINX];
        let listen = ports.map(|port| address(server, port));
        let place = |program: &Path| lab.command(Place::Server(server), program);
        servers.push(peers::start(&place, "nginx", &own, &peers::server(&own, &listen)?)?);
    }
    let balancer = |program: &Path| lab.command(Place::Balancer, program);
    let client = |program: &Path| lab.command(Place::Client, program);
    let contenders = [
        own(name, KERNEL, datapath, deston, folder, &balancer),
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
            name: "nginx stream",
            listen: listen(NGINX),
            start: Box::new(move || {
                let text = peers::nginx_stream(peer_folder, listen(NGINX), &addresses(NGINX));
                let process = peers::start(&balancer, "nginx", peer_folder, &text)?;
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
    contest::run(&contenders, &LOADS, &client, &servers, effort)
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

//! The host's routes, in a network namespace of the run's own: to some clients there is a way, to
//! others none, and the programs ask the kernel.

use std::fs;
use std::net::IpAddr;
use std::process::{Command, Stdio};

use super::super::settings::Hop;

/// The device that leads to clients.
const DEVICE: &str = "clients";
/// Its far end, where nobody listens.
const FAR: &str = "far";
const MAC: [u8; 6] = [2, 0, 0, 0, 5, 0];

/// The way to a client that the host has a route and a neighbour for.
pub(in crate::model) fn hop(client: IpAddr) -> Hop {
    let last = match client {
        IpAddr::V4(v4) => v4.octets()[3],
        IpAddr::V6(v6) => v6.octets()[15],
    };
    // The interface cannot be seen in a test run.
    Hop { ifindex: 2, source: MAC, destination: [2, 0, 0, 0, 6, last], ..Hop::default() }
}

/// Makes a device that leads to those clients; says whether that worked, which needs `ip`.
pub(super) fn make(clients: &[IpAddr]) -> bool {
    let mut all = ip(&["link", "set", "lo", "up"])
        && ip(&["link", "add", DEVICE, "address", &told(MAC), "type", "veth", "peer", "name", FAR])
        // At TC the kernel checks the length too; ours are all shorter.
        && ip(&["link", "set", DEVICE, "mtu", "9000", "up"])
        && ip(&["link", "set", FAR, "up"]);
    for family in ["ipv4", "ipv6"] {
        all &= fs::write(format!("/proc/sys/net/{family}/conf/lo/forwarding"), "1").is_ok();
    }
    for client in clients {
        let (address, neighbour) = (client.to_string(), told(hop(*client).destination));
        all &= ip(&["route", "add", &address, "dev", DEVICE])
            && ip(&["neigh", "add", &address, "lladdr", &neighbour, "dev", DEVICE]);
    }
    all
}

fn ip(arguments: &[&str]) -> bool {
    let ran = Command::new("ip").args(arguments).stderr(Stdio::null()).status();
    ran.is_ok_and(|status| status.success())
}

fn told(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

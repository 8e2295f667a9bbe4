//! A throw-away network: client, balancer and servers, each in a namespace of its own.
//!
//! ```text
//! client 198.51.100.10 ---- 198.51.100.1 balancer 203.0.113.1 ---- 203.0.113.2 first server
//!                                                 203.0.113.5 ---- 203.0.113.6 second server
//! ```
//! The devices are made inside the namespaces, so the machine's own network never sees one; the
//! addresses are those kept for documentation (RFC 5737). Dropping the lab removes it all.

use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command;

/// Where the client is.
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
/// The balancer's address on the client's side; listeners are on it.
pub(crate) const BALANCER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// A namespace's part in the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Client,
    Balancer,
    Server(u8),
}

/// How the links are set; figures of one kind must not stand beside those of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    /// As native XDP on a veth needs them: far ends poll, and compute checksums themselves, which
    /// switches segmentation offload off.
    NativeXdp,
    /// As the kernel makes them, with every offload.
    Offloads,
}

/// The namespaces; dropping them removes the devices in them too.
pub(crate) struct Lab {
    prefix: String,
    places: Vec<Place>,
    links: Links,
}

impl Lab {
    /// Makes the namespaces and their links.
    pub(crate) fn new(servers: u8, links: Links) -> Result<Self> {
        for program in ["ip", "ethtool"] {
            if command::find(program).is_none() {
                bail!("{program} is missing: install the package that has it (iproute2, ethtool)");
            }
        }
        let prefix = format!("deston-{}", std::process::id());
        let mut lab = Self { prefix, places: Vec::new(), links };
        lab.add(Place::Balancer)?;
        lab.add(Place::Client)?;
        lab.join(Place::Client)?;
        for server in 0..servers {
            lab.add(Place::Server(server))?;
            lab.join(Place::Server(server))?;
        }
        lab.set(Place::Balancer, "net/ipv4/ip_forward", "1")?;
        lab.set(Place::Balancer, "net/ipv4/conf/all/rp_filter", "0")?;
        lab.set(Place::Balancer, "net/ipv4/conf/default/rp_filter", "0")?;
        Ok(lab)
    }

    /// The address of a server.
    pub(crate) fn server(server: u8) -> Ipv4Addr {
        Ipv4Addr::new(203, 0, 113, server * 4 + 2)
    }

    /// A program that runs in a namespace; it has the process id of the command itself.
    pub(crate) fn command(&self, place: Place, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = command::of("ip", ["netns", "exec", &self.name(place)]);
        command.arg(program);
        command
    }

    fn add(&mut self, place: Place) -> Result<()> {
        let name = self.name(place);
        ip(&format!("netns add {name}")).context("making a network namespace")?;
        self.places.push(place);
        ip(&format!("-n {name} link set lo up"))?;
        // Two runs are compared only if both ends of a connection behave alike on every machine.
        self.set(place, "net/ipv4/tcp_congestion_control", "reno")
    }

    /// Links a namespace with the balancer; at both ends the device has the name of the far end.
    fn join(&self, place: Place) -> Result<()> {
        let (device, near, far, bits) = match place {
            Place::Client => ("client".to_owned(), BALANCER, CLIENT, 24),
            Place::Balancer => return Ok(()),
            Place::Server(server) => {
                let far = Self::server(server);
                let near = Ipv4Addr::from_bits(far.to_bits() - 1);
                (format!("server{server}"), near, far, 30)
            }
        };
        let (here, there) = (self.name(Place::Balancer), self.name(place));
        ip(&format!("link add {device} netns {here} type veth peer name balancer netns {there}"))?;
        for (name, device, address) in [(&here, &*device, near), (&there, "balancer", far)] {
            ip(&format!("-n {name} address add {address}/{bits} dev {device}"))?;
            ip(&format!("-n {name} link set {device} up"))?;
        }
        ip(&format!("-n {there} route add default via {near}"))?;
        if self.links == Links::Offloads {
            return Ok(());
        }
        // Native XDP hands frames to a veth's far end only if that polls (gro), and drops the
        // checksums that the far end leaves to its device (tx).
        let mut ethtool = self.command(place, "ethtool");
        command::text(ethtool.args(["-K", "balancer", "tx", "off", "gro", "on"])).map(drop)
    }

    /// Writes a kernel parameter of a namespace.
    pub(crate) fn set(&self, place: Place, key: &str, value: &str) -> Result<()> {
        let mut shell = self.command(place, "sh");
        shell.args(["-c", &format!("echo {value} >/proc/sys/{key}")]);
        command::text(&mut shell).map(drop)
    }

    fn name(&self, place: Place) -> String {
        match place {
            Place::Client => format!("{}-client", self.prefix),
            Place::Balancer => format!("{}-balancer", self.prefix),
            Place::Server(server) => format!("{}-server{server}", self.prefix),
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for place in &self.places {
            if let Err(error) = ip(&format!("netns delete {}", self.name(*place))) {
                eprintln!("left behind: {error:#}");
            }
        }
    }
}

fn ip(arguments: &str) -> Result<()> {
    command::text(&mut command::of("ip", arguments.split_whitespace())).map(drop)
}

//! The far end of an IP tunnel as a server's administrator sets it up.

use std::net::IpAddr;

use super::{Namespace, TunnelEnd};

/// The variable that says that the kernel has tunnel devices, so that specs have to use them.
const DEVICES: &str = "DESTON_TUNNEL_DEVICES";

/// What takes packets out of their outer header on a host; they enter by the device `tunnel`.
pub enum FarEnd {
    /// The kernel's own device.
    Device,
    /// A program, for a kernel that has no such device.
    Program(TunnelEnd),
}

impl FarEnd {
    /// The name of the device by which packets enter.
    pub const DEVICE: &str = "tunnel";

    /// Sets up the end of tunnels to an address of the host: the kernel's device if
    /// `DESTON_TUNNEL_DEVICES=1` says that there is one, which is then not done without.
    pub fn start(host: &Namespace, local: IpAddr) -> Self {
        if std::env::var_os(DEVICES).is_none_or(|value| value != "1") {
            return Self::Program(TunnelEnd::start(host));
        }
        let kind = if local.is_ipv4() { "ipip" } else { "ip6tnl mode any" };
        host.batch(&[
            format!("link add {} type {kind} local {local} remote any", Self::DEVICE),
            format!("link set {} up", Self::DEVICE),
        ]);
        Self::Device
    }

    /// What it is, for whoever reads what a spec did.
    pub fn what(&self) -> &'static str {
        match self {
            Self::Device => "the kernel's tunnel device",
            Self::Program(_) => "a program in place of a tunnel device",
        }
    }
}

//! Whether the kernel can carry a listener, by which interfaces, and if not, why.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::host::{Host, HostError, Link, Route};
use crate::model::{DatapathChoice, Forwarding, L4, Listener, Ports, XdpMode};

/// The oldest kernel that this build is meant for.
const OLDEST: (u32, u32) = (6, 1);

/// How the kernel carries a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    clients: Vec<Link>,
    servers: Vec<Link>,
}

impl Plan {
    /// Interfaces that clients' packets come in by.
    pub(super) fn clients(&self) -> impl Iterator<Item = &Link> {
        self.clients.iter()
    }

    /// Interfaces that clients' and servers' packets come in by.
    pub(super) fn links(&self) -> impl Iterator<Item = &Link> {
        self.clients.iter().chain(&self.servers)
    }
}

/// Why the kernel cannot carry a listener, or should not.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// Too old a kernel.
    #[error("Linux {0} is too old: the kernel datapath needs {major}.{minor}", major = OLDEST.0, minor = OLDEST.1)]
    OldKernel(String),
    /// Not allowed to load programs.
    #[error("it needs root, or the capabilities CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON")]
    NotPrivileged,
    /// Requests are not balanced in the kernel.
    #[error("only layer 4 is carried by the kernel")]
    NotLayer4,
    /// A setting that the programs cannot carry out.
    #[error("{0} is not available in this version")]
    NotYet(&'static str),
    /// IPv6 comes later.
    #[error("{0} is not an IPv4 address")]
    NotIpv4(IpAddr),
    /// Loopback traffic never meets XDP.
    #[error("{0} is a loopback address")]
    Loopback(IpAddr),
    /// The listener is on all addresses.
    #[error("the listener is on every address; name one")]
    Wildcard,
    /// The server is the host itself.
    #[error("server {0} is on this host")]
    LocalServer(Ipv4Addr),
    /// No route to the server.
    #[error("there is no route to server {0}")]
    NoRoute(Ipv4Addr),
    /// No interface holds the listener's address and none is configured.
    #[error("no interface has the address {0}; set `interfaces`")]
    AddressNotHere(Ipv4Addr),
    /// No such interface.
    #[error("there is no interface `{0}`")]
    NoInterface(String),
    /// XDP on veth would switch off segmentation offload for everybody.
    #[error("{0} is a veth, where XDP would lose segmentation offload")]
    Veth(String),
    /// An interface without Ethernet addresses.
    #[error("{0} is not an Ethernet interface")]
    NotEthernet(String),
    /// The host could not be asked.
    #[error(transparent)]
    Host(#[from] HostError),
}

/// Whether `auto` asks, which takes the kernel only where it is the better choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// `datapath = "auto"`.
    Auto,
    /// `datapath = "xdp"`.
    Explicitly,
}

/// Plans a listener.
pub(super) async fn plan(
    host: &Host,
    listener: &Listener,
    l4: &L4,
    servers: &[SocketAddr],
    asked: Asked,
    mode: XdpMode,
) -> Result<Plan, Reason> {
    check_kernel()?;
    check_settings(listener, l4)?;
    let address = routable(listener.address.ip())?;
    if address.is_unspecified() {
        return Err(Reason::Wildcard);
    }

    let mut plan = Plan { clients: Vec::new(), servers: Vec::new() };
    if l4.interfaces.is_empty() {
        let link = host.link_with(address).await?.ok_or(Reason::AddressNotHere(address))?;
        plan.clients.push(link);
    }
    for name in &l4.interfaces {
        let link = host.link_named(name).await?;
        plan.clients.push(link.ok_or_else(|| Reason::NoInterface(name.clone()))?);
    }
    for server in servers {
        let server = routable(server.ip())?;
        match host.route(server).await? {
            Route::Local => return Err(Reason::LocalServer(server)),
            Route::Unreachable => return Err(Reason::NoRoute(server)),
            Route::Out(path) => plan.servers.push(path.link),
        }
    }
    for link in plan.links() {
        check_link(link, asked, mode)?;
    }
    // Last: what no privilege would mend is the better thing to know.
    check_privileges()?;
    Ok(plan)
}

/// Refuses what the programs cannot carry out.
fn check_settings(listener: &Listener, l4: &L4) -> Result<(), Reason> {
    let lacking = match l4.forwarding {
        Forwarding::Nat => None,
        Forwarding::Dnat => Some("dnat"),
        Forwarding::DsrL2 => Some("dsr-l2"),
        Forwarding::DsrIpip => Some("dsr-ipip"),
    };
    let asked = [
        (l4.datapath == DatapathChoice::Tc, "tc"),
        (listener.ports() == Ports::Any, "`port = 0`"),
        (!listener.guard.is_open(), "a guard in the kernel"),
        (!l4.snat_ips.is_empty(), "`snat_ips`"),
        (l4.one_packet, "`one_packet`"),
    ];
    let first = asked.into_iter().find_map(|(asked, what)| asked.then_some(what));
    lacking.or(first).map_or(Ok(()), |what| Err(Reason::NotYet(what)))
}

/// Whether the program can be of use on an interface.
pub(super) fn check_link(link: &Link, asked: Asked, mode: XdpMode) -> Result<(), Reason> {
    if link.is_loopback || link.mac == deston_common::net::Mac::default() {
        return Err(Reason::NotEthernet(link.name.clone()));
    }
    if link.is_veth && asked == Asked::Auto && mode == XdpMode::Native {
        return Err(Reason::Veth(link.name.clone()));
    }
    Ok(())
}

fn routable(address: IpAddr) -> Result<Ipv4Addr, Reason> {
    match address {
        IpAddr::V4(v4) if v4.is_loopback() => Err(Reason::Loopback(address)),
        IpAddr::V4(v4) => Ok(v4),
        IpAddr::V6(v6) if v6.is_loopback() => Err(Reason::Loopback(address)),
        IpAddr::V6(_) => Err(Reason::NotIpv4(address)),
    }
}

fn check_kernel() -> Result<(), Reason> {
    let release = nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default();
    if version(&release) < Some(OLDEST) {
        return Err(Reason::OldKernel(release));
    }
    Ok(())
}

/// Whether this process may load programs and attach them to interfaces.
fn check_privileges() -> Result<(), Reason> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if may_load(&status) { Ok(()) } else { Err(Reason::NotPrivileged) }
}

/// Reads the effective capabilities of /proc/PID/status (capabilities(7)).
fn may_load(status: &str) -> bool {
    const NET_ADMIN: u64 = 1 << 12;
    const SYS_ADMIN: u64 = 1 << 21;
    const PERFMON: u64 = 1 << 38;
    const BPF: u64 = 1 << 39;
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    let has = |wanted: u64| effective & wanted == wanted;
    has(NET_ADMIN) && (has(BPF | PERFMON) || has(SYS_ADMIN))
}

/// Major and minor number of a kernel release such as "6.1.0-56-amd64".
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_are_compared_by_number() {
        assert!(version("6.1.0-56-cloud-amd64") >= Some(OLDEST));
        assert!(version("6.18.44") >= Some(OLDEST));
        assert!(version("5.15.0") < Some(OLDEST));
        assert!(version("garbage") < Some(OLDEST));
    }

    #[test]
    fn loading_takes_the_capabilities_for_programs_and_interfaces() {
        let may = |effective| may_load(&format!("Name:\tdeston\nCapEff:\t{effective}\n"));
        assert!(may("000001ffffffffff"));
        assert!(may("000000c000001000"), "bpf, perfmon and net_admin");
        assert!(may("0000000000201000"), "sys_admin and net_admin");
        assert!(!may("000000c000000000"), "without net_admin");
        assert!(!may("0000000000001000"), "net_admin alone");
        assert!(!may("0000000000000000"));
        assert!(!may_load(""));
    }
}

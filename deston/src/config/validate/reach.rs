//! Whether packets of a layer 4 listener can reach its servers as it asks: what the kernel alone
//! does, which ports can be changed, and which address families go together.

use std::net::IpAddr;

use super::pools::{self, ServerDraft};
use crate::config::file;
use crate::config::problem::{Problem, Problems, Span};
use crate::model::{DatapathChoice, Forwarding, ServerPort};

/// Reports every combination that cannot work.
pub(super) fn check(
    file: &file::Listener,
    ip: Option<IpAddr>,
    pool: Option<&pools::Draft<'_>>,
    problems: &Problems,
) {
    check_userspace(file, problems);
    check_loopback_interface(file, ip, problems);
    check_any_port(file, ip, problems);
    let (Some(forwarding), Some(ip)) = (file.forwarding.or(Forwarding::Nat), ip) else { return };
    check_sources(file, forwarding, ip, problems);
    if let Some(pool) = pool {
        check_families(file, forwarding, ip, pool, problems);
        check_loopback(file, forwarding, ip, pool, problems);
        check_ports(file, forwarding, pool, problems);
    }
}

/// What the kernel alone does cannot be asked of userspace.
fn check_userspace(file: &file::Listener, problems: &Problems) {
    let userspace = file.datapath.given().filter(|at| at.value == DatapathChoice::Userspace);
    let Some(datapath) = userspace else { return };
    let forwarding = file.forwarding.given().filter(|at| at.value != Forwarding::Nat);
    let any_port = file.port.given().filter(|at| at.value == 0);
    let one_packet = file.flows.one_packet.given().filter(|at| at.value);
    let asked = [
        forwarding.map(|at| (format!("`forwarding = \"{}\"`", at.value), at.span.clone())),
        any_port.map(|at| ("`port = 0`".to_owned(), at.span.clone())),
        one_packet.map(|at| ("`one_packet`".to_owned(), at.span.clone())),
    ];
    for (what, span) in asked.into_iter().flatten() {
        let message = format!("{what} needs the kernel, and this listener's datapath is userspace");
        problems.add(
            Problem::at(span, message)
                .see(Some(datapath.span.clone()), "the datapath")
                .help("write `datapath = \"auto\"`"),
        );
    }
}

/// Every port of an address would be taken from whoever else is there.
fn check_any_port(file: &file::Listener, ip: Option<IpAddr>, problems: &Problems) {
    let Some(at) = file.port.given().filter(|at| at.value == 0) else { return };
    let Some(ip) = ip.filter(|ip| ip.is_unspecified() || ip.is_loopback()) else { return };
    let message = format!("`port = 0` takes every port, and {ip} is not for this listener alone");
    problems.add(
        Problem::at(at.span.clone(), message)
            .see(file.address.span(), "this address")
            .help("give the listener an address of its own, or a port"),
    );
}

/// Source addresses and ports are used where the source is translated.
fn check_sources(file: &file::Listener, forwarding: Forwarding, ip: IpAddr, problems: &Problems) {
    let addresses = file.snat_ips.given();
    let keys = [
        ("snat_ips", addresses.filter(|at| !at.value.is_empty()).map(|at| at.key.clone())),
        ("snat_ports", file.snat_ports.given().map(|at| at.key.clone())),
    ];
    if forwarding != Forwarding::Nat {
        for (key, span) in keys {
            let Some(span) = span else { continue };
            let message = format!("`{key}` is for nat: `{forwarding}` keeps the client's address");
            problems.add(
                Problem::at(span, message)
                    .see(file.forwarding.span(), "the forwarding")
                    .help("remove it"),
            );
        }
        return;
    }
    let Some(at) = addresses else { return };
    if let Some(other) = at.value.iter().find(|address| address.is_ipv4() != ip.is_ipv4()) {
        let message = format!("`snat_ips` has {other}, and the listener's address is {ip}");
        problems.add(
            Problem::at(at.span.clone(), message)
                .help(format!("write {} addresses alone", family(ip))),
        );
    }
}

fn check_families(
    file: &file::Listener,
    forwarding: Forwarding,
    ip: IpAddr,
    pool: &pools::Draft<'_>,
    problems: &Problems,
) {
    // Userspace connects to servers of either family.
    let Some((asks, span)) = asks_kernel(file, forwarding) else { return };
    let cannot = |draft: &&ServerDraft| match forwarding {
        Forwarding::Nat | Forwarding::Dnat | Forwarding::DsrL2 => {
            draft.server.address.is_ipv4() != ip.is_ipv4()
        }
        // An IPv4 packet goes into an IPv6 one, and not the other way round.
        Forwarding::DsrIpip => ip.is_ipv6() && draft.server.address.is_ipv4(),
    };
    if let Some(draft) = pool.servers.iter().find(cannot) {
        let server = draft.server.address.ip();
        let (ours, theirs) = (family(ip), family(server));
        let message = format!(
            "{asks} cannot carry {ours} to an {theirs} server: the listener has {ip}, the server \
             {server}"
        );
        problems.add(Problem::near(span, message).see(draft.span.clone(), "this server"));
    }
}

/// Packets of the loopback interface never meet XDP.
fn check_loopback_interface(file: &file::Listener, ip: Option<IpAddr>, problems: &Problems) {
    let xdp = file.datapath.given().filter(|at| at.value == DatapathChoice::Xdp);
    let (Some(at), Some(ip)) = (xdp, ip.filter(IpAddr::is_loopback)) else { return };
    let message = format!("the loopback interface, which has {ip}, has no XDP");
    problems.add(
        Problem::at(at.span.clone(), message)
            .see(file.address.span(), "this address")
            .help("write `datapath = \"auto\"` or \"tc\""),
    );
}

/// A packet between the loopback interface and another is dropped by the host as one from Mars
/// (RFC 1812, section 5.3.7), so the kernel datapath does not carry it there.
fn check_loopback(
    file: &file::Listener,
    forwarding: Forwarding,
    ip: IpAddr,
    pool: &pools::Draft<'_>,
    problems: &Problems,
) {
    // Every port of a loopback address is refused already, as is the kernel's work in userspace.
    let refused = file.port.given().is_some_and(|at| at.value == 0)
        || file.datapath.given().is_some_and(|at| at.value == DatapathChoice::Userspace);
    let Some((asks, span)) = asks_kernel(file, forwarding).filter(|_| !refused) else { return };
    // A listener on every address too: packets for it come in by other interfaces.
    let differs =
        |draft: &&ServerDraft| draft.server.address.ip().is_loopback() != ip.is_loopback();
    let Some(draft) = pool.servers.iter().find(differs) else { return };
    let server = draft.server.address.ip();
    let message = format!(
        "{asks} cannot carry packets between loopback and other addresses: the listener has {ip}, \
         the server {server}"
    );
    problems.add(
        Problem::near(span, message)
            .see(draft.span.clone(), "this server")
            .help("write an address of the server that clients' packets can be sent to"),
    );
}

/// What asks for the kernel datapath, and where, if the listener is served by nothing else.
pub(super) fn asks_kernel(
    file: &file::Listener,
    forwarding: Forwarding,
) -> Option<(String, Option<Span>)> {
    let kernel = file.datapath.given().filter(|at| match at.value {
        DatapathChoice::Xdp | DatapathChoice::Tc => true,
        DatapathChoice::Auto | DatapathChoice::Userspace => false,
    });
    let any_port = file.port.given().is_some_and(|at| at.value == 0);
    let one_packet = file.flows.one_packet.given().is_some_and(|at| at.value);
    match (forwarding, kernel) {
        // Userspace serves it as well.
        (Forwarding::Nat, None) if !any_port && !one_packet => None,
        (Forwarding::Nat, Some(at)) => {
            Some((format!("datapath `{}`", at.value), Some(at.span.clone())))
        }
        (Forwarding::Nat, None) => Some(("the kernel datapath".to_owned(), file.header.clone())),
        (Forwarding::Dnat | Forwarding::DsrL2 | Forwarding::DsrIpip, _) => {
            Some((format!("`{forwarding}`"), file.forwarding.span()))
        }
    }
}

fn family(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// A server that answers clients itself sees the port that they asked for.
fn check_ports(
    file: &file::Listener,
    forwarding: Forwarding,
    pool: &pools::Draft<'_>,
    problems: &Problems,
) {
    let Some(port) = file.port.or(super::DEFAULT_PORT).filter(|_| forwarding.is_direct_return())
    else {
        return;
    };
    for draft in &pool.servers {
        match draft.server.port() {
            ServerPort::One(other) if other != port => problems.add(
                Problem::near(
                    draft.port_span.clone(),
                    format!(
                        "`{forwarding}` cannot change the port: the listener has {port}, and this \
                         server {other}"
                    ),
                )
                .see(file.port.span().or(file.header.clone()), "the listener")
                .help(format!("write `port = {port}`")),
            ),
            ServerPort::One(_) | ServerPort::Kept => {}
        }
    }
}

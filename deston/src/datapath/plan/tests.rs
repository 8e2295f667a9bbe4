//! Plans on paper.

use std::collections::BTreeMap;

use deston_common::net::Mac;

use super::*;
use crate::datapath::host::{Address, Device, Peer, Way};

const NIC: u32 = 2;
const OTHER_NIC: u32 = 3;
const VETH: u32 = 4;
const TUNNEL: u32 = 5;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn network() -> Network {
    let device = |(index, name, kind): (u32, &str, Kind)| {
        let mac = Mac::from_octets([2, 0, 0, 0, 0, index as u8]);
        let device = Device {
            index,
            name: name.to_owned(),
            mac,
            mtu: 1500,
            kind,
            vlan: None,
            peer: Peer::None,
            xdp_program: None,
        };
        (index, device)
    };
    let devices: BTreeMap<u32, Device> = [
        (1, "lo", Kind::Loopback),
        (NIC, "nic", Kind::Ethernet),
        (OTHER_NIC, "other", Kind::Ethernet),
        (VETH, "veth", Kind::Veth),
        (TUNNEL, "tun", Kind::Other),
    ]
    .map(device)
    .into();
    let address =
        |(text, device): (&str, u32)| Address { address: ip(text), device, is_global: device != 1 };
    let addresses = [
        ("127.0.0.1", 1),
        ("::1", 1),
        ("203.0.113.99", 1),
        ("192.0.2.1", NIC),
        ("2001:db8::1", NIC),
        ("198.51.100.1", VETH),
    ];
    Network { devices, addresses: addresses.map(address).into(), neighbours: BTreeMap::new() }
}

fn out(server: &str, device: u32) -> (IpAddr, Route) {
    (ip(server), Route::Out(way(server, device)))
}

fn local(server: &str) -> (IpAddr, Route) {
    (ip(server), Route::Local(way(server, 1)))
}

fn way(next_hop: &str, device: u32) -> Way {
    let next_hop = ip(next_hop);
    Way { device, source: next_hop, next_hop, mtu: None }
}

fn question(address: &str, role: Role, wanted: Wanted) -> Question<'static> {
    Question {
        address: ip(address),
        interfaces: &[],
        any_port: false,
        role,
        wanted,
        mode: XdpMode::Native,
    }
}

fn nat(address: &str, wanted: Wanted) -> Question<'static> {
    question(address, Role::Balance(Forwarding::Nat), wanted)
}

/// A plan on a host whose NICs have native XDP.
fn decide(question: &Question<'_>, servers: &[(IpAddr, Route)]) -> Result<Plan, Reason> {
    decide_with(question, servers, NativeXdp::Yes)
}

fn decide_with(
    question: &Question<'_>,
    servers: &[(IpAddr, Route)],
    native: NativeXdp,
) -> Result<Plan, Reason> {
    let default = Route::Out(way("192.0.2.254", NIC));
    let survey = Survey { network: network(), servers: servers.to_vec(), default };
    plan(question, &survey, |_| native)
}

/// The hook, the interfaces, and why it is not XDP.
fn told(plan: Result<Plan, Reason>) -> String {
    let plan = match plan {
        Ok(plan) => plan,
        Err(reason) => return format!("no: {reason}"),
    };
    let names = |links: &[Link]| {
        let names: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
        names.join("+")
    };
    let why = plan.why_not_xdp.map_or(String::new(), |reason| format!("; {reason}"));
    format!("{:?} {} to {}{why}", plan.hook, names(&plan.clients), names(&plan.servers))
}

#[test]
fn native_xdp_on_every_interface_is_the_best() {
    let servers = [out("192.0.2.11", NIC), out("198.51.100.7", OTHER_NIC), out("192.0.2.12", NIC)];
    let plan = decide(&nat("192.0.2.1", Wanted::Best), &servers);
    assert_eq!(told(plan), "Xdp nic to nic+other");
}

#[test]
fn ipv6_is_planned_as_ipv4_is() {
    let plan = decide(&nat("2001:db8::1", Wanted::Best), &[out("2001:db8::11", OTHER_NIC)]);
    assert_eq!(told(plan), "Xdp nic to other");
}

#[test]
fn a_veth_on_the_way_means_tc_and_the_reason_is_told() {
    let servers = [out("198.51.100.7", VETH)];
    let plan = decide(&nat("192.0.2.1", Wanted::Best), &servers);
    let why = "veth is a veth, where XDP would lose segmentation offload";
    assert_eq!(told(plan), format!("Tc nic to veth; {why}"));
    let plan = decide(&nat("192.0.2.1", Wanted::Only(Hook::Xdp)), &servers);
    assert_eq!(told(plan), "Xdp nic to veth", "who asks for it gets it");
}

#[test]
fn a_driver_without_native_xdp_means_tc_or_an_error() {
    let servers = [out("192.0.2.11", NIC)];
    let auto = decide_with(&nat("192.0.2.1", Wanted::Best), &servers, NativeXdp::No);
    assert_eq!(told(auto), "Tc nic to nic; nic has no native XDP");
    let xdp = nat("192.0.2.1", Wanted::Only(Hook::Xdp));
    assert_eq!(told(decide_with(&xdp, &servers, NativeXdp::No)), "no: nic has no native XDP");
    assert_eq!(
        told(decide_with(&xdp, &servers, NativeXdp::Unknown)),
        "Xdp nic to nic",
        "it is tried"
    );
    let generic = Question { mode: XdpMode::Generic, ..xdp };
    assert_eq!(told(decide_with(&generic, &servers, NativeXdp::No)), "Xdp nic to nic");
}

#[test]
fn tc_that_is_asked_for_needs_no_reason() {
    let plan = decide(&nat("192.0.2.1", Wanted::Only(Hook::Tc)), &[out("192.0.2.11", NIC)]);
    assert_eq!(told(plan), "Tc nic to nic");
}

#[test]
fn all_on_loopback_is_carried_at_tc() {
    let servers = [local("127.0.0.1"), local("127.0.0.2")];
    let why = "lo is a loopback interface, which has TC and no XDP";
    let plan = decide(&nat("127.0.0.1", Wanted::Best), &servers);
    assert_eq!(told(plan), format!("Tc lo to lo; {why}"));
    let plan = decide(&nat("::1", Wanted::Only(Hook::Tc)), &[local("::1")]);
    assert_eq!(told(plan), "Tc lo to lo");
    let plan = decide(&nat("127.0.0.1", Wanted::Only(Hook::Xdp)), &servers);
    assert_eq!(told(plan), format!("no: {why}"));
}

#[test]
fn half_on_this_host_is_for_userspace() {
    let cases = [
        ("192.0.2.1", local("127.0.0.1"), "server 127.0.0.1 is a loopback address"),
        ("192.0.2.1", local("192.0.2.1"), "server 192.0.2.1 is on this host"),
        ("0.0.0.0", local("127.0.0.1"), "server 127.0.0.1 is a loopback address"),
        ("127.0.0.1", out("192.0.2.11", NIC), "and server 192.0.2.11 is not"),
        ("127.0.0.1", local("192.0.2.1"), "and server 192.0.2.1 is not"),
    ];
    for (listener, server, reason) in cases {
        let plan = told(decide(&nat(listener, Wanted::Best), std::slice::from_ref(&server)));
        assert!(plan.starts_with("no: ") && plan.contains(reason), "{listener} {server:?}: {plan}");
    }
}

#[test]
fn what_no_packet_can_reach_is_told() {
    let unreachable = (ip("192.0.2.7"), Route::Unreachable);
    let cases = [
        ("192.0.2.1", unreachable, "there is no route to server 192.0.2.7"),
        ("192.0.2.1", out("2001:db8::11", NIC), "are not of one family"),
        ("192.0.2.1", out("192.0.2.11", TUNNEL), "tun is not an Ethernet interface"),
        ("203.0.113.7", out("192.0.2.11", NIC), "no interface has the address 203.0.113.7"),
        ("203.0.113.99", out("192.0.2.11", NIC), "the loopback interface has the address"),
    ];
    for (listener, server, reason) in cases {
        let plan = told(decide(&nat(listener, Wanted::Best), std::slice::from_ref(&server)));
        assert!(plan.starts_with("no: ") && plan.contains(reason), "{listener} {server:?}: {plan}");
    }
}

#[test]
fn every_port_is_taken_of_a_dedicated_address_alone() {
    let names = ["nic".to_owned()];
    let asks =
        |address| Question { interfaces: &names, any_port: true, ..nat(address, Wanted::Best) };
    let servers = [out("192.0.2.11", NIC)];
    assert_eq!(told(decide(&asks("203.0.113.7"), &servers)), "Xdp nic to nic");
    let plan = told(decide(&asks("192.0.2.1"), &servers));
    assert!(plan.starts_with("no: `port = 0` takes every port, and 192.0.2.1 is"), "{plan}");
}

#[test]
fn named_interfaces_are_where_clients_come_in() {
    let names = ["other".to_owned()];
    let asks = Question { interfaces: &names, ..nat("203.0.113.7", Wanted::Best) };
    assert_eq!(told(decide(&asks, &[out("192.0.2.11", NIC)])), "Xdp other to nic");
    let names = ["nic9".to_owned()];
    let asks = Question { interfaces: &names, ..asks };
    let plan = told(decide(&asks, &[out("192.0.2.11", NIC)]));
    assert_eq!(plan, "no: there is no interface `nic9`");
}

#[test]
fn on_every_address_clients_come_in_by_the_default_route_and_beside_the_servers() {
    let plan = decide(&nat("0.0.0.0", Wanted::Best), &[out("198.51.100.7", OTHER_NIC)]);
    assert_eq!(told(plan), "Xdp nic+other to other");
}

#[test]
fn direct_return_on_the_link_needs_servers_on_the_link() {
    let question = |forwarding| question("192.0.2.1", Role::Balance(forwarding), Wanted::Best);
    let beyond = (ip("203.0.113.11"), Route::Out(way("192.0.2.254", NIC)));
    let plan = told(decide(&question(Forwarding::DsrL2), std::slice::from_ref(&beyond)));
    assert!(plan.contains("203.0.113.11 is behind a router"), "{plan}");
    assert_eq!(told(decide(&question(Forwarding::DsrIpip), &[beyond])), "Xdp nic to nic");
    let tunnel = [out("2001:db8::11", NIC)];
    assert_eq!(told(decide(&question(Forwarding::DsrIpip), &tunnel)), "Xdp nic to nic");
}

#[test]
fn a_guard_needs_no_servers() {
    let guard = |address| question(address, Role::Guard, Wanted::Best);
    assert_eq!(told(decide(&guard("192.0.2.1"), &[])), "Xdp nic to ");
    assert_eq!(told(decide(&guard("::"), &[])), "Xdp nic to ");
    let plan = told(decide(&guard("127.0.0.1"), &[]));
    assert!(plan.contains("it is guarded in userspace"), "{plan}");
}

//! What the maps shall hold.

use std::collections::BTreeSet;
use std::sync::Arc;

use deston_common::address::flags::{DEDICATED, DNAT_SERVER, ECHO, LISTENER, SNAT};
use deston_common::guard::verdict::{ALLOW, DENY};
use deston_common::listener::flags::{DEFAULT_DENY, KEEP_PORT, LISTS, OPEN, STACK, TC};
use deston_common::server::{ServerEntry, ServerId};

use super::*;
use crate::config;
use crate::datapath::balancer::{Known, Open, Pools};
use crate::datapath::host::{Address, Network};
use crate::datapath::plan::Role;
use crate::model::{Forwarding, Layer, Model, SnatPorts};

/// The address of the host.
const OWN: &str = "192.0.2.1";

/// Everything that contents follow from.
struct Scene {
    listeners: Vec<Open>,
    servers: BTreeMap<ServerId, Known>,
    pools: Pools,
    network: Network,
}

impl Scene {
    /// A scene of a configuration: listeners are numbered, pools indexed and servers identified in
    /// its order.
    fn of(text: &str) -> Self {
        let model = config::parse("config.toml", text).unwrap();
        let mut scene = Self {
            listeners: Vec::new(),
            servers: BTreeMap::new(),
            pools: Pools::default(),
            network: Network::default(),
        };
        let address = Address { address: ip(OWN), device: 2, is_global: true };
        scene.network.addresses.push(address);
        for (number, listener) in (1..).zip(&model.listeners) {
            scene.listeners.push(open(number, listener));
        }
        scene.add_pools(&model);
        scene
    }

    fn add_pools(&mut self, model: &Model) {
        let mut ids = (1..).map(ServerId);
        for pool in &model.pools {
            self.pools.put(pool, None, &BTreeSet::new()).unwrap();
            for server in &pool.servers {
                let known = Known {
                    name: server.name.clone(),
                    address: server.address,
                    pool: pool.name.clone(),
                    entry: ServerEntry::default(),
                    interfaces: BTreeSet::new(),
                    sources: BTreeSet::from([ip(OWN)]),
                    ends: None,
                };
                self.servers.insert(ids.next().unwrap(), known);
            }
        }
    }

    fn contents(&self) -> Contents {
        wanted(&Facts {
            listeners: &self.listeners,
            servers: &self.servers,
            pools: &self.pools,
            network: &self.network,
            attached: &BTreeSet::new(),
            flood_gate: 7,
            csum_ipv6: false,
            flow_log: false,
            former: None,
        })
    }
}

fn open(number: u32, listener: &Arc<crate::model::Listener>) -> Open {
    let (role, snat_ports) = match &listener.layer {
        Layer::L4(l4) => (Role::Balance(l4.forwarding), l4.snat_ports),
        Layer::L7(_) => (Role::Guard, SnatPorts { min: 0, max: 0 }),
    };
    Open {
        listener: Arc::clone(listener),
        number,
        hook: Hook::Xdp,
        role,
        is_open: true,
        addresses: BTreeSet::from([listener.address.ip()]),
        former: BTreeSet::new(),
        is_here: true,
        snat: BTreeSet::new(),
        snat_ports,
        names: BTreeSet::new(),
        interfaces: BTreeSet::new(),
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn place(text: &str) -> Place {
    Place { address: text.parse().unwrap(), protocol: deston_common::net::TCP }
}

/// A configuration of listeners, each with keys of its own, and servers of the pool `default`.
fn text(listeners: &[(&str, u16, &str)], servers: &[&str]) -> String {
    let mut text = String::new();
    for (number, (address, port, keys)) in listeners.iter().enumerate() {
        text += &format!(
            "[[listener]]\nname = \"l{number}\"\naddress = \"{address}\"\nport = {port}\n{keys}\n"
        );
    }
    for server in servers {
        let (address, port) = server.rsplit_once(':').unwrap();
        text += &format!("[[server]]\naddress = \"{address}\"\nport = {port}\n");
    }
    text
}

#[test]
fn a_nat_listener_has_its_address_and_the_ports_towards_its_servers() {
    let scene = Scene::of(&text(&[(OWN, 80, "")], &["192.0.2.11:8080"]));
    let contents = scene.contents();
    let entry = contents.listeners[&place("192.0.2.1:80")];
    assert_eq!((entry.number, entry.flags, entry.pool), (1, OPEN, 0));
    let address = contents.addresses[&ip(OWN)];
    assert_eq!(address.flags, LISTENER | SNAT);
    assert_eq!((address.snat_port_min, address.snat_port_max), (10_240, 32_767));
    assert_eq!(contents.globals.flood_gate, 7);
    assert_eq!((contents.globals.flags, contents.replies.len()), (0, 0));
}

#[test]
fn an_address_has_the_ports_of_all_its_listeners() {
    let listeners =
        [(OWN, 80, "snat_ports = \"20000-20999\""), (OWN, 81, "snat_ports = \"10000-10999\"")];
    let scene = Scene::of(&text(&listeners, &["192.0.2.11:8080"]));
    let address = scene.contents().addresses[&ip(OWN)];
    assert_eq!((address.snat_port_min, address.snat_port_max), (10_000, 20_999));
}

#[test]
fn an_address_of_nobody_else_answers_echo() {
    let listeners = [("203.0.113.1", 80, ""), ("203.0.113.2", 80, "icmp_echo = false")];
    let mut scene = Scene::of(&text(&listeners, &["192.0.2.11:8080"]));
    let flags = |scene: &Scene, address: &str| scene.contents().addresses[&ip(address)].flags;
    assert_eq!(flags(&scene, "203.0.113.1"), LISTENER | DEDICATED | ECHO);
    assert_eq!(flags(&scene, "203.0.113.2"), LISTENER | DEDICATED);
    scene.listeners[0].is_open = false;
    assert_eq!(flags(&scene, "203.0.113.1"), LISTENER | DEDICATED);
    let held = Address { address: ip("203.0.113.1"), device: 1, is_global: true };
    scene.network.addresses.push(held);
    scene.listeners[0].is_open = true;
    assert_eq!(flags(&scene, "203.0.113.1"), LISTENER, "an address of the host stays the host's");
}

#[test]
fn a_server_of_one_dnat_listener_tells_its_listener() {
    let dnat = "forwarding = \"dnat\"";
    let one = Scene::of(&text(&[(OWN, 80, dnat)], &["192.0.2.11:8080"])).contents();
    let listener = (place("192.0.2.1:80").address, Hook::Xdp);
    assert_eq!(one.replies, [(place("192.0.2.11:8080"), listener)].into());
    assert_eq!(one.addresses[&ip("192.0.2.11")].flags, DNAT_SERVER);
    assert_eq!(one.addresses[&ip(OWN)].flags, LISTENER, "no ports are claimed");
    assert_eq!(one.globals.flags, deston_common::globals::flags::DNAT);

    let two = Scene::of(&text(&[(OWN, 80, dnat), (OWN, 81, dnat)], &["192.0.2.11:8080"]));
    assert_eq!(two.contents().replies, BTreeMap::new());
}

#[test]
fn lists_become_prefixes_and_deny_decides_where_they_meet() {
    let keys = "allow = [\"198.51.100.0/24\", \"2001:db8::/32\"]\ndeny = [\"198.51.100.0/24\"]";
    let contents = Scene::of(&text(&[(OWN, 80, keys)], &["192.0.2.11:8080"])).contents();
    let net = |text: &str| (1, text.parse().unwrap());
    assert_eq!(contents.sources, [(net("198.51.100.0/24"), DENY)].into(), "its own family alone");
    let flags = contents.listeners[&place("192.0.2.1:80")].flags;
    assert_eq!(flags, OPEN | LISTS | DEFAULT_DENY);
    let keys = "deny = [\"198.51.100.0/24\"]\nallow = []";
    let contents = Scene::of(&text(&[(OWN, 80, keys)], &["192.0.2.11:8080"])).contents();
    assert_eq!(contents.listeners[&place("192.0.2.1:80")].flags, OPEN | LISTS);
    let keys = "allow = [\"198.51.100.0/24\"]";
    let contents = Scene::of(&text(&[(OWN, 80, keys)], &["192.0.2.11:8080"])).contents();
    assert_eq!(contents.sources, [(net("198.51.100.0/24"), ALLOW)].into());
}

#[test]
fn a_rate_is_told_by_its_interval_and_how_far_one_may_run_ahead() {
    let keys = "rate_limit = { of = \"connections\", rate = \"200/s\", burst = 400 }";
    let contents = Scene::of(&text(&[(OWN, 80, keys)], &["192.0.2.11:8080"])).contents();
    let entry = contents.listeners[&place("192.0.2.1:80")];
    assert_eq!((entry.rate_interval_ns, entry.rate_tolerance_ns), (5_000_000, 399 * 5_000_000));
}

#[test]
fn a_guard_is_for_the_stack_alone() {
    let keys = "layer = \"L7\"\ndeny = [\"198.51.100.0/24\"]";
    let mut scene = Scene::of(&text(&[(OWN, 80, keys)], &["192.0.2.11:8080"]));
    scene.listeners[0].hook = Hook::Tc;
    let contents = scene.contents();
    let flags = contents.listeners[&place("192.0.2.1:80")].flags;
    assert_eq!(flags, OPEN | STACK | TC | LISTS);
    assert_eq!(contents.addresses[&ip(OWN)].flags, LISTENER);
}

#[test]
fn an_address_that_is_named_goes_before_every_address() {
    let listeners = [("0.0.0.0", 80, ""), (OWN, 80, "")];
    let mut scene = Scene::of(&text(&listeners, &["192.0.2.11:8080"]));
    scene.listeners[0].addresses = [ip(OWN), ip("192.0.2.2")].into();
    let numbers = |scene: &Scene| -> Vec<(u32, u32)> {
        let entries = scene.contents().listeners;
        entries.values().map(|entry| (entry.number, entry.flags)).collect()
    };
    assert_eq!(numbers(&scene), [(2, OPEN), (1, OPEN)]);
    scene.listeners[1].is_open = false;
    assert_eq!(numbers(&scene), [(1, OPEN), (1, OPEN)], "what is closed gives way");
    scene.listeners[0].move_to([ip("192.0.2.2")].into());
    assert_eq!(numbers(&scene), [(2, 0), (1, OPEN)]);
}

#[test]
fn former_addresses_stay_closed_until_their_flows_have_ended() {
    let mut scene = Scene::of(&text(&[("0.0.0.0", 80, "")], &["192.0.2.11:8080"]));
    scene.listeners[0].addresses = [ip(OWN)].into();
    scene.listeners[0].move_to([ip("192.0.2.2")].into());
    let contents = scene.contents();
    assert_eq!(contents.listeners[&place("192.0.2.1:80")].flags, 0);
    assert_eq!(contents.listeners[&place("192.0.2.2:80")].flags, OPEN);
    scene.listeners[0].move_to([ip(OWN)].into());
    assert_eq!(scene.contents().listeners[&place("192.0.2.1:80")].flags, OPEN);
}

#[test]
fn a_listener_on_any_port_keeps_the_port_where_its_servers_do() {
    let any = "forwarding = \"dnat\"\ndatapath = \"xdp\"";
    let text = text(&[("203.0.113.1", 0, any)], &["192.0.2.11:0"]);
    let contents = Scene::of(&text).contents();
    assert_eq!(contents.listeners[&place("203.0.113.1:0")].flags, OPEN | KEEP_PORT);
    assert_eq!(contents.replies, BTreeMap::new(), "no port tells which listener it was");
    assert_eq!(
        contents.listeners[&place("203.0.113.1:0")].forwarding,
        deston_common::listener::Forwarding::Dnat as u8
    );
    assert_eq!(Role::Balance(Forwarding::Dnat), Scene::of(&text).listeners[0].role);
}

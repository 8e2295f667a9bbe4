//! Differences, by example and by property.

use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::config;
use crate::model::{Algorithm, Guard, Health, OnDown, Outlier, PoolTimeouts, Speech, Treatment};

fn model(text: &str) -> Model {
    config::parse("config.toml", text).unwrap()
}

fn names(changes: &[Change]) -> Vec<String> {
    changes
        .iter()
        .map(|change| match change {
            Change::Runtime(_) => "runtime".to_owned(),
            Change::PoolAdded(pool) => format!("+pool {}", pool.name),
            Change::PoolChanged { pool, servers } => {
                format!("~pool {} ({} servers)", pool.name, servers.len())
            }
            Change::ListenerAdded(listener) => format!("+listener {}", listener.name),
            Change::ListenerChanged(listener) => format!("~listener {}", listener.name),
            Change::ListenerRemoved(listener) => format!("-listener {}", listener.name),
            Change::PoolRemoved(pool) => format!("-pool {}", pool.name),
            Change::NeedsRestart(AtStart::Workers(_)) => "restart: workers".to_owned(),
            Change::NeedsRestart(AtStart::Kernel(_)) => "restart: kernel".to_owned(),
            Change::NeedsRestart(AtStart::Log(_)) => "restart: log".to_owned(),
        })
        .collect()
}

fn changes(old: &str, new: &str) -> Vec<String> {
    names(&diff(&model(old), &model(new)))
}

#[test]
fn what_is_added_comes_before_what_is_removed() {
    let old = "[[listener]]\nname = \"a\"\npool = \"a\"\n[[pool]]\nname = \"a\"\n[[server]]\npool = \"a\"";
    let new = old.replace("\"a\"", "\"b\"");
    assert_eq!(changes(old, &new), ["+pool b", "+listener b", "-listener a", "-pool a"]);
}

#[test]
fn a_listener_is_another_one_when_what_carries_it_or_what_it_is_reached_by_changes() {
    let base = "[load_balancer]\n";
    for key in [
        "port = 9",
        "address = \"127.0.0.2\"",
        "layer = \"L7\"",
        "protocol = \"udp\"",
        "datapath = \"userspace\"",
        "interfaces = [\"eth0\"]",
        "forwarding = \"dnat\"",
    ] {
        let new = format!("{base}{key}\n[[server]]");
        let mut changes = changes(&format!("{base}[[server]]"), &new);
        // The defaults of a pool depend on who uses it.
        changes.retain(|change| change.contains("listener"));
        assert_eq!(changes, ["+listener default", "-listener default"], "{key}");
    }
}

#[test]
fn a_layer_7_listener_is_another_one_when_its_guard_runs_elsewhere() {
    let text = |key: &str| format!("[load_balancer]\nlayer = \"L7\"\n{key}\n[[server]]");
    for key in ["datapath = \"userspace\"", "interfaces = [\"eth0\"]"] {
        let expected = ["+listener default", "-listener default"];
        assert_eq!(changes(&text(""), &text(key)), expected, "{key}");
    }
}

#[test]
fn a_listener_stays_when_its_guard_timeouts_or_other_settings_change() {
    let text = |key: &str| format!("[load_balancer]\nprotocol = \"udp\"\n{key}\n[[server]]");
    for key in [
        "allow = [\"192.0.2.0/24\"]",
        "deny = [\"192.0.2.0/24\"]",
        "rate_limit = { rate = \"1/s\" }",
        "icmp_echo = false",
        "snat_ips = [\"192.0.2.1\"]",
        "snat_ports = \"20000-30000\"",
        "flows = { udp_one_way = \"1s\" }",
        "flows = { one_packet = true }",
    ] {
        assert_eq!(changes(&text(""), &text(key)), ["~listener default"], "{key}");
    }
}

#[test]
fn a_listener_of_layer_7_stays_when_its_routes_or_edits_change() {
    let text = |route: &str| format!("[load_balancer]\nlayer = \"L7\"\n{route}\n[[server]]");
    let route = text("[[route]]\npath_regex = \"/a\"\npool = \"default\"");
    assert_eq!(changes(&text(""), &route), ["~listener default"]);
    for (from, to) in [
        ("/a", "/b"),
        ("path_regex", "path"),
        ("pool = \"default\"", "respond = {}"),
        ("pool = \"default\"", "pool = \"default\"\nrewrite = \"/x\""),
    ] {
        assert_eq!(changes(&route, &route.replace(from, to)), ["~listener default"], "{to}");
    }
    let edits = text("[load_balancer.headers]\nresponse = { remove = [\"Server\"] }");
    assert_eq!(changes(&text(""), &edits), ["~listener default"]);
    assert_eq!(changes(&route, &route), [""; 0], "an expression is the same if its text is");
}

#[test]
fn every_setting_of_a_pool_and_server_is_a_change_of_the_pool() {
    for key in [
        "algorithm = \"maglev\"",
        "on_down = \"reset\"",
        "health = { kind = \"http\" }",
        "outlier = { failures = 9 }",
        "outlier = { max_ejected = 1.0 }",
        "sticky = { by = \"ip\" }",
    ] {
        let new = format!("[load_balancer]\n{key}\n[[server]]");
        let expected = ["~pool default (0 servers)"];
        assert_eq!(changes("[load_balancer]\n[[server]]", &new), expected, "{key}");
    }
    let maglev = |hash_on: &str| {
        format!("[load_balancer]\nalgorithm = \"maglev\"\nhash_on = \"{hash_on}\"\n[[server]]")
    };
    assert_eq!(changes(&maglev("flow"), &maglev("ip")), ["~pool default (0 servers)"]);
    let drained = "[[server]]\ndrain = true";
    assert_eq!(changes("[[server]]", drained), ["~pool default (1 servers)"]);
}

#[test]
fn every_key_of_the_kernel_needs_a_restart() {
    for key in [
        "instance = \"b\"",
        "pin = false",
        "on_stop = \"keep\"",
        "xdp_mode = \"generic\"",
        "half_open = 2048",
        "flood_gate = 0",
    ] {
        let new = format!("[[server]]\n[kernel]\n{key}");
        assert_eq!(changes("[[server]]", &new), ["restart: kernel"], "{key}");
    }
}

#[test]
fn servers_are_told_apart_by_their_address() {
    let old = "[[server]]\nport = 1\n[[server]]\nport = 2";
    let new = "[[server]]\nport = 2\nweight = 3\n[[server]]\nport = 3";
    let changes = diff(&model(old), &model(new));
    let [Change::PoolChanged { servers, .. }] = changes.as_slice() else { panic!("one pool") };
    let ports: Vec<(&str, u16)> = servers
        .iter()
        .map(|change| match change {
            ServerChange::Added(server) => ("+", server.address.port()),
            ServerChange::Changed(server) => ("~", server.address.port()),
            ServerChange::Removed(server) => ("-", server.address.port()),
        })
        .collect();
    assert_eq!(ports, [("+", 3), ("~", 2), ("-", 1)]);
}

#[test]
fn another_order_of_servers_is_a_change_of_the_pool() {
    let old = "[[server]]\nport = 1\n[[server]]\nport = 2";
    let new = "[[server]]\nport = 2\n[[server]]\nport = 1";
    assert_eq!(changes(old, new), ["~pool default (0 servers)"]);
}

#[test]
fn workers_and_kernel_need_a_restart_and_the_rest_of_the_process_does_not() {
    let old = "[[server]]\n[runtime]\nworkers = 1";
    let new = "[[server]]\n[runtime]\nworkers = 2\nhash_seed = \"x\"\n[kernel]\nflows = 5000";
    assert_eq!(changes(old, new), ["runtime", "restart: workers", "restart: kernel"]);
}

/// Applies changes as a reader of their meaning would.
fn apply(mut model: Model, changes: Vec<Change>) -> Model {
    for change in changes {
        match change {
            Change::Runtime(runtime) => model.runtime = runtime,
            Change::PoolAdded(pool) => model.pools.push(pool),
            Change::PoolChanged { pool, servers } => {
                let place = model.pools.iter().position(|old| old.name == pool.name).unwrap();
                let old = std::mem::replace(&mut model.pools[place], Arc::clone(&pool));
                assert_eq!(
                    by_address(apply_servers(&old, servers)),
                    by_address(pool.servers.clone())
                );
            }
            Change::ListenerAdded(listener) => model.listeners.push(listener),
            Change::ListenerChanged(listener) => {
                let old = model
                    .listeners
                    .iter_mut()
                    .find(|old| Identity::of(old) == Identity::of(&listener))
                    .unwrap();
                *old = listener;
            }
            Change::ListenerRemoved(listener) => {
                model.listeners.retain(|old| *old != listener);
            }
            Change::PoolRemoved(pool) => model.pools.retain(|old| *old != pool),
            Change::NeedsRestart(AtStart::Workers(workers)) => model.runtime.workers = workers,
            Change::NeedsRestart(AtStart::Kernel(kernel)) => model.kernel = kernel,
            Change::NeedsRestart(AtStart::Log(log)) => model.log = log,
        }
    }
    model
}

fn apply_servers(pool: &Pool, changes: Vec<ServerChange>) -> Vec<Server> {
    let mut servers = pool.servers.clone();
    for change in changes {
        match change {
            ServerChange::Added(server) => servers.push(server),
            ServerChange::Changed(server) => {
                let address = server.address;
                *servers.iter_mut().find(|old| old.address == address).unwrap() = server;
            }
            ServerChange::Removed(server) => servers.retain(|old| *old != server),
        }
    }
    servers
}

fn by_address(mut servers: Vec<Server>) -> Vec<Server> {
    servers.sort_by_key(|server| server.address);
    servers
}

/// The order of listeners and pools means nothing.
fn sorted(mut model: Model) -> Model {
    model.listeners.sort_by(|a, b| a.name.cmp(&b.name));
    model.pools.sort_by(|a, b| a.name.cmp(&b.name));
    model
}

fn any_server() -> impl Strategy<Value = (u16, (u16, u32, bool))> {
    (1_u16..6, (1_u16..3, 1_u32..3, any::<bool>()))
}

fn any_pool() -> impl Strategy<Value = (String, (Algorithm, u64, Vec<Server>))> {
    let algorithm = prop_oneof![Just(Algorithm::RoundRobin), Just(Algorithm::IpHashing)];
    let servers = vec(any_server(), 1..5).prop_map(|servers| {
        let mut seen = Vec::new();
        let mut all = Vec::new();
        for (port, (weight, limit, drain)) in servers {
            if !seen.contains(&port) {
                seen.push(port);
                all.push(Server {
                    name: format!("s{port}"),
                    address: SocketAddr::from(([192, 0, 2, 1], port)),
                    weight: NonZeroU16::new(weight).unwrap(),
                    max_connections: NonZeroU32::new(limit).unwrap(),
                    drain,
                    backup: drain && weight > 1,
                    speech: Speech::default(),
                });
            }
        }
        all
    });
    ("[a-c]", (algorithm, 1_u64..3, servers))
}

/// A guard that refuses so many networks.
fn denying(count: u8) -> Guard {
    let network = |n| format!("198.51.{n}.0/24").parse().unwrap();
    Guard { deny: (0..count).map(network).collect(), ..Guard::default() }
}

fn any_model() -> impl Strategy<Value = Model> {
    let listener = ("[w-z]", (1_u16..4, any::<bool>(), "[a-c]", 0_u8..2));
    let pools = vec(any_pool(), 0..4);
    let listeners = vec(listener, 0..4);
    (pools, listeners, 1_usize..3, 0_u64..2, "[st]").prop_map(
        |(pools, listeners, workers, drain, hash_seed)| {
            let pools: std::collections::BTreeMap<_, _> = pools.into_iter().collect();
            let listeners: std::collections::BTreeMap<_, _> = listeners.into_iter().collect();
            let template = model("[[server]]\n[load_balancer]\nlayer = \"L7\"");
            let layer4 = model("[[server]]").listeners[0].layer.clone();
            let listeners = listeners.into_iter().map(|(name, (port, l4, pool, denied))| {
                Arc::new(Listener {
                    name,
                    address: SocketAddr::from(([192, 0, 2, 9], port)),
                    pool,
                    guard: denying(denied),
                    origin: template.listeners[0].origin.clone(),
                    layer: if l4 { layer4.clone() } else { template.listeners[0].layer.clone() },
                })
            });
            let pools = pools.into_iter().map(|(name, (algorithm, connect, servers))| {
                Arc::new(Pool {
                    name,
                    algorithm,
                    servers,
                    timeouts: PoolTimeouts {
                        connect: Duration::from_secs(connect),
                        ..template.pools[0].timeouts
                    },
                    health: Health::Off,
                    outlier: Outlier::default(),
                    sticky: None,
                    on_down: OnDown::Drain,
                    treatment: Treatment::default(),
                    hash_key: None,
                    cookie: None,
                })
            });
            Model {
                listeners: listeners.collect(),
                pools: pools.collect(),
                runtime: Runtime { workers, drain_timeout: Duration::from_secs(drain), hash_seed },
                kernel: Kernel { flows: workers as u32, ..template.kernel },
                log: Log { sample: workers as u32, ..template.log },
            }
        },
    )
}

proptest! {
    #[test]
    fn applying_the_difference_gives_the_new_model(old in any_model(), new in any_model()) {
        let changes = diff(&old, &new);
        prop_assert_eq!(sorted(apply(old, changes)), sorted(new));
    }

    #[test]
    fn a_model_does_not_differ_from_itself(model in any_model()) {
        prop_assert_eq!(diff(&model, &model), []);
    }
}

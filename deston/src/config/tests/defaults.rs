//! What holds when it is not written.

use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use super::{errors, valid};
use crate::model::{
    Access, Algorithm, Checks, DatapathChoice, Health, HttpTimeouts, Layer, Log, Model, Overflow,
    PoolTimeouts, Protocol, Queue, SnatPorts, Treatment, XdpMode,
};

fn algorithm(text: &str) -> Algorithm {
    valid(&format!("[load_balancer]\nalgorithm = \"{text}\"\n[[server]]")).pools[0].algorithm
}

fn layer4(model: &Model) -> bool {
    matches!(model.listeners[0].layer, Layer::L4(_))
}

#[test]
fn one_server_table_is_a_whole_configuration() {
    let model = valid("[[server]]");
    let [listener] = model.listeners.as_slice() else { panic!("one listener") };
    let [pool] = model.pools.as_slice() else { panic!("one pool") };
    assert_eq!((listener.name.as_str(), listener.pool.as_str()), ("default", "default"));
    assert_eq!(listener.address.to_string(), "127.0.0.1:8080");
    let Layer::L4(l4) = &listener.layer else { panic!("layer 4") };
    assert_eq!((l4.protocol, l4.datapath), (Protocol::Tcp, DatapathChoice::Auto));
    assert_eq!(l4.snat_ports, SnatPorts { min: 10_240, max: 32_767 });
    assert_eq!(l4.tunnel_idle, Duration::from_secs(3_600));
    assert_eq!(l4.flows.tcp_established, Duration::from_secs(7_200));
    assert_eq!((pool.algorithm, &pool.health), (Algorithm::RoundRobin, &Health::Off));
    let server = &pool.servers[0];
    assert_eq!(server.address.to_string(), "127.0.0.1:3000");
    assert_eq!(server.name, "127.0.0.1:3000");
    assert_eq!((server.weight, server.max_connections.get()), (NonZeroU16::MIN, 1_000));
}

#[test]
fn the_process_has_defaults() {
    let model = valid("[[server]]");
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!(model.runtime.workers, cores, "one worker for each core");
    assert_eq!(model.runtime.drain_timeout, Duration::from_secs(30));
    assert_eq!((model.kernel.xdp_mode, model.kernel.flows), (XdpMode::Native, 262_144));
    assert_eq!(model.log, Log { access: Access::Off, sample: 1_000_000, errors_always: true });
}

#[test]
fn deadlines_have_defaults() {
    let model = valid("[load_balancer]\nlayer = \"L7\"\n[[server]]");
    let Layer::L7(l7) = &model.listeners[0].layer else { panic!("layer 7") };
    let expected = HttpTimeouts {
        request_head: Duration::from_secs(10),
        client_idle: Duration::from_secs(60),
        stream_idle: Duration::from_secs(300),
        tunnel_idle: Duration::from_secs(3_600),
        tls_handshake: Duration::from_secs(5),
    };
    assert_eq!(l7.timeouts, expected);
    let expected = PoolTimeouts {
        connect: Duration::from_secs(3),
        response_head: Duration::from_secs(60),
        server_idle: Duration::from_secs(4),
        total: Duration::ZERO,
    };
    assert_eq!(model.pools[0].timeouts, expected);
}

#[test]
fn a_thousand_may_wait_for_two_seconds() {
    let treatment = valid("[[server]]").pools[0].treatment;
    assert_eq!(treatment, Treatment::default());
    assert_eq!(treatment.queue, Queue { size: 1_024, timeout: Duration::from_secs(2) });
    assert_eq!(treatment.overflow, Overflow::Reject);
}

#[test]
fn a_pool_with_two_servers_is_probed() {
    let model = valid("[[server]]\nport = 1\n[[server]]\nport = 2");
    let expected = Checks {
        port: None,
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(2),
        rise: 2,
        fall: 3,
    };
    assert_eq!(model.pools[0].health, Health::Tcp(expected));
}

#[test]
fn a_pool_with_udp_listeners_is_probed_only_when_asked() {
    let servers = "[[server]]\nport = 1\n[[server]]\nport = 2";
    let model = valid(&format!("[load_balancer]\nprotocol = \"udp\"\n{servers}"));
    assert_eq!(model.pools[0].health, Health::Off);
    let asked = "[load_balancer]\nprotocol = \"udp\"\n[load_balancer.health]\nkind = \"tcp\"\n";
    let model = valid(&format!("{asked}{servers}"));
    assert!(matches!(model.pools[0].health, Health::Tcp(_)));
}

#[test]
fn a_health_table_asks_for_probes_of_a_single_server() {
    let model = valid("[load_balancer.health]\ninterval = \"1s\"\n[[server]]");
    let checks = model.pools[0].health.checks().unwrap();
    assert_eq!(checks.interval, Duration::from_secs(1));
}

#[test]
fn health_checks_can_be_switched_off() {
    let servers = "[[server]]\nport = 1\n[[server]]\nport = 2";
    let model = valid(&format!("[load_balancer.health]\nkind = \"off\"\n{servers}"));
    assert_eq!(model.pools[0].health, Health::Off);
}

#[test]
fn algorithm_names_ignore_case_and_separators() {
    for name in ["round_robin", "RoundRobin", "roundrobin", "ROUND-ROBIN", "Round Robin"] {
        assert_eq!(algorithm(name), Algorithm::RoundRobin, "{name}");
    }
    for name in ["weighted_round_robin", "WeightedRoundRobin", "WEIGHTED-ROUND-ROBIN"] {
        assert_eq!(algorithm(name), Algorithm::WeightedRoundRobin, "{name}");
    }
    for name in ["ip_hashing", "IpHashing", "IPHASHING"] {
        assert_eq!(algorithm(name), Algorithm::IpHashing, "{name}");
    }
}

#[test]
fn layer_names_ignore_case_and_separators() {
    for name in ["L4", "l4", "layer4", "layer_4", "Layer 4"] {
        assert!(layer4(&valid(&format!("[load_balancer]\nlayer = \"{name}\"\n[[server]]"))));
    }
    for name in ["L7", "l7", "layer7", "LAYER-7"] {
        assert!(!layer4(&valid(&format!("[load_balancer]\nlayer = \"{name}\"\n[[server]]"))));
    }
}

#[test]
fn the_load_balancer_takes_keys_of_listener_and_pool() {
    let model = valid(
        "[load_balancer]
         address = \"app\"
         layer = \"L7\"
         algorithm = \"ip_hashing\"
         [load_balancer.timeouts]
         request_head = \"1s\"
         client_idle = \"0\"
         connect = \"250ms\"
         [load_balancer.health]
         kind = \"tcp\"
         rise = 7
         [[server]]",
    );
    let (listener, pool) = (&model.listeners[0], &model.pools[0]);
    let Layer::L7(l7) = &listener.layer else { panic!("layer 7") };
    assert_eq!(listener.address.to_string(), "192.0.2.10:8080");
    assert_eq!(l7.timeouts.request_head, Duration::from_secs(1));
    assert_eq!(l7.timeouts.client_idle, Duration::ZERO);
    assert_eq!(pool.timeouts.connect, Duration::from_millis(250));
    assert_eq!(pool.health.checks().unwrap().rise, 7);
}

#[test]
fn listeners_and_pools_are_joined_by_name() {
    let model = valid(
        "[[listener]]
         name = \"dns\"
         address = \"192.0.2.1\"
         port = 53
         protocol = \"udp\"
         pool = \"resolvers\"
         [listener.flows]
         udp_two_way = \"5s\"
         [[listener]]
         name = \"dns-tcp\"
         address = \"192.0.2.1\"
         port = 53
         pool = \"resolvers\"
         [[pool]]
         name = \"resolvers\"
         [[server]]
         pool = \"resolvers\"
         name = \"one\"
         address = \"app\"
         port = 53
         weight = 9
         max_connections = 5",
    );
    assert_eq!(model.listeners.len(), 2);
    assert_eq!(model.listeners[1].pool, "resolvers");
    let server = &model.pools[0].servers[0];
    assert_eq!((server.name.as_str(), server.weight.get()), ("one", 9));
    assert_eq!(server.max_connections, NonZeroU32::new(5).unwrap());
}

#[test]
fn the_load_balancer_stands_beside_listeners_only_if_it_is_written() {
    let listener = "[[listener]]\nname = \"a\"\nport = 1\n[[server]]\n";
    assert_eq!(valid(listener).listeners.len(), 1);
    assert_eq!(valid(&format!("[load_balancer]\n{listener}")).listeners.len(), 2);
}

#[test]
fn the_default_pool_can_be_written_as_a_pool() {
    let model = valid("[[pool]]\nname = \"default\"\nalgorithm = \"ip_hashing\"\n[[server]]");
    assert_eq!(model.pools.len(), 1);
    assert_eq!(model.pools[0].algorithm, Algorithm::IpHashing);
}

#[test]
fn a_server_that_forgot_its_pool_is_found() {
    let text = "[[listener]]\nname = \"a\"\npool = \"p\"\n[[pool]]\nname = \"p\"\n[[server]]\npool = \"p\"\n[[server]]\nport = 1";
    assert_eq!(
        errors(text),
        [
            "8:1: this server belongs to pool `default`, which nothing uses (add `pool = \"..\"`: `p`)"
        ]
    );
}

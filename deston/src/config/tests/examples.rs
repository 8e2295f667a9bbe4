//! Files that we publish are valid.

use super::tls::Files;
use super::valid;
use crate::model::{Algorithm, Layer};

const ORIGINAL: &str = include_str!("../../../../config.toml");
const DOCUMENT: &str = include_str!("../../../../docs/configuration.md");

#[test]
fn the_original_file_means_what_it_says() {
    let model = valid(ORIGINAL);
    assert_eq!(model.listeners[0].address.to_string(), "127.0.0.1:8080");
    assert!(matches!(model.listeners[0].layer, Layer::L7(_)));
    let pool = &model.pools[0];
    assert_eq!(pool.algorithm, Algorithm::RoundRobin);
    let servers: Vec<(String, u16, u32)> = pool
        .servers
        .iter()
        .map(|s| (s.address.to_string(), s.weight.get(), s.max_connections.get()))
        .collect();
    assert_eq!(
        servers,
        [("127.0.0.1:3000".to_owned(), 3, 1_000), ("127.0.0.1:3001".to_owned(), 1, 1_000)]
    );
}

#[test]
fn every_example_of_the_documentation_is_valid() {
    let examples: Vec<&str> =
        DOCUMENT.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() >= 3, "found {} examples", examples.len());
    let files = Files::new("examples");
    files.copy("a.pem", "certs/site.pem");
    files.copy("a.key", "certs/site.key");
    files.copy("b.pem", "certs/internal.pem");
    for example in examples {
        if let Err(report) = files.parse_text(example) {
            panic!("{report}\nin:\n{example}");
        }
    }
}

#[test]
fn every_key_is_documented() {
    let keys = [
        "address",
        "port",
        "layer",
        "protocol",
        "pool",
        "datapath",
        "forwarding",
        "interfaces",
        "snat_ips",
        "snat_ports",
        "icmp_echo",
        "of",
        "key",
        "rate",
        "burst",
        "one_packet",
        "tcp_syn",
        "tcp_established",
        "tcp_fin",
        "tcp_rst",
        "udp_one_way",
        "udp_two_way",
        "request_head",
        "client_idle",
        "stream_idle",
        "tunnel_idle",
        "name",
        "algorithm",
        "hash_on",
        "on_down",
        "connect",
        "response_head",
        "server_idle",
        "kind",
        "path",
        "host",
        "expect",
        "failures",
        "eject",
        "max_ejected",
        "by",
        "ttl",
        "drain",
        "interval",
        "timeout",
        "rise",
        "fall",
        "weight",
        "max_connections",
        "workers",
        "drain_timeout",
        "hash_seed",
        "instance",
        "pin",
        "on_stop",
        "xdp_mode",
        "flows",
        "half_open",
        "flood_gate",
        "access",
        "sample",
        "listener",
        "path_regex",
        "methods",
        "header",
        "query",
        "split",
        "rewrite",
        "redirect",
        "respond",
        "request",
        "response",
        "status",
        "to",
        "body",
        "content_type",
        "remove",
        "set",
        "add",
    ];
    for key in keys {
        assert!(DOCUMENT.contains(&format!("| `{key}` |")), "`{key}` has no row");
    }
}

//! Settings that cannot work together, and what is said.

use super::{errors, valid};

/// Asserts the one error of a text.
#[track_caller]
fn error(text: &str, expected: &str) {
    assert_eq!(errors(text), [expected], "of:\n{text}");
}

/// A listener on an address of its own, port 80, and one server with port 80.
fn text(listener: &str, server: &str) -> String {
    format!(
        "[load_balancer]\n{listener}\naddress = \"192.0.2.1\"\nport = 80\n\
         [[server]]\naddress = \"{server}\"\nport = 80"
    )
}

const SERVER: &str = "198.51.100.1";
const SERVER6: &str = "2001:db8::1";

#[test]
fn forwarding_that_keeps_the_clients_address_is_refused_in_userspace() {
    for forwarding in ["dnat", "dsr-l2", "dsr-ipip"] {
        error(
            &text(&format!("datapath = \"userspace\"\nforwarding = \"{forwarding}\""), SERVER),
            &format!(
                "3:14: `forwarding = \"{forwarding}\"` needs the kernel, and this listener's \
                 datapath is userspace (write `datapath = \"auto\"`)"
            ),
        );
        for datapath in ["auto", "xdp", "tc"] {
            let keys = format!("datapath = \"{datapath}\"\nforwarding = \"{forwarding}\"");
            valid(&text(&keys, SERVER));
        }
    }
}

#[test]
fn the_kernel_carries_nothing_between_loopback_and_other_addresses() {
    let help = "write an address of the server that clients' packets can be sent to";
    for (keys, asks, place) in [
        ("datapath = \"tc\"", "datapath `tc`", "2:12"),
        ("forwarding = \"dnat\"", "`dnat`", "2:14"),
    ] {
        error(
            &text(keys, "127.0.0.1"),
            &format!(
                "{place}: {asks} cannot carry packets between loopback and other addresses: the \
                 listener has 192.0.2.1, the server 127.0.0.1 ({help})"
            ),
        );
    }
    let of_host = "[load_balancer]\naddress = \"127.0.0.1\"\ndatapath = \"tc\"\n[[server]]\n";
    valid(&format!("{of_host}address = \"127.0.0.1\""));
    error(
        &format!("{of_host}address = \"{SERVER}\""),
        &format!(
            "3:12: datapath `tc` cannot carry packets between loopback and other addresses: the \
             listener has 127.0.0.1, the server {SERVER} ({help})"
        ),
    );
    // `auto` serves them from userspace.
    valid(&text("datapath = \"auto\"", "127.0.0.1"));
}

#[test]
fn the_loopback_interface_has_no_xdp() {
    error(
        "[load_balancer]\naddress = \"127.0.0.1\"\ndatapath = \"xdp\"\n[[server]]\n\
         address = \"127.0.0.1\"",
        "3:12: the loopback interface, which has 127.0.0.1, has no XDP \
         (write `datapath = \"auto\"` or \"tc\")",
    );
}

#[test]
fn every_port_is_refused_in_userspace() {
    error(
        "[load_balancer]\naddress = \"192.0.2.1\"\nport = 0\ndatapath = \"userspace\"\n[[server]]",
        "3:8: `port = 0` needs the kernel, and this listener's datapath is userspace \
         (write `datapath = \"auto\"`)",
    );
}

#[test]
fn one_packet_is_refused_in_userspace_and_on_tcp() {
    let text =
        |line| format!("[load_balancer]\n{line}\nflows = {{ one_packet = true }}\n[[server]]");
    error(
        &text("protocol = \"udp\"\ndatapath = \"userspace\""),
        "4:24: `one_packet` needs the kernel, and this listener's datapath is userspace \
         (write `datapath = \"auto\"`)",
    );
    error(
        &text("protocol = \"tcp\""),
        "3:11: `one_packet` is for UDP, and this listener's protocol is TCP (remove it)",
    );
    valid(&text("protocol = \"udp\""));
    valid("[load_balancer]\nflows = { one_packet = false }\n[[server]]");
}

#[test]
fn every_port_of_an_address_of_others_is_refused() {
    for (address, server) in
        [("127.0.0.1", SERVER), ("0.0.0.0", SERVER), ("::1", SERVER6), ("::", SERVER6)]
    {
        error(
            &format!(
                "[load_balancer]\naddress = \"{address}\"\nport = 0\n\
                 [[server]]\naddress = \"{server}\""
            ),
            &format!(
                "3:8: `port = 0` takes every port, and {address} is not for this listener alone \
                 (give the listener an address of its own, or a port)"
            ),
        );
    }
}

#[test]
fn every_port_is_refused_on_layer_7() {
    error(
        "[load_balancer]\naddress = \"192.0.2.1\"\nport = 0\nlayer = \"L7\"\n[[server]]",
        "3:8: `port = 0` is for layer 4: a layer 7 listener has one port",
    );
}

#[test]
fn servers_of_a_listener_on_every_port_have_no_port_of_their_own() {
    let text = |port: &str| {
        format!("[load_balancer]\naddress = \"192.0.2.1\"\nport = 0\n[[server]]\n{port}")
    };
    for port in ["", "port = 0"] {
        let model = valid(&text(port));
        assert_eq!(model.listeners[0].ports(), crate::model::Ports::Any);
        assert_eq!(model.pools[0].servers[0].port(), crate::model::ServerPort::Kept);
        assert_eq!(model.pools[0].servers[0].name, "127.0.0.1");
    }
    error(
        &text("port = 3000"),
        "5:8: `port` cannot be changed for a listener with `port = 0`: servers see the client's \
         (remove it, or write `port = 0`)",
    );
}

#[test]
fn a_server_keeps_the_clients_port_only_where_every_port_is_served() {
    error(
        "[[server]]\nport = 0",
        "2:8: `port = 0` keeps the client's port, which is for pools of listeners with `port = 0` \
         (write a port from 1 to 65535)",
    );
}

#[test]
fn a_pool_does_not_serve_one_port_and_every_port() {
    error(
        "[[listener]]\nname = \"all\"\naddress = \"192.0.2.1\"\nport = 0\n\
         [[listener]]\nname = \"one\"\n[[pool]]\nname = \"default\"\n[[server]]",
        "8:8: pool `default` serves a listener with `port = 0`, which keeps the client's port, and \
         one that has a port (give each its own pool)",
    );
}

#[test]
fn servers_that_keep_the_clients_port_are_probed_on_a_port_that_is_named() {
    let text = |health: &str| {
        format!(
            "[load_balancer]\naddress = \"192.0.2.1\"\nport = 0\n{health}\n\
             [[server]]\naddress = \"198.51.100.1\"\n[[server]]\naddress = \"198.51.100.2\""
        )
    };
    assert_eq!(valid(&text("")).pools[0].health, crate::model::Health::Off);
    error(
        &text("[load_balancer.health]\nkind = \"tcp\""),
        "4:1: the servers keep the client's port, so probes need a `port` of their own \
         (write `port = 80`, say)",
    );
    let model = valid(&text("[load_balancer.health]\nport = 80"));
    assert_eq!(model.pools[0].health.checks().unwrap().port.unwrap().get(), 80);
}

#[test]
fn direct_return_cannot_change_the_port() {
    for forwarding in ["dsr-l2", "dsr-ipip"] {
        let text = |port: &str| {
            format!(
                "[load_balancer]\nforwarding = \"{forwarding}\"\naddress = \"192.0.2.1\"\nport = 80\n\
                 [[server]]\naddress = \"198.51.100.1\"\n{port}"
            )
        };
        error(
            &text("port = 8080"),
            &format!(
                "7:8: `{forwarding}` cannot change the port: the listener has 80, and this server \
                 8080 (write `port = 80`)"
            ),
        );
        error(
            &text(""),
            &format!(
                "5:1: `{forwarding}` cannot change the port: the listener has 80, and this server \
                 3000 (write `port = 80`)"
            ),
        );
        valid(&text("port = 80"));
    }
}

#[test]
fn direct_return_goes_with_every_port() {
    valid(
        "[load_balancer]\nforwarding = \"dsr-ipip\"\naddress = \"192.0.2.1\"\nport = 0\n\
         [[server]]\naddress = \"198.51.100.1\"",
    );
}

#[test]
fn an_explicit_kernel_datapath_needs_servers_of_the_listeners_family() {
    for datapath in ["xdp", "tc"] {
        error(
            &text(&format!("datapath = \"{datapath}\""), SERVER6),
            &format!(
                "2:12: datapath `{datapath}` cannot carry IPv4 to an IPv6 server: the listener has \
                 192.0.2.1, the server 2001:db8::1"
            ),
        );
    }
}

#[test]
fn nat_may_mix_families_where_userspace_can_serve() {
    for datapath in ["auto", "userspace"] {
        valid(&text(&format!("datapath = \"{datapath}\""), SERVER6));
    }
}

#[test]
fn dnat_and_direct_return_at_layer_2_need_servers_of_the_listeners_family() {
    for forwarding in ["dnat", "dsr-l2"] {
        error(
            &text(&format!("forwarding = \"{forwarding}\""), SERVER6),
            &format!(
                "2:14: `{forwarding}` cannot carry IPv4 to an IPv6 server: the listener has \
                 192.0.2.1, the server 2001:db8::1"
            ),
        );
    }
}

#[test]
fn a_tunnel_carries_ipv4_over_ipv6_and_not_the_other_way_round() {
    valid(&text("forwarding = \"dsr-ipip\"", SERVER6));
    error(
        "[load_balancer]\nforwarding = \"dsr-ipip\"\naddress = \"2001:db8::9\"\nport = 80\n\
         [[server]]\naddress = \"198.51.100.1\"\nport = 80",
        "2:14: `dsr-ipip` cannot carry IPv6 to an IPv4 server: the listener has 2001:db8::9, the \
         server 198.51.100.1",
    );
}

#[test]
fn source_addresses_and_ports_are_for_nat() {
    for forwarding in ["dnat", "dsr-l2", "dsr-ipip"] {
        for (key, line) in
            [("snat_ips", "snat_ips = [\"192.0.2.7\"]"), ("snat_ports", "snat_ports = \"1-2\"")]
        {
            error(
                &text(&format!("forwarding = \"{forwarding}\"\n{line}"), SERVER),
                &format!(
                    "3:1: `{key}` is for nat: `{forwarding}` keeps the client's address (remove it)"
                ),
            );
        }
    }
    valid(&text("snat_ips = [\"192.0.2.7\"]\nsnat_ports = \"20000-30000\"", SERVER));
}

#[test]
fn source_addresses_are_of_the_listeners_family() {
    error(
        &text("snat_ips = [\"2001:db8::7\"]", SERVER),
        "2:12: `snat_ips` has 2001:db8::7, and the listener's address is 192.0.2.1 \
         (write IPv4 addresses alone)",
    );
}

#[test]
fn source_addresses_are_addresses_of_one_host_each_once_and_at_most_eight() {
    let nine = (1..=9).map(|n| format!("\"192.0.2.{n}\"")).collect::<Vec<_>>().join(", ");
    let cases = [
        (
            "snat_ips = \"192.0.2.7\"".to_owned(),
            "2:12: `snat_ips` must be a list of addresses such as [\"192.0.2.1\"], not a string",
        ),
        (
            "snat_ips = [\"192.0.2.7\", \"host\"]".to_owned(),
            "2:26: `snat_ips` has \"host\", no IP address",
        ),
        (
            "snat_ips = [\"192.0.2.7\", \"192.0.2.7\"]".to_owned(),
            "2:26: `snat_ips` names 192.0.2.7 twice",
        ),
        (
            "snat_ips = [\"127.0.0.1\"]".to_owned(),
            "2:13: `snat_ips` has 127.0.0.1, from which no server can be reached",
        ),
        (
            format!("snat_ips = [{nine}]"),
            "2:12: `snat_ips` has 9 addresses: at most 8 are possible",
        ),
    ];
    for (line, expected) in cases {
        error(&text(&line, SERVER), expected);
    }
}

#[test]
fn the_kernel_goes_on_without_the_process_only_if_it_is_pinned() {
    error(
        "[kernel]\npin = false\non_stop = \"keep\"\n[[server]]",
        "3:11: `on_stop = \"keep\"` needs what is pinned, and `pin` is false",
    );
    valid("[kernel]\non_stop = \"keep\"\n[[server]]");
}

#[test]
fn what_maglev_hashes_is_refused_for_other_algorithms() {
    error(
        "[load_balancer]\nalgorithm = \"random\"\nhash_on = \"ip\"\n[[server]]",
        "3:1: `hash_on` is for the algorithm `maglev` \
         (remove it, or write `algorithm = \"maglev\"`)",
    );
}

#[test]
fn keys_of_http_probes_are_refused_for_others() {
    for (key, line) in
        [("path", "path = \"/\""), ("host", "host = \"a.example\""), ("expect", "expect = \"200\"")]
    {
        error(
            &format!("[load_balancer.health]\nkind = \"tcp\"\n{line}\n[[server]]"),
            &format!("3:1: `{key}` is for HTTP probes (remove it, or write `kind = \"http\"`)"),
        );
    }
    // An empty host is the default.
    valid("[load_balancer.health]\nkind = \"tcp\"\nhost = \"\"\n[[server]]");
}

//! One text for each way to be wrong, and what is said.

use super::{errors, valid};

/// Asserts the one error of a text.
#[track_caller]
fn error(text: &str, expected: &str) {
    assert_eq!(errors(text), [expected], "of:\n{text}");
}

#[test]
fn an_unknown_key_is_pointed_at_and_a_suggestion_made() {
    error(
        "[load_balancer]\nadress = \"127.0.0.1\"\n[[server]]",
        "2:1: unknown key `adress`, did you mean `address`?",
    );
}

#[test]
fn an_unknown_key_without_a_near_one_lists_the_known() {
    error(
        "[kernel]\ncolour = 1\n[[server]]",
        "2:1: unknown key `colour` (the keys of [kernel] are `flood_gate`, \
         `flows`, `half_open`, `instance`, `on_stop`, `pin` and `xdp_mode`)",
    );
}

#[test]
fn an_unknown_table_is_an_unknown_key() {
    error("[[servers]]\n[[server]]", "1:3: unknown key `servers`, did you mean `server`?");
}

#[test]
fn unknown_keys_of_inner_tables_are_found() {
    error(
        "[load_balancer.timeouts]\nconect = \"1s\"\n[[server]]",
        "2:1: unknown key `conect`, did you mean `connect`?",
    );
    error(
        "[[listener]]\nname = \"a\"\n[listener.flows]\ntcp_sin = \"1s\"\n[[server]]",
        "4:1: unknown key `tcp_sin`, did you mean `tcp_syn`?",
    );
}

#[test]
fn name_and_pool_are_not_keys_of_the_load_balancer() {
    let found = errors("[load_balancer]\nname = \"a\"\npool = \"b\"\n[[server]]");
    assert_eq!(found.len(), 2);
    assert!(found[0].starts_with("2:1: unknown key `name`"), "{}", found[0]);
    // `pool` is near `port`.
    assert!(found[1].starts_with("3:1: unknown key `pool`"), "{}", found[1]);
}

#[test]
fn keys_of_later_versions_are_told_from_typos() {
    let cases = [
        (
            "[load_balancer]\nslow_start = \"5s\"\n[[server]]",
            "2:1: `slow_start` is not available in this version",
        ),
        (
            "[load_balancer]\nlayer = \"L7\"\n[[route]]\npool = \"default\"\nauth = \"\"\n[[server]]",
            "5:1: `auth` is not available in this version",
        ),
        ("[[server]]\nslow_start = \"5s\"", "2:1: `slow_start` is not available in this version"),
    ];
    for (text, expected) in cases {
        error(text, expected);
    }
}

#[test]
fn names_of_later_versions_are_told_from_typos() {
    let cases = [
        (
            "[load_balancer]\nport = \"8000-8100\"",
            "2:8: a range of ports is not available in this version \
             (`port` may be one port, or 0 for every port)",
        ),
        (
            "[load_balancer.health]\nkind = \"grpc\"",
            "2:8: kind of health check `grpc` is not available in this version \
             (`kind` may be `tcp`, `http` or `off`)",
        ),
    ];
    for (text, expected) in cases {
        error(&format!("{text}\n[[server]]"), expected);
    }
}

#[test]
fn an_unknown_algorithm_is_an_error() {
    error(
        "[load_balancer]\nalgorithm = \"round_robbin\"\n[[server]]",
        "2:13: unknown algorithm `round_robbin`, did you mean `round_robin`? \
         (`algorithm` may be `round_robin`, `weighted_round_robin`, `ip_hashing`, `maglev`, \
         `least_connections`, `p2c`, `peak_ewma` or `random`)",
    );
    error(
        "[load_balancer]\nalgorithm = \"fastest\"\n[[server]]",
        "2:13: unknown algorithm `fastest` \
         (`algorithm` may be `round_robin`, `weighted_round_robin`, `ip_hashing`, `maglev`, \
         `least_connections`, `p2c`, `peak_ewma` or `random`)",
    );
}

#[test]
fn an_unknown_layer_is_an_error() {
    error(
        "[load_balancer]\nlayer = \"L5\"\n[[server]]",
        "2:9: unknown layer `L5`, did you mean `L4`? (`layer` may be `L4` or `L7`)",
    );
}

#[test]
fn a_value_of_the_wrong_type_is_an_error() {
    let cases = [
        ("port = \"80\"", "2:8: `port` must be a whole number from 0 to 65535, not a string"),
        ("port = 80.5", "2:8: `port` must be a whole number from 0 to 65535, not a float"),
        ("address = 1", "2:11: `address` must be text in quotes, not an integer"),
        (
            "algorithm = true",
            "2:13: `algorithm` must be `round_robin`, `weighted_round_robin`, `ip_hashing`, `maglev`, \
             `least_connections`, `p2c`, `peak_ewma` or `random`, not a boolean",
        ),
        (
            "interfaces = \"eth0\"",
            "2:14: `interfaces` must be a list of interfaces such as [\"eth0\"], not a string",
        ),
        (
            "timeouts = \"1s\"",
            "2:1: `timeouts` must be a table: write [load_balancer.timeouts], not a string",
        ),
    ];
    for (line, expected) in cases {
        error(&format!("[load_balancer]\n{line}\n[[server]]"), expected);
    }
}

#[test]
fn a_table_where_an_array_of_tables_belongs_is_an_error() {
    error(
        "[[server]]\n[pool]\nname = \"a\"",
        "2:2: `pool` must be an array of tables: write [[pool]], not a table",
    );
    error(
        "[[server]]\n[[load_balancer]]",
        "2:3: `load_balancer` must be a table: write [load_balancer], not an array",
    );
}

#[test]
fn a_number_out_of_range_is_an_error() {
    let cases = [
        ("port = 65536", "2:8: `port` must be a whole number from 0 to 65535, not 65536"),
        (
            "port = 99999999999999999999999999",
            "2:8: `port` must be a whole number from 0 to 65535, not 99999999999999999999999999",
        ),
        ("weight = 0", "2:10: `weight` must be a whole number from 1 to 65535, not 0"),
        ("weight = -1", "2:10: `weight` must be a whole number from 1 to 65535, not -1"),
        (
            "max_connections = 0",
            "2:19: `max_connections` must be a whole number from 1 to 4294967295, not 0",
        ),
    ];
    for (line, expected) in cases {
        error(&format!("[[server]]\n{line}"), expected);
    }
}

#[test]
fn numbers_may_be_written_in_every_way_toml_has() {
    let model = valid("[[server]]\nport = 0x1F91\nmax_connections = 1_000_000");
    assert_eq!(model.pools[0].servers[0].address.port(), 8081);
    assert_eq!(model.pools[0].servers[0].max_connections.get(), 1_000_000);
}

#[test]
fn an_invalid_duration_is_an_error() {
    let what = "a duration in quotes such as \"250ms\", \"10s\", \"5m\" or \"2h\"";
    let cases = [
        ("connect = 3", format!("2:11: `connect` must be {what}, not an integer")),
        ("connect = \"3\"", format!("2:11: `connect` must be {what}, not \"3\"")),
        ("connect = \"3 sec\"", format!("2:11: `connect` must be {what}, not \"3 sec\"")),
        ("connect = \"0\"", "2:11: `connect` must be longer than zero".to_owned()),
        (
            "connect = \"9999h\"",
            "2:11: `connect` must be at most \"8760h\", not \"9999h\"".to_owned(),
        ),
    ];
    for (line, expected) in cases {
        error(&format!("[load_balancer.timeouts]\n{line}\n[[server]]"), &expected);
    }
}

#[test]
fn invalid_ports_interfaces_and_workers_are_errors() {
    let cases = [
        (
            "[load_balancer]\nsnat_ports = \"9-1\"",
            "2:14: `snat_ports` must be a range of ports such as \"10240-32767\", not \"9-1\"",
        ),
        (
            "[load_balancer]\nsnat_ports = \"0-10\"",
            "2:14: `snat_ports` must be a range of ports such as \"10240-32767\", not \"0-10\"",
        ),
        (
            "[load_balancer]\ninterfaces = [\"a/b\"]",
            "2:15: `interfaces` has \"a/b\", which cannot be an interface",
        ),
        ("[load_balancer]\ninterfaces = [\"a\", \"a\"]", "2:20: `interfaces` names \"a\" twice"),
        (
            "[runtime]\nworkers = \"many\"",
            "2:11: `workers` must be \"auto\" or a whole number from 1 to 1024, not \"many\"",
        ),
        ("[runtime]\nworkers = 0", "2:11: `workers` must be a whole number from 1 to 1024, not 0"),
    ];
    for (text, expected) in cases {
        error(&format!("{text}\n[[server]]"), expected);
    }
}

#[test]
fn duplicated_names_are_errors() {
    error(
        "[[listener]]\nname = \"a\"\nport = 1\n[[listener]]\nname = \"a\"\nport = 2\n[[server]]",
        "5:8: another listener is called `a`: choose another name",
    );
    error(
        "[load_balancer]\n[[listener]]\nname = \"default\"\nport = 1\n[[server]]",
        "3:8: another listener is called `default`: choose another name",
    );
    error(
        "[[pool]]\nname = \"a\"\n[[pool]]\nname = \"a\"\n[[server]]\n[[server]]\npool = \"a\"",
        "4:8: another pool is called `a`: choose another name",
    );
    error(
        "[[server]]\nname = \"a\"\nport = 1\n[[server]]\nname = \"a\"\nport = 2",
        "5:8: another server of pool `default` is called `a`: choose another name",
    );
}

#[test]
fn listeners_and_pools_need_a_name() {
    let found = errors("[[listener]]\nport = 1\n[[pool]]\n[[server]]");
    let help = "(add `name = \"..\"`, unique among its kind)";
    assert_eq!(
        found,
        [
            format!("1:1: this listener has no name {help}"),
            format!("3:1: this pool has no name {help}")
        ]
    );
}

#[test]
fn an_unknown_pool_is_an_error() {
    error(
        "[[listener]]\nname = \"a\"\npool = \"wev\"\n[[pool]]\nname = \"web\"\n[[server]]\npool = \"web\"",
        "3:8: unknown pool `wev`, did you mean `web`?",
    );
    error(
        "[[server]]\n[[server]]\npool = \"other\"",
        "3:8: unknown pool `other` (add a [[pool]] with `name = \"other\"`)",
    );
}

#[test]
fn a_pool_without_servers_is_an_error() {
    error(
        "[[pool]]\nname = \"web\"\n[[server]]",
        "2:8: pool `web` has no servers (add a [[server]] with `pool = \"web\"`)",
    );
    error("", "pool `default` has no servers (add a [[server]] with `pool = \"default\"`)");
}

#[test]
fn a_wrong_server_does_not_leave_its_pool_empty() {
    error(
        "[[server]]\nport = \"x\"",
        "2:8: `port` must be a whole number from 0 to 65535, not a string",
    );
}

#[test]
fn a_server_stands_in_a_pool_once() {
    error(
        "[[server]]\naddress = \"127.0.0.1\"\n[[server]]\naddress = \"localhost\"",
        "4:11: 127.0.0.1:3000 is in pool `default` already: use `weight` for a larger share",
    );
}

#[test]
fn a_listener_address_is_taken_once_for_each_protocol() {
    let listener = |name, protocol| {
        format!("[[listener]]\nname = \"{name}\"\nport = 53\nprotocol = \"{protocol}\"\n")
    };
    let text = format!("{}{}[[server]]", listener("a", "tcp"), listener("b", "tcp"));
    error(&text, "7:8: another listener has 127.0.0.1:53/tcp: choose another port");
    valid(&format!("{}{}[[server]]", listener("a", "tcp"), listener("b", "udp")));
    let http = "[[listener]]\nname = \"h\"\nport = 53\nlayer = \"L7\"\n";
    let text = format!("{}{http}[[server]]", listener("a", "tcp"));
    error(&text, "7:8: another listener has 127.0.0.1:53/tcp: choose another port");
}

#[test]
fn a_listener_is_not_its_own_server() {
    error(
        "[load_balancer]\nport = 3000\n[[server]]\nport = 3000",
        "4:8: 127.0.0.1:3000 is the listener itself",
    );
    error(
        "[load_balancer]\naddress = \"0.0.0.0\"\nport = 3000\n[[server]]\nport = 3000",
        "5:8: 127.0.0.1:3000 is the listener itself",
    );
    valid("[load_balancer]\naddress = \"::\"\nport = 3000\n[[server]]\nport = 3000");
}

#[test]
fn keys_of_layer_7_are_refused_on_layer_4() {
    for key in ["request_head", "client_idle", "stream_idle"] {
        error(
            &format!("[load_balancer]\n[load_balancer.timeouts]\n{key} = \"1s\"\n[[server]]"),
            &format!("3:1: `{key}` is for layer 7 (remove it, or write `layer = \"L7\"`)"),
        );
    }
    for key in ["response_head", "server_idle"] {
        error(
            &format!("[load_balancer]\n[load_balancer.timeouts]\n{key} = \"1s\"\n[[server]]"),
            &format!("3:1: `{key}` is for layer 7, and pool `default` serves layer 4 (remove it)"),
        );
    }
}

#[test]
fn keys_of_layer_4_are_refused_on_layer_7() {
    let lines = [
        ("protocol", "protocol = \"tcp\""),
        ("forwarding", "forwarding = \"nat\""),
        ("icmp_echo", "icmp_echo = true"),
        ("snat_ips", "snat_ips = []"),
        ("snat_ports", "snat_ports = \"1-2\""),
    ];
    for (key, line) in lines {
        error(
            &format!("[load_balancer]\nlayer = \"L7\"\n{line}\n[[server]]"),
            &format!("3:1: `{key}` is for layer 4 (remove it, or write `layer = \"L4\"`)"),
        );
    }
    error(
        "[load_balancer]\nlayer = \"L7\"\n[load_balancer.flows]\ntcp_syn = \"1s\"\n[[server]]",
        "3:1: `flows` is for layer 4 (remove it, or write `layer = \"L4\"`)",
    );
}

#[test]
fn a_tunnel_deadline_is_refused_on_udp() {
    error(
        "[load_balancer]\nprotocol = \"udp\"\n[load_balancer.timeouts]\ntunnel_idle = \"1s\"\n[[server]]",
        "4:1: `tunnel_idle` is for TCP, and this listener's protocol is UDP \
         (use `udp_two_way` of [listener.flows])",
    );
}

#[test]
fn a_name_that_does_not_resolve_is_an_error() {
    error("[[server]]\naddress = \"nowhere\"", "2:11: `address` cannot be resolved: no such name");
    error(
        "[[server]]\naddress = \"127.0.0.1:80\"",
        "2:11: `address` must be an IP address or a host name alone; the port goes into `port`",
    );
    error(
        "[[server]]\naddress = \"\"",
        "2:11: `address` is empty: write an IP address or a host name",
    );
    error(
        "[[server]]\naddress = \"0.0.0.0\"",
        "2:11: `address` must be the address of one server, not 0.0.0.0",
    );
    error(
        "[[server]]\naddress = \"255.255.255.255\"",
        "2:11: `address` must be the address of one server, not 255.255.255.255",
    );
}

#[test]
fn odd_ways_to_write_an_ipv4_address_are_errors() {
    for place in ["[load_balancer]\naddress", "[[server]]\naddress"] {
        for text in ["203.0.113.010", "0x7f.1", "127.1", "1"] {
            let found = errors(&format!("{place} = \"{text}\"\n[[server]]"));
            let expected = "2:11: `address` is no IPv4 address: write four numbers from 0 to 255 \
                            without leading zeros";
            assert_eq!(found[0], expected, "{text}");
        }
        let found = errors(&format!("{place} = \"::ffff:192.0.2.1\"\n[[server]]"));
        let expected = "2:11: `address` is an IPv4 address written as an IPv6 one: write 192.0.2.1";
        assert_eq!(found[0], expected);
    }
}

#[test]
fn a_listener_has_an_address_of_one_host() {
    let cases = [
        ("224.0.0.1", "a multicast address"),
        ("ff02::1", "a multicast address"),
        ("255.255.255.255", "the broadcast address"),
    ];
    for (address, what) in cases {
        error(
            &format!("[load_balancer]\naddress = \"{address}\"\n[[server]]"),
            &format!("2:11: `address` must be an address of this host, and {address} is {what}"),
        );
    }
}

#[test]
fn a_listener_on_every_address_leaves_no_packet_to_sockets_beside() {
    let text = |every: &str, named: &str| {
        format!(
            "[[listener]]\nname = \"every\"\naddress = \"0.0.0.0\"\nport = 80\n{every}\n\
             [[listener]]\nname = \"named\"\naddress = \"192.0.2.1\"\nport = 80\n{named}\n\
             [[server]]\naddress = \"192.0.2.2\""
        )
    };
    let userspace = "datapath = \"userspace\"";
    error(
        &text("", userspace),
        "4:8: the kernel would take packets for 0.0.0.0:80/tcp that are listener `named`'s, which \
         is served in userspace (write `datapath = \"userspace\"` here, or an address)",
    );
    // Both in the kernel, or both at sockets, the named address goes first.
    valid(&text("", ""));
    valid(&text(userspace, ""));
    valid(&text(userspace, userspace));
    valid(&text("", "datapath = \"userspace\"\nprotocol = \"udp\""));
}

#[test]
fn every_wrong_item_of_an_array_is_named_at_its_place() {
    let places = |line: &str| {
        let found = errors(&format!("[load_balancer]\n{line}\n[[server]]"));
        let place = |line: &String| line.split(": ").next().map(str::to_owned);
        found.iter().filter_map(place).collect::<Vec<_>>()
    };
    assert_eq!(
        places("allow = [\"x\", \"192.0.2.0/24\", \"192.0.2.1/24\", 3]"),
        ["2:10", "2:31", "2:47"]
    );
    assert_eq!(places("deny = [\"x\", \"y\"]"), ["2:9", "2:14"]);
    assert_eq!(
        places("snat_ips = [\"x\", \"192.0.2.1\", \"192.0.2.1\", \"::\"]"),
        ["2:13", "2:31", "2:44"]
    );
    assert_eq!(places("interfaces = [\"a/b\", \"a\", \"a\", 1]"), ["2:15", "2:27", "2:32"]);
    let places = |table: &str, line: &str| places(&format!("layer = \"L7\"\n[{table}]\n{line}"));
    let http = "load_balancer.http";
    assert_eq!(places(http, "methods = [\"A B\", \"GET\", 1]"), ["4:12", "4:26"]);
    assert_eq!(places(http, "upgrades = [\"h2c\", \"a b\"]"), ["4:13", "4:20"]);
    let edits = "load_balancer.headers.response";
    assert_eq!(places(edits, "remove = [\"A B\", \"x\", \"te\"]"), ["4:11", "4:23"]);
    assert_eq!(places("load_balancer.retry", "on = [\"x\", \"connect\", 1]"), ["4:7", "4:23"]);
    let route = "methods = [\"get\", \"PUT\", \"TRACE\"]\npool = \"default\"";
    assert_eq!(places("[route]", route), ["4:12", "4:26"]);
}

#[test]
fn weights_that_make_too_long_a_cycle_are_an_error() {
    let servers = "[[server]]\nport = 1\nweight = 16381\n[[server]]\nport = 2\nweight = 1";
    error(
        &format!("[load_balancer]\nalgorithm = \"weighted_round_robin\"\n{servers}"),
        "2:13: the weights of pool `default` make too long a cycle \
         (divided by their common divisor they may add up to 16381: use smaller weights)",
    );
    let algorithm = |name: &str| format!("[load_balancer]\nalgorithm = \"{name}\"\n{servers}");
    assert_eq!(errors(&algorithm("random")).len(), 1);
    // Others do not make a sequence of weights.
    for name in ["round_robin", "maglev", "p2c"] {
        valid(&algorithm(name));
    }
}

#[test]
fn a_pool_has_at_most_256_servers() {
    let servers = |count: u32| -> String {
        (1..=count).map(|port| format!("[[server]]\nport = {port}\n")).collect()
    };
    valid(&servers(256));
    error(&servers(257), "pool `default` has 257 servers: at most 256 are possible");
}

#[test]
fn there_are_at_most_4095_servers() {
    let mut text = String::new();
    for pool in 0..16 {
        text += &format!("[[pool]]\nname = \"p{pool}\"\n");
        for port in 1..=256 {
            text += &format!("[[server]]\npool = \"p{pool}\"\nport = {port}\n");
        }
    }
    text += "[[listener]]\nname = \"a\"\npool = \"p0\"\n";
    error(&text, "there are 4096 servers: at most 4095 are possible");
}

#[test]
fn all_errors_are_found_at_once_in_file_order() {
    let found = errors(
        "[load_balancer]
adress = \"127.0.0.1\"
port = 0
algorithm = \"fastest\"
[[server]]
weight = \"3\"
[[server]]
address = \"nowhere\"
pool = \"web\"
[runtime]
drain_timeout = 5
[[listener]]
name = \"x\"
port = 99
pool = \"y\"",
    );
    let places: Vec<&str> = found.iter().filter_map(|line| line.split(": ").next()).collect();
    assert_eq!(places, ["2:1", "3:8", "4:13", "6:10", "8:11", "9:8", "11:17", "15:8"]);
}

#[test]
fn every_syntax_error_is_found_and_each_line_named_once() {
    let found = errors("[load_balancer]\nport = \naddress = \"127.0.0.1\nport 80\n");
    let lines: Vec<&str> = found.iter().filter_map(|line| line.split(':').next()).collect();
    assert_eq!(lines, ["2", "3", "4"], "{found:?}");
}

#[test]
fn a_cascade_of_syntax_errors_is_one_error() {
    let found = errors("x = [1, 2\ny = 3\n");
    let lines: Vec<&str> = found.iter().filter_map(|line| line.split(':').next()).collect();
    assert_eq!(lines, ["2"], "{found:?}");
}

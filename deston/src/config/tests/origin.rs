//! `trusted_proxies`, the PROXY protocol and `[listener.headers]`.

use std::time::Duration;

use super::{errors, valid};
use crate::model::{AcceptProxyProtocol, ForwardedFields, Layer, Origin, ProxyProtocol};

/// A listener on an address of its own, and one server with further keys.
fn text(listener: &str, server: &str) -> String {
    format!(
        "[load_balancer]\n{listener}\naddress = \"192.0.2.1\"\nport = 80\n\
         [[server]]\naddress = \"198.51.100.1\"\nport = 80\n{server}"
    )
}

/// Asserts the one error of a listener's keys.
#[track_caller]
fn error(listener: &str, server: &str, expected: &str) {
    assert_eq!(errors(&text(listener, server)), [expected], "of:\n{listener}\n{server}");
}

const TRUSTED: &str = "trusted_proxies = [\"10.0.0.0/8\", \"2001:db8::1\"]";

#[test]
fn nobody_is_believed_unless_it_is_written() {
    let model = valid(&text("layer = \"L7\"", ""));
    let listener = &model.listeners[0];
    assert_eq!(listener.origin, Origin::default());
    assert_eq!(listener.origin.accept, AcceptProxyProtocol::Off);
    assert_eq!(listener.origin.deadline, Duration::from_secs(5));
    let Layer::L7(l7) = &listener.layer else { panic!("{:?}", listener.layer) };
    assert_eq!(l7.forwarded, ForwardedFields::X);
    assert_eq!(model.pools[0].servers[0].speech.proxy_protocol, None);
}

#[test]
fn trusted_proxies_are_prefixes_of_peers() {
    let model = valid(&text(&format!("layer = \"L7\"\n{TRUSTED}"), ""));
    let trusts = |peer: &str| model.listeners[0].origin.trusts(peer.parse().unwrap());
    assert!(trusts("10.1.2.3") && trusts("2001:db8::1") && trusts("::ffff:10.1.2.3"));
    assert!(!trusts("11.1.2.3") && !trusts("2001:db8::2"));
}

#[test]
fn every_kind_of_forwarded_fields_has_a_name() {
    for (name, expected) in [
        ("x", ForwardedFields::X),
        ("rfc7239", ForwardedFields::Rfc7239),
        ("both", ForwardedFields::Both),
        ("off", ForwardedFields::Off),
    ] {
        let model =
            valid(&text(&format!("layer = \"L7\"\nheaders = {{ forwarded = \"{name}\" }}"), ""));
        let Layer::L7(l7) = &model.listeners[0].layer else { panic!("{name}") };
        assert_eq!(l7.forwarded, expected);
    }
    error(
        "headers = { forwarded = \"x\" }",
        "",
        "2:11: `headers` is for layer 7 (remove it, or write `layer = \"L7\"`)",
    );
}

#[test]
fn the_proxy_protocol_is_accepted_by_either_layer_and_sent_in_either_version() {
    for layer in ["L4", "L7"] {
        for (name, accept) in
            [("optional", AcceptProxyProtocol::Optional), ("require", AcceptProxyProtocol::Require)]
        {
            let keys = format!(
                "layer = \"{layer}\"\n{TRUSTED}\naccept_proxy_protocol = \"{name}\"\n\
                 timeouts = {{ tls_handshake = \"2s\" }}"
            );
            for (version, expected) in [("v1", ProxyProtocol::V1), ("v2", ProxyProtocol::V2)] {
                let model = valid(&text(&keys, &format!("proxy_protocol = \"{version}\"")));
                let origin = &model.listeners[0].origin;
                assert_eq!(origin.accept, accept);
                assert_eq!(origin.deadline, Duration::from_secs(2));
                let speech = &model.pools[0].servers[0].speech;
                assert_eq!(speech.proxy_protocol, Some(expected));
            }
        }
    }
}

#[test]
fn the_proxy_protocol_of_nobody_is_an_error() {
    error(
        "accept_proxy_protocol = \"optional\"",
        "",
        "2:1: `accept_proxy_protocol` believes trusted proxies alone, and there are none (write \
         `trusted_proxies = [..]`, the addresses that proxies connect from)",
    );
    error(
        TRUSTED,
        "",
        "2:1: layer 4 is told of clients by the PROXY protocol alone, and this listener does not \
         accept it (write `accept_proxy_protocol = \"require\"`, or `layer = \"L7\"`)",
    );
    valid(&text("trusted_proxies = []\naccept_proxy_protocol = \"off\"", ""));
}

#[test]
fn the_proxy_protocol_is_for_tcp() {
    error(
        &format!("protocol = \"udp\"\naccept_proxy_protocol = \"require\"\n{TRUSTED}"),
        "",
        "3:1: `accept_proxy_protocol` is for TCP, and this listener's protocol is UDP (remove it)",
    );
    error(
        "protocol = \"udp\"",
        "proxy_protocol = \"v2\"",
        "8:1: `proxy_protocol` is for TCP, and this server's pool serves UDP (remove it)",
    );
}

#[test]
fn the_kernel_neither_reads_nor_sends_the_proxy_protocol() {
    let help = "write `datapath = \"auto\"` or \"userspace\", and what goes with that";
    for (key, asks) in [
        ("datapath = \"xdp\"", "datapath `xdp`"),
        ("datapath = \"tc\"", "datapath `tc`"),
        ("forwarding = \"dnat\"", "`dnat`"),
    ] {
        error(
            &format!("{key}\naccept_proxy_protocol = \"require\"\n{TRUSTED}"),
            "",
            &format!(
                "3:1: `accept_proxy_protocol` is read in userspace, and {asks} is not ({help})"
            ),
        );
        error(
            key,
            "proxy_protocol = \"v1\"",
            &format!("8:1: `proxy_protocol` is sent by userspace, and {asks} is not ({help})"),
        );
    }
    for datapath in ["auto", "userspace"] {
        let keys = format!("datapath = \"{datapath}\"\naccept_proxy_protocol = \"require\"");
        let text = text(&format!("{keys}\n{TRUSTED}"), "proxy_protocol = \"v2\"");
        let model = valid(&text);
        let servers = &model.pools[0].servers;
        assert!(model.listeners[0].needs_userspace(servers).is_some());
        assert!(model.listeners[0].needs_userspace([]).is_some());
    }
    let model = valid(&text("", "proxy_protocol = \"v2\""));
    assert!(model.listeners[0].needs_userspace(&model.pools[0].servers).is_some());
    assert_eq!(model.listeners[0].needs_userspace([]), None);
}

#[test]
fn the_kernel_cannot_spare_trusted_proxies() {
    let limit = "rate_limit = { rate = \"9/s\" }";
    error(
        &format!("layer = \"L7\"\ndatapath = \"tc\"\n{limit}\n{TRUSTED}"),
        "",
        "4:14: the rate limit spares `trusted_proxies`, which datapath `tc` cannot do \
         (write `datapath = \"auto\"` or \"userspace\")",
    );
    valid(&text(&format!("layer = \"L7\"\n{limit}\n{TRUSTED}"), ""));
    valid(&text(&format!("layer = \"L7\"\ndatapath = \"tc\"\n{TRUSTED}"), ""));
}

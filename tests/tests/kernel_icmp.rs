//! ICMP errors about packets that we sent are translated, both ways, by the packet they quote; echo
//! is answered for addresses that are ours alone.

use std::net::IpAddr;

use deston_common::address::flags;
use deston_common::listener::Forwarding;
use deston_common::outcome::Outcome;
use deston_common::server::ServerState;
use deston_common::table::Table;
use deston_tests::kernel::{Connection, Family, Lab, SERVER_ISN, Setting, each, rows, server_mac};
use deston_tests::packet::flags::{ACK, SYN_ACK};
use deston_tests::packet::{BALANCER_MAC, CLIENT_MAC, Packet, Quote, Tag, ether_type, v4, v6};
use deston_tests::require_kernel;

/// Every kind of error that quotes a packet: type and code, and the second word.
fn errors(family: Family) -> Vec<(&'static str, (u8, u8), [u8; 4])> {
    match family {
        Family::V4 => vec![
            ("host unreachable", (v4::UNREACHABLE, 1), [0; 4]),
            ("port unreachable", (v4::UNREACHABLE, 3), [0; 4]),
            ("fragmentation needed", (v4::UNREACHABLE, v4::NEEDS_FRAGMENTS), [0, 0, 5, 0x78]),
            ("time exceeded", (v4::TIME_EXCEEDED, 0), [0; 4]),
            ("a bad parameter", (v4::PARAMETER, 0), [20, 0, 0, 0]),
        ],
        Family::V6 => vec![
            ("no route", (v6::UNREACHABLE, 0), [0; 4]),
            ("port unreachable", (v6::UNREACHABLE, 4), [0; 4]),
            ("packet too big", (v6::TOO_BIG, 0), [0, 0, 5, 0x78]),
            ("time exceeded", (v6::TIME_EXCEEDED, 0), [0; 4]),
            ("a bad parameter", (v6::PARAMETER, 1), [0, 0, 0, 6]),
        ],
    }
}

const QUOTES: [(&str, Quote); 4] = [
    ("eight bytes", Quote::Bytes(8)),
    ("nine bytes", Quote::Bytes(9)),
    ("a datagram's end", Quote::Bytes(16)),
    ("all", Quote::Whole),
];

/// An error about `sent`, on the server's side of the balancer.
fn from_upstream(
    connection: &Connection,
    sent: &Packet,
    (kind_code, rest): ((u8, u8), [u8; 4]),
    quote: Quote,
    router: IpAddr,
) -> Packet {
    connection.by_server(sent.error(router, kind_code, rest, quote)).ttl(60)
}

/// What the client has to receive of an error about its packet, which was quoted as it was sent.
fn at_client(connection: &Connection, error: &Packet, packet: &Packet, quote: Quote) -> Packet {
    Packet {
        source_mac: BALANCER_MAC,
        destination_mac: CLIENT_MAC,
        tags: connection.tags.clone(),
        source: (connection.listener.ip(), 0).into(),
        destination: (connection.client.ip(), 0).into(),
        ttl: error.ttl - 1,
        payload: packet.clone().ttl(packet.ttl - 1).quoted(quote),
        ..error.clone()
    }
}

#[test]
fn errors_about_packets_to_servers_reach_the_client_as_its_own() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let router = setting.family.router();
        for forwarding in [Forwarding::Nat, Forwarding::Dnat] {
            let mut lab = Lab::new(setting);
            lab.forwarding(forwarding);
            let (tcp, udp) = (lab.establish(1), lab.exchange(1));
            let mut judged = 0;
            for (name, kind_code, rest) in errors(setting.family) {
                judged +=
                    rows(QUOTES.map(|(quote, row)| (format!("{name}, {quote}"), row)), |quote| {
                        let data = tcp.from_client(ACK).payload(b"a request");
                        let query = udp.query(b"a longer query");
                        let absent = udp.query(b"a query").without_checksum();
                        for (connection, packet) in [(&tcp, &data), (&udp, &query), (&udp, &absent)]
                        {
                            let sent = connection.to_server(packet);
                            let how = (kind_code, rest);
                            let error = from_upstream(connection, &sent, how, quote, router);
                            let expected = at_client(connection, &error, packet, quote);
                            lab.emits_exactly(&error, Outcome::ErrorReplied, &expected);
                        }
                    });
            }
            assert_eq!(judged, 20);
        }
    });
}

#[test]
fn errors_about_packets_to_clients_reach_the_server_as_its_own() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let router = setting.family.router();
        for forwarding in [Forwarding::Nat, Forwarding::Dnat] {
            let mut lab = Lab::new(setting);
            lab.forwarding(forwarding);
            let (tcp, udp) = (lab.establish(1), lab.exchange(1));
            let mut judged = 0;
            for (name, kind_code, rest) in errors(setting.family) {
                judged +=
                    rows(QUOTES.map(|(quote, row)| (format!("{name}, {quote}"), row)), |quote| {
                        let data = tcp.from_server(ACK).payload(b"a response");
                        let response = udp.response(b"a longer response");
                        for (connection, packet) in [(&tcp, &data), (&udp, &response)] {
                            let sent = connection.to_client(packet);
                            let error = Packet {
                                source_mac: CLIENT_MAC,
                                destination_mac: BALANCER_MAC,
                                ..sent.error(router, kind_code, rest, quote)
                            };
                            let source = match forwarding {
                                Forwarding::Dnat => router,
                                Forwarding::Nat | Forwarding::DsrL2 | Forwarding::DsrIpip => {
                                    connection.source.ip()
                                }
                            };
                            let expected = Packet {
                                source_mac: deston_tests::kernel::BALANCER_TO_SERVERS_MAC,
                                destination_mac: server_mac(1),
                                source: (source, 0).into(),
                                destination: (connection.server.ip(), 0).into(),
                                ttl: error.ttl - 1,
                                payload: packet.clone().ttl(packet.ttl - 1).quoted(quote),
                                ..error.clone()
                            };
                            lab.emits_exactly(&error, Outcome::ErrorForwarded, &expected);
                        }
                    });
            }
            assert_eq!(judged, 20);
        }
    });
}

#[test]
fn errors_about_half_open_flows_are_translated_too() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let router = setting.family.router();
        let connection = lab.open(1);
        let syn = lab.syn(1);
        let how = errors(setting.family)[2];
        let quote = Quote::Bytes(8);
        let sent = connection.to_server(&syn);
        let error = from_upstream(&connection, &sent, (how.1, how.2), quote, router);
        let expected = at_client(&connection, &error, &syn, quote);
        lab.emits_exactly(&error, Outcome::ErrorReplied, &expected);
        let answer = connection.from_server(SYN_ACK);
        lab.replies(&connection, &answer);
        let error = connection.to_client(&answer).too_big(router, 1_280, quote);
        let sent = lab.emits(&error, Outcome::ErrorForwarded);
        assert_eq!(sent.destination.ip(), connection.server.ip());
    });
}

#[test]
fn an_error_may_come_by_any_way_and_leaves_by_the_flows() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let tag = Tag { tpid: ether_type::VLAN, tci: 9 };
        lab.server_tags(1, &[Tag { tpid: ether_type::VLAN, tci: 7 }]);
        let connection = lab.opens(&lab.syn(1).tags(&[tag]));
        lab.shake_hands(&connection);
        let data = connection.from_client(ACK).payload(b"data");
        let sent = connection.to_server(&data);
        let error = sent.too_big(setting.family.router(), 1_400, Quote::Bytes(8));
        let error = Packet { tags: vec![], ..error };
        let left = lab.emits(&error, Outcome::ErrorReplied);
        assert_eq!(left.tags, lab.shown_tags(&left, &[tag]));
        let sent = connection.to_client(&connection.from_server(ACK).payload(b"data"));
        let error = sent.too_big(setting.family.router(), 1_400, Quote::Bytes(8));
        let left = lab.emits(&error, Outcome::ErrorForwarded);
        assert_eq!(left.tags, lab.shown_tags(&left, &connection.server_tags));
    });
}

#[test]
fn quotes_with_ip_options_are_read() {
    require_kernel!();
    each(Setting::IPV4, |setting| {
        let mut lab = Lab::new(setting);
        let connection = lab.establish(1);
        for words in [1, 5, 10] {
            let data = Packet { options: vec![1; 4 * words], ..connection.from_client(ACK) };
            let sent = connection.to_server(&data);
            let how = ((v4::TIME_EXCEEDED, 0), [0; 4]);
            let router = setting.family.router();
            let error = from_upstream(&connection, &sent, how, Quote::Bytes(8), router);
            let expected = at_client(&connection, &error, &data, Quote::Bytes(8));
            lab.emits_exactly(&error, Outcome::ErrorReplied, &expected);
        }
    });
}

#[test]
fn errors_about_datagrams_in_fragments_are_told_by_the_first() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let connection = lab.exchange(1);
        let router = setting.family.router();
        let query = connection.query(&[0x5a; 64]).fragment(0x1234, 0, true);
        let response = connection.response(&[0xa5; 64]).fragment(0x1235, 0, true);
        let count = rows(QUOTES, |quote| {
            let (_, kind_code, rest) = errors(setting.family)[2];
            let sent = connection.to_server(&query);
            let error = from_upstream(&connection, &sent, (kind_code, rest), quote, router);
            let expected = at_client(&connection, &error, &query, quote);
            lab.emits_exactly(&error, Outcome::ErrorReplied, &expected);

            let sent = connection.to_client(&response);
            let error = Packet {
                source_mac: CLIENT_MAC,
                destination_mac: BALANCER_MAC,
                ..sent.error(router, kind_code, rest, quote)
            };
            let expected = Packet {
                source_mac: deston_tests::kernel::BALANCER_TO_SERVERS_MAC,
                destination_mac: server_mac(1),
                source: (connection.source.ip(), 0).into(),
                destination: (connection.server.ip(), 0).into(),
                ttl: error.ttl - 1,
                payload: response.clone().ttl(response.ttl - 1).quoted(quote),
                ..error.clone()
            };
            lab.emits_exactly(&error, Outcome::ErrorForwarded, &expected);
        });
        assert_eq!(count, 4);
        // Less than its ports, to the last byte.
        let whole = connection.to_server(&query).time_exceeded(router, Quote::Bytes(8));
        for len in 0..whole.payload.len() {
            lab.passes(&whole.clone().payload(&whole.payload[..len]), Outcome::IcmpUnrelated);
        }
    });
}

#[test]
fn a_quote_too_short_or_of_something_else_is_passed() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let connection = lab.establish(1);
        let router = setting.family.router();
        let sent = connection.to_server(&connection.from_client(ACK).payload(b"data"));
        let whole = sent.time_exceeded(router, Quote::Bytes(8));
        for len in 0..whole.payload.len() {
            lab.passes(&whole.clone().payload(&whole.payload[..len]), Outcome::IcmpUnrelated);
        }
        let quoting = |packet: Packet| packet.time_exceeded(router, Quote::Whole);
        let mut foreign = sent.clone();
        foreign.source.set_port(1);
        let mut mangled = whole.clone();
        mangled.payload[0] = if sent.is_v4() { 0x60 } else { 0x40 };
        let (us, server) = (sent.source.ip(), sent.destination.ip());
        // Bytes that would be the flow's ports, were they not in the middle of a datagram.
        let ports = &sent.quoted(Quote::Bytes(16))[sent.ip_header_len()..];
        let to_us = |error: Packet| Packet { destination: (us, 0).into(), ..error };
        let table = [
            ("another flow", quoting(foreign)),
            ("a reply to us", to_us(quoting(connection.from_server(ACK)))),
            ("a later fragment", quoting(sent.later_fragment(7, 8, false, ports))),
            ("GRE", quoting(Packet::other(us, server, 47, &[0; 20]))),
            ("an echo", quoting(Packet::echo(us, server, b"x"))),
            ("another version", mangled),
        ];
        let count = rows(table, |error| lab.passes(&error, Outcome::IcmpUnrelated));
        assert_eq!(count, 6);
    });
}

#[test]
fn control_messages_that_are_no_errors_are_passed() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let connection = lab.establish(1);
        let router = setting.family.router();
        let sent = connection.to_server(&connection.from_client(ACK).payload(b"data"));
        let kinds: &[u8] = match setting.family {
            Family::V4 => &[0, 1, v4::SOURCE_QUENCH, v4::REDIRECT, 9, 10, 13, 14, 30, 255],
            Family::V6 => &[0, 5, 100, 127, 130, 133, v6::NEIGHBOUR, 137, 255],
        };
        for kind in kinds {
            let message = sent.error(router, (*kind, 0), [0; 4], Quote::Whole);
            lab.passes(&message, Outcome::IcmpUnrelated);
        }
    });
}

#[test]
fn an_error_whose_time_to_live_runs_out_is_dropped_without_a_word() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let connection = lab.establish(1);
        let router = setting.family.router();
        for ttl in [0, 1] {
            let sent = connection.to_server(&connection.from_client(ACK));
            lab.ttl_expires_silently(&sent.too_big(router, 1_400, Quote::Bytes(8)).ttl(ttl));
            let sent = connection.to_client(&connection.from_server(ACK));
            lab.ttl_expires_silently(&sent.too_big(router, 1_400, Quote::Bytes(8)).ttl(ttl));
        }
    });
}

#[test]
fn errors_about_flows_of_the_other_hook_are_left_to_it() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let connection = lab.establish(1);
        let router = setting.family.router();
        let other = Setting::ALL
            .into_iter()
            .find(|other| other.family == setting.family && other.hook != setting.hook);
        lab.setting = other.expect("the other hook");
        let sent = connection.to_server(&connection.from_client(ACK));
        lab.passes(&sent.too_big(router, 1_400, Quote::Bytes(8)), Outcome::OtherHook);
        let sent = connection.to_client(&connection.from_server(ACK));
        lab.passes(&sent.too_big(router, 1_400, Quote::Bytes(8)), Outcome::OtherHook);
    });
}

#[test]
fn an_error_changes_nothing_of_its_flow() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let connection = lab.establish(1);
        let before = (lab.flow(&connection), lab.reply(&connection), lab.load(1));
        lab.wait(5);
        let sent = connection.to_server(&connection.from_client(ACK).ack(SERVER_ISN + 1));
        let router = setting.family.router();
        lab.emits(&sent.unreachable(router, Quote::Bytes(8)), Outcome::ErrorReplied);
        assert_eq!((lab.flow(&connection), lab.reply(&connection), lab.load(1)), before);
    });
}

/// A lab that answers echo for its listener's address.
fn with_echo(setting: Setting) -> Lab {
    let mut lab = Lab::new(setting);
    lab.dedicate();
    lab.address(lab.listener_address().ip(), |entry| entry.flags |= flags::ECHO);
    lab
}

#[test]
fn an_echo_request_to_an_address_of_ours_alone_is_answered() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = with_echo(setting);
        let (client, address) = (lab.client(1).ip(), lab.listener_address().ip());
        let tag = Tag { tpid: ether_type::VLAN, tci: 9 };
        let table: [(&str, &[u8], &[Tag], u8); 5] = [
            ("with a payload", b"0123456789", &[], 64),
            ("without", b"", &[], 255),
            ("of odd length", b"odd", &[], 64),
            ("with tags", b"tagged", &[tag, tag], 64),
            ("at its last breath", b"x", &[], 1),
        ];
        let table = table.map(|(name, payload, tags, ttl)| (name, (payload, tags, ttl)));
        let count = rows(table, |(payload, tags, ttl)| {
            let request = Packet::echo(client, address, payload).tags(tags).ttl(ttl);
            let mut reply = request.echo_reply();
            (reply.id, reply.fragment) = (request.id, request.fragment);
            lab.emits_exactly(&request, Outcome::Echoed, &reply);
        });
        assert_eq!(count, 5);
    });
}

#[test]
fn echo_is_answered_while_its_pool_has_a_server() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = with_echo(setting);
        let (client, address) = (lab.client(1).ip(), lab.listener_address().ip());
        let request = Packet::echo(client, address, b"x");
        lab.table(&Table::EMPTY);
        lab.drops(&request, Outcome::EchoUnhealthy);
        lab.round_robin([1]);
        lab.emits(&request, Outcome::Echoed);
        // A pool of its own tells of its own health.
        lab.address(address, |entry| entry.echo_pool = 3);
        lab.drops(&request, Outcome::EchoUnhealthy);
        lab.state(1, ServerState::Draining);
        lab.address(address, |entry| entry.echo_pool = 0);
        lab.emits(&request, Outcome::Echoed);
    });
}

#[test]
fn echo_to_the_hosts_own_addresses_stays_the_hosts() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let client = lab.client(1).ip();
        let to_listener = Packet::echo(client, lab.listener_address().ip(), b"x");
        lab.passes(&to_listener, Outcome::IcmpUnrelated);
        lab.passes(&Packet::echo(client, setting.family.snat(1), b"x"), Outcome::IcmpUnrelated);
        lab.dedicate();
        lab.passes(&to_listener, Outcome::IcmpUnrelated);
        let mut lab = with_echo(setting);
        lab.passes(&to_listener.echo_reply(), Outcome::Unrelated);
        let reply = Packet { destination: to_listener.destination, ..to_listener.echo_reply() };
        lab.passes(&reply, Outcome::IcmpUnrelated);
        lab.assert_outcomes(&[]);
    });
}

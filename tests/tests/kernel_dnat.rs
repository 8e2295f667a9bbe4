//! dnat: the client's address is kept, and servers answer by their default route; where one server
//! serves one listener, its packets need no flow.

use deston_common::conntrack::State;
use deston_common::flow;
use deston_common::listener::Forwarding;
use deston_common::outcome::Outcome;
use deston_common::server::ServerState;
use deston_tests::kernel::{Connection, Entries, Lab, Pinned, Setting, TIMEOUTS, each, rows};
use deston_tests::lab::Namespace;
use deston_tests::packet::flags::{ACK, FIN_ACK, SYN_ACK};
use deston_tests::packet::{Packet, protocol};
use deston_tests::require_kernel;

fn dnat(setting: Setting) -> Lab {
    let mut lab = Lab::new(setting);
    lab.forwarding(Forwarding::Dnat);
    lab
}

#[test]
fn servers_see_the_clients_own_address_and_port() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = dnat(setting);
        let (tcp, udp) = (lab.establish(1), lab.exchange(2));
        assert_eq!((tcp.source, udp.source), (lab.client(1), lab.client(2)));
        let flags = setting.flow_flag() | Forwarding::Dnat as u16;
        assert_eq!(
            lab.flow(&tcp).unwrap().flags & (flow::flags::FORWARDING | flow::flags::TC),
            flags
        );
        lab.forwards(&tcp, &tcp.from_client(ACK).payload(b"request"));
        lab.replies(&tcp, &tcp.from_server(ACK).payload(b"response"));
        lab.close(&tcp);
        assert_eq!(lab.in_use(1), 1);
    });
}

#[test]
fn a_full_circle_of_states_works_as_with_nat() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = dnat(setting);
        let connection = lab.establish(1);
        lab.forwards(&connection, &connection.from_client(FIN_ACK));
        lab.replies(&connection, &connection.from_server(FIN_ACK));
        assert!(lab.state_of(&connection).is_closed());
        let again = lab.opens(&lab.syn(1).seq(90_000));
        lab.replies(&again, &again.from_server(SYN_ACK).ack(90_001));
        lab.forwards(&again, &again.from_client(ACK).seq(90_001));
        assert_eq!(lab.state_of(&again).0, State::REPLIED | State::ESTABLISHED);
        lab.assert_entries(Entries::promoted(1));
    });
}

#[test]
fn a_client_of_dnat_may_open_many_flows_to_one_server() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = dnat(setting);
        for port in 2_000..2_100 {
            let syn = Packet::tcp(lab.client_at(1, port), lab.listener_address(), 2).ack(0);
            let connection = lab.opens(&syn);
            lab.shake_hands(&connection);
        }
        lab.assert_entries(Entries::promoted(100));
    });
}

#[test]
fn packets_of_a_server_that_are_no_replies_are_passed() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = dnat(setting);
        let server = setting.family.server(1);
        let away = (setting.family.stranger(), 443);
        let table = [
            ("its own connection", Packet::tcp(server, away, 2)),
            ("a datagram", Packet::udp((server.ip(), 53_000), away, b"x")),
            ("a reply to nobody", Packet::tcp(server, lab.client(9), SYN_ACK)),
        ];
        let count = rows(table, |packet| lab.passes(&packet, Outcome::Unrelated));
        assert_eq!(count, 3);
        let fragment = Packet::udp(server, away, b"").later_fragment(1, 8, false, b"rest");
        lab.passes(&fragment, Outcome::Fragment);
    });
}

#[test]
fn what_a_server_sends_to_the_host_itself_is_passed() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = dnat(setting);
        lab.static_reply(1);
        let server = setting.family.server(1);
        let host = (lab.listener_address().ip(), 40_000);
        let table = [
            ("an answer to a probe", Packet::tcp(server, host, SYN_ACK)),
            ("a datagram", Packet::udp(server, host, b"x")),
        ];
        let count = rows(table, |packet| lab.passes(&packet, Outcome::Unrelated));
        assert_eq!(count, 2);
    });
}

/// A flow of one listener's server, whose entries are lost.
fn lost(lab: &mut Lab, udp: bool) -> Connection {
    let connection = if udp { lab.exchange(1) } else { lab.establish(1) };
    lab.kernel.remove_flow(&connection.key()).unwrap();
    lab.kernel.remove_reply(&connection.reply_key()).unwrap();
    connection
}

#[test]
fn without_a_route_to_the_client_a_stateless_reply_is_dropped() {
    require_kernel!();
    // A namespace has no routes of the machine's.
    let namespace = Namespace::new("noroute");
    namespace.within(|| {
        each(Setting::ALL, |setting| {
            let mut lab = dnat(setting);
            lab.static_reply(1);
            for udp in [false, true] {
                let connection = lost(&mut lab, udp);
                let packet =
                    if udp { connection.response(b"r") } else { connection.from_server(ACK) };
                lab.drops(&packet, Outcome::NoNextHop);
            }
            lab.assert_entries(Entries::default());
        });
    });
}

/// The client's neighbour address in the namespace.
const NEIGHBOUR: [u8; 6] = [2, 0, 0, 0, 9, 1];
/// The address of the interface towards clients.
const OURS: [u8; 6] = [2, 0, 0, 0, 9, 2];

/// A namespace that forwards from the loopback, where test packets come from, to the clients.
fn with_a_route() -> Namespace {
    let namespace = Namespace::new("route");
    let mac = |bytes: [u8; 6]| bytes.map(|byte| format!("{byte:02x}")).join(":");
    let (ours, neighbour) = (mac(OURS), mac(NEIGHBOUR));
    namespace.batch(&[
        format!("link add clients address {ours} type veth peer name far"),
        "link set far up".to_owned(),
        "link set clients up".to_owned(),
    ]);
    namespace.set("net/ipv4/ip_forward", "1");
    namespace.set("net/ipv6/conf/all/forwarding", "1");
    namespace.batch(&[
        "address add 203.0.113.250/24 dev clients".to_owned(),
        "address add 2001:db8:3::250/48 dev clients nodad".to_owned(),
        format!("neighbour add 203.0.113.21 lladdr {neighbour} dev clients"),
        format!("neighbour add 2001:db8:3:1::77 lladdr {neighbour} dev clients"),
    ]);
    namespace
}

#[test]
fn a_server_of_one_listener_is_answered_for_without_a_flow() {
    require_kernel!();
    let namespace = with_a_route();
    namespace.within(|| {
        each(Setting::ALL, |setting| {
            let mut lab = dnat(setting);
            lab.static_reply(1);
            for udp in [false, true] {
                let connection = lost(&mut lab, udp);
                let packet = if udp {
                    connection.response(b"response")
                } else {
                    connection.from_server(ACK).payload(b"response")
                };
                let expected = Packet {
                    source_mac: OURS,
                    destination_mac: NEIGHBOUR,
                    ..connection.to_client(&packet)
                };
                lab.emits_exactly(&packet, Outcome::Replied, &expected);
            }
            lab.assert_entries(Entries::default());
        });
    });
}

#[test]
fn a_stateless_reply_belongs_to_its_listeners_hook() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = dnat(setting);
        lab.static_reply(1);
        let connection = lost(&mut lab, false);
        let other = Setting::ALL
            .into_iter()
            .find(|other| other.family == setting.family && other.hook != setting.hook);
        lab.setting = other.expect("the other hook");
        lab.passes(&connection.from_server(ACK), Outcome::OtherHook);
    });
}

#[test]
fn a_stateless_reply_is_of_the_servers_own_port_and_protocol() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = dnat(setting);
        let (server, listener) = (setting.family.server(1), lab.listener_address());
        lab.kernel.put_static_reply(server, protocol::TCP, listener, false).unwrap();
        let connection = lost(&mut lab, true);
        lab.passes(&connection.response(b"r"), Outcome::Unrelated);
        let ssh = Packet::tcp((server.ip(), 22), lab.client(1), SYN_ACK);
        lab.passes(&ssh, Outcome::Unrelated);
        lab.kernel.remove_static_reply(server, protocol::TCP).unwrap();
        lab.passes(&Packet::tcp(server, lab.client(1), SYN_ACK), Outcome::Unrelated);
    });
}

#[test]
fn a_stateless_replys_time_to_live_runs_out_too() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = dnat(setting);
        lab.static_reply(1);
        let connection = lost(&mut lab, false);
        let error =
            lab.emits(&connection.from_server(ACK).ttl(1).payload(&[0; 64]), Outcome::TtlExpired);
        assert_eq!(error.destination.ip(), connection.server.ip());
    });
}

#[test]
fn what_the_packet_before_was_does_not_matter() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let _pinned = Pinned::to_one_processor();
        let mut lab = dnat(setting);
        lab.static_reply(1);
        let connection = lost(&mut lab, false);
        // On its link a packet of direct return does not age.
        lab.listener(|entry| entry.forwarding = Forwarding::DsrL2 as u8);
        lab.step(&lab.syn(5).ttl(1), Outcome::Forwarded);
        let old = connection.from_server(ACK).ttl(1).payload(&[0; 64]);
        lab.emits(&old, Outcome::TtlExpired);
    });
}

#[test]
fn a_client_on_an_address_of_ours_gets_its_replies() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = dnat(setting);
        lab.snat_address(2);
        let client = (setting.family.snat(2), 40_000);
        let connection = lab.opens(&Packet::tcp(client, lab.listener_address(), 2).ack(0));
        lab.shake_hands(&connection);
        lab.replies(&connection, &connection.from_server(ACK).payload(b"response"));
    });
}

#[test]
fn a_server_may_be_a_client_of_a_listener() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = dnat(setting);
        lab.server(2, |_| ());
        lab.round_robin([2]);
        // From the very port that it serves, and from another.
        for port in [8_000, 40_000] {
            let client = (setting.family.server(1).ip(), port);
            let connection = lab.opens(&Packet::tcp(client, lab.listener_address(), 2).ack(0));
            assert_eq!(connection.number, 2);
            lab.forwards(&connection, &connection.from_client(2));
        }
        let elsewhere = (lab.listener_address().ip(), 81);
        let packet = Packet::tcp(setting.family.server(1), elsewhere, 2);
        lab.passes(&packet, Outcome::Unrelated);
    });
}

#[test]
fn a_server_behind_two_listeners_keeps_their_flows_apart() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = dnat(setting);
        let first = lab.establish(1);
        let other = (lab.listener_address().ip(), 81);
        let entry = lab.listener_entry();
        lab.kernel.put_listener(other.0, other.1, protocol::TCP, &entry).unwrap();
        let second = lab.opens(&Packet::tcp(lab.client_at(1, 41_000), other, 2).ack(0));
        lab.shake_hands(&second);
        lab.replies(&first, &first.from_server(ACK).payload(b"of 80"));
        lab.replies(&second, &second.from_server(ACK).payload(b"of 81"));
    });
}

#[test]
fn dnat_flows_idle_and_drain_like_others() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = dnat(setting);
        let connection = lab.establish(1);
        lab.state(1, ServerState::Draining);
        lab.forwards(&connection, &connection.from_client(ACK));
        lab.wait(TIMEOUTS.tcp_established_ns + 1);
        lab.passes(&connection.from_client(ACK), Outcome::NoFlow);
        assert_eq!(lab.load(1).entries, 0);
    });
}

//! Which listener a packet belongs to, and which packets may open a flow there.

use deston::datapath::Hook;
use deston_common::listener::{Forwarding, flags};
use deston_common::outcome::Outcome;
use deston_common::table::Table;
use deston_common::{hash, maglev};
use deston_tests::kernel::{Change, Entries, Lab, SECOND, Setting, each, members, rows};
use deston_tests::packet::flags::{ACK, FIN, FIN_ACK, PSH, RST, SYN, SYN_ACK, URG};
use deston_tests::packet::{Packet, protocol};
use deston_tests::require_kernel;

/// TCP flags that open nothing.
const NOT_OPENING: [(&str, u8); 9] = [
    ("ACK", ACK),
    ("RST", RST),
    ("FIN", FIN),
    ("FIN and ACK", FIN_ACK),
    ("SYN and ACK", SYN_ACK),
    ("SYN and RST", SYN | RST),
    ("SYN and FIN", SYN | FIN),
    ("nothing", 0),
    ("all", SYN | ACK | FIN | RST | PSH | URG),
];

#[test]
fn tcp_of_no_flow_that_opens_none_is_passed_as_it_is() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        for forwarding in [Forwarding::Nat, Forwarding::Dnat] {
            let mut lab = Lab::new(setting);
            lab.forwarding(forwarding);
            let count = rows(NOT_OPENING, |flags| {
                lab.passes(&lab.syn(1).flags(flags), Outcome::NoFlow);
            });
            assert_eq!(count, 9);
            lab.assert_entries(Entries::default());
        }
    });
}

#[test]
fn a_closed_listener_passes_new_flows_and_carries_old_ones() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let (established, half_open) = (lab.establish(1), lab.open(2));
        let datagrams = lab.exchange(3);
        lab.listener(|entry| entry.flags &= !flags::OPEN);
        lab.forwards(&established, &established.from_client(ACK).payload(b"more"));
        lab.replies(&established, &established.from_server(ACK).payload(b"more"));
        lab.shake_hands(&half_open);
        lab.forwards(&datagrams, &datagrams.query(b"again"));
        lab.passes(&lab.syn(4), Outcome::ListenerClosed);
        lab.passes(&lab.query(4), Outcome::ListenerClosed);
        lab.passes(&lab.syn(4).flags(ACK), Outcome::ListenerClosed);
    });
}

#[test]
fn flows_of_a_listener_that_is_gone_or_the_stacks_are_carried() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let spoil: [(&str, Change, Outcome); 2] = [
            (
                "gone",
                |lab| {
                    let listener = lab.listener_address();
                    let (address, port) = (listener.ip(), listener.port());
                    lab.kernel.remove_listener(address, port, protocol::TCP).unwrap();
                },
                Outcome::Unrelated,
            ),
            (
                "the stack's",
                |lab| lab.listener(|entry| entry.flags |= flags::STACK),
                Outcome::ToStack,
            ),
        ];
        let spoil = spoil.map(|(name, change, outcome)| (name, (change, outcome)));
        let count = rows(spoil, |(change, outcome)| {
            let mut lab = Lab::new(setting);
            let (connection, silent, reset) =
                (lab.establish(1), lab.establish(2), lab.establish(3));
            change(&mut lab);
            lab.forwards(&connection, &connection.from_client(ACK).payload(b"more"));
            lab.replies(&connection, &connection.from_server(ACK).payload(b"more"));
            lab.forwards(&connection, &connection.from_client(SYN).seq(90_000));
            lab.forwards(&connection, &connection.from_client(FIN_ACK));
            lab.replies(&connection, &connection.from_server(FIN_ACK));
            lab.forwards(&reset, &reset.from_client(RST));
            lab.wait(2 * SECOND);
            lab.forwards(&silent, &silent.from_client(ACK).payload(b"at last"));
            lab.passes(&lab.syn(4), outcome);
        });
        assert_eq!(count, 2);
    });
}

#[test]
fn the_other_hooks_listener_is_left_to_it() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        lab.listener(|entry| entry.flags ^= flags::TC);
        lab.passes(&lab.syn(1), Outcome::OtherHook);
        lab.passes(&lab.syn(1).flags(ACK), Outcome::OtherHook);
        lab.passes(&lab.query(1), Outcome::OtherHook);
        // Closed or not, guarded or not: it is the other program's.
        lab.listener(|entry| {
            entry.flags &= !flags::OPEN;
            entry.flags |= flags::DEFAULT_DENY | flags::LISTS;
        });
        lab.passes(&lab.syn(1), Outcome::OtherHook);
        lab.assert_entries(Entries::default());
    });
}

#[test]
fn flows_of_the_other_hook_are_left_to_it() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let (promoted, half_open) = (lab.establish(1), lab.open(2));
        let (datagrams, one_way) = (lab.exchange(3), lab.opens(&lab.query(4)));
        lab.setting.hook = match setting.hook {
            Hook::Xdp => Hook::Tc,
            Hook::Tc => Hook::Xdp,
        };
        let table = [
            ("a client's packet", promoted.from_client(ACK)),
            ("a server's packet", promoted.from_server(ACK)),
            ("a client's SYN again", half_open.from_client(SYN)),
            ("a server's SYN-ACK", half_open.from_server(SYN_ACK)),
            ("a client's datagram", datagrams.query(b"x")),
            ("a server's datagram", datagrams.response(b"x")),
            ("a client's second datagram", one_way.query(b"x")),
            ("a server's first datagram", one_way.response(b"x")),
        ];
        let count = rows(table, |packet| lab.passes(&packet, Outcome::OtherHook));
        assert_eq!(count, 8);
        lab.setting = setting;
        lab.shake_hands(&half_open);
    });
}

#[test]
fn a_listener_of_any_port_serves_them_all() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        lab.move_listener(0);
        lab.dedicate();
        let address = lab.listener_address().ip();
        for port in [1, 22, 80, 20_000, 65_535] {
            let connection = lab.opens(&Packet::tcp(lab.client(1), (address, port), SYN).ack(0));
            assert_eq!(connection.server, setting.family.server(1), "the server's own port");
            lab.shake_hands(&connection);
            lab.opens(&Packet::udp(lab.client(1), (address, port), b"x"));
        }
    });
}

#[test]
fn a_listener_with_the_port_itself_goes_before_one_of_any() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let address = lab.listener_address().ip();
        let mut any = lab.listener_entry();
        any.number = 9;
        lab.kernel.put_listener(address, 0, protocol::TCP, &any).unwrap();
        let (exact, other) =
            (lab.open(1), lab.opens(&Packet::tcp(lab.client(1), (address, 81), SYN)));
        assert_eq!(lab.half_flow(&exact).unwrap().listener, 1);
        assert_eq!(lab.half_flow(&other).unwrap().listener, 9);
        // One that is closed keeps its port.
        lab.listener(|entry| entry.flags &= !flags::OPEN);
        lab.passes(&lab.syn(2), Outcome::ListenerClosed);
    });
}

#[test]
fn the_port_that_clients_came_for_can_be_kept() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        for forwarding in [Forwarding::Nat, Forwarding::Dnat] {
            let mut lab = Lab::new(setting);
            lab.move_listener(0);
            lab.forwarding(forwarding);
            lab.listener(|entry| entry.flags |= flags::KEEP_PORT);
            let address = lab.listener_address().ip();
            for port in [22, 80, 5_060] {
                let connection =
                    lab.opens(&Packet::tcp(lab.client(1), (address, port), SYN).ack(0));
                assert_eq!(connection.server.port(), port);
                lab.shake_hands(&connection);
                let datagrams = lab.opens(&Packet::udp(lab.client(1), (address, port), b"x"));
                assert_eq!(datagrams.server.port(), port);
                lab.replies(&datagrams, &datagrams.response(b"y"));
            }
        }
    });
}

#[test]
fn a_listener_of_the_hosts_stack_is_passed_to_it() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        lab.listener(|entry| entry.flags |= flags::STACK);
        lab.passes(&lab.syn(1), Outcome::ToStack);
        lab.passes(&lab.query(1), Outcome::ToStack);
        let count = rows(NOT_OPENING, |flags| {
            lab.passes(&lab.syn(1).flags(flags), Outcome::ToStack);
        });
        assert_eq!(count, 9);
        // The stack answers for its own time to live, and nothing needs a server.
        lab.passes(&lab.syn(1).ttl(1), Outcome::ToStack);
        lab.table(&Table::EMPTY);
        lab.passes(&lab.syn(1), Outcome::ToStack);
        lab.assert_entries(Entries::default());
        lab.listener(|entry| entry.flags &= !flags::OPEN);
        lab.passes(&lab.syn(1), Outcome::ListenerClosed);
        lab.passes(&lab.syn(1).flags(ACK), Outcome::ListenerClosed);
    });
}

#[test]
fn direct_return_finds_the_server_of_a_lost_flow_by_its_hash() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        for forwarding in [Forwarding::DsrL2, Forwarding::DsrIpip] {
            let mut lab = Lab::with_servers(setting, 5);
            lab.forwarding(forwarding);
            let data = lab.syn(1).flags(ACK).payload(b"data");
            // By a cursor, any server would be as good as another.
            lab.passes(&data, Outcome::NoFlow);
            let mut table = Box::new(Table::EMPTY);
            let all = members((1..=5).map(|n| (n, 1)));
            maglev::fill(&mut table, &all, hash::Seed::from_text("spec")).unwrap();
            lab.table(&table);
            let first = lab.step(&lab.syn(1), Outcome::Forwarded).packet;
            for flow in lab.kernel.half_flows().collect::<Vec<_>>() {
                lab.kernel.remove_half_flow(&flow.key).unwrap();
            }
            let found = lab.step(&data, Outcome::Forwarded).packet;
            assert_eq!(found[..14], first[..14], "another server");
        }
    });
}

//! Servers that are draining, down or not to be reached, and what becomes of their flows.

use deston_common::outcome::Outcome;
use deston_common::server::{OnDown, ServerState};
use deston_common::table::Table;
use deston_tests::kernel::{
    CLIENT_ISN, Change, Connection, Entries, Lab, Setting, TIMEOUTS, each, rows,
};
use deston_tests::packet::Packet;
use deston_tests::packet::flags::{ACK, FIN_ACK, PSH, RST, SYN, SYN_ACK};
use deston_tests::require_kernel;

/// Two servers; flows of the first, which then goes down.
fn down(setting: Setting, on_down: OnDown) -> (Lab, Connection, Connection) {
    let mut lab = Lab::with_servers(setting, 2);
    lab.round_robin([1]);
    let (connection, datagrams) = (lab.establish(1), lab.exchange(1));
    lab.round_robin([1, 2]);
    lab.server(1, |entry| {
        entry.state = ServerState::Down as u8;
        entry.on_down = on_down as u8;
    });
    (lab, connection, datagrams)
}

#[test]
fn servers_that_take_no_new_flows_get_none() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let table: [(&str, Change); 4] = [
            ("down", |lab| lab.state(1, ServerState::Down)),
            ("draining", |lab| lab.state(1, ServerState::Draining)),
            ("not to be reached", |lab| lab.server(1, |entry| entry.reachable = 0)),
            ("unset", |lab| lab.server(1, |entry| entry.state = 0)),
        ];
        let count = rows(table, |spoil| {
            let mut lab = Lab::with_servers(setting, 2);
            spoil(&mut lab);
            for client in 1..=6 {
                assert_eq!(lab.server_of(&lab.syn(client)), 2);
                assert_eq!(lab.server_of(&lab.query(client)), 2);
            }
        });
        assert_eq!(count, 4);
    });
}

#[test]
fn without_a_server_that_is_up_new_flows_are_dropped() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let table: [(&str, Change); 3] = [
            ("an empty table", |lab| lab.table(&Table::EMPTY)),
            ("all down", |lab| lab.state(1, ServerState::Down)),
            ("all draining", |lab| lab.state(1, ServerState::Draining)),
        ];
        let count = rows(table, |spoil| {
            let mut lab = Lab::new(setting);
            spoil(&mut lab);
            lab.drops(&lab.syn(1), Outcome::NoServer);
            lab.drops(&lab.query(1), Outcome::NoServer);
            lab.assert_entries(Entries::default());
        });
        assert_eq!(count, 3);
    });
}

#[test]
fn a_pool_without_a_table_serves_nobody() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        lab.listener(|entry| entry.pool = 7);
        lab.drops(&lab.syn(1), Outcome::NoServer);
    });
}

#[test]
fn a_draining_server_finishes_its_flows() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_servers(setting, 2);
        lab.round_robin([1]);
        let (connection, datagrams) = (lab.establish(1), lab.exchange(1));
        let half_open = lab.open(2);
        lab.round_robin([2]);
        lab.state(1, ServerState::Draining);
        lab.forwards(&connection, &connection.from_client(ACK).payload(b"more"));
        lab.replies(&connection, &connection.from_server(ACK).payload(b"more"));
        lab.forwards(&datagrams, &datagrams.query(b"more"));
        lab.shake_hands(&half_open);
        assert_eq!(lab.server_of(&lab.syn(3)), 2);
        // A closed flow opens anew elsewhere.
        lab.close(&connection);
        assert_eq!(lab.server_of(&lab.syn(1).seq(90_000)), 2);
    });
}

#[test]
fn a_flow_keeps_its_server_when_the_table_changes() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_servers(setting, 3);
        let flows: Vec<Connection> = (1..=6).map(|client| lab.establish(client)).collect();
        for table in [&[2, 3][..], &[3, 2, 1], &[1], &[]] {
            lab.round_robin(table.iter().copied());
            for flow in &flows {
                lab.forwards(flow, &flow.from_client(ACK).payload(b"here"));
                lab.replies(flow, &flow.from_server(ACK).payload(b"there"));
            }
        }
    });
}

#[test]
fn drain_carries_the_flows_of_a_server_that_is_down() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let (mut lab, connection, datagrams) = down(setting, OnDown::Drain);
        lab.forwards(&connection, &connection.from_client(ACK).payload(b"more"));
        lab.forwards(&connection, &connection.from_client(SYN).seq(90_000));
        lab.replies(&connection, &connection.from_server(ACK).payload(b"more"));
        lab.forwards(&datagrams, &datagrams.query(b"more"));
        assert_eq!(lab.server_of(&lab.syn(2)), 2);
        assert_eq!(lab.in_use(1), 2);
    });
}

/// The reset that a client's packet has to be answered with (RFC 9293, section 3.5.2).
fn reset_of(packet: &Packet) -> Packet {
    let tcp = packet.tcp_header();
    let reset = Packet {
        source: packet.destination,
        destination: packet.source,
        source_mac: packet.destination_mac,
        destination_mac: packet.source_mac,
        ttl: 64,
        ..packet.clone()
    };
    if tcp.flags & ACK != 0 {
        reset.flags(RST).seq(tcp.ack).ack(0)
    } else {
        reset.flags(RST | ACK).seq(0).ack(packet.next_seq())
    }
}

#[test]
fn reset_answers_the_client_of_a_server_that_is_down() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let table = [("data", ACK | PSH), ("an ACK", ACK), ("a FIN", FIN_ACK), ("a SYN", SYN)];
        let count = rows(table, |flags| {
            let (mut lab, connection, _) = down(setting, OnDown::Reset);
            let packet = connection.from_client(flags).payload(b"request");
            lab.emits_exactly(&packet, Outcome::ResetSent, &reset_of(&packet));
            assert!(lab.flow(&connection).is_none() && lab.reply(&connection).is_none());
            assert_eq!((lab.load(1).in_use, lab.load(1).entries), (1, 1), "the datagrams'");
            // The client begins again, elsewhere.
            assert_eq!(lab.server_of(&lab.syn(1).seq(90_000)), 2);
        });
        assert_eq!(count, 4);
    });
}

#[test]
fn a_reset_goes_back_with_the_packets_tags() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let tags = [deston_tests::packet::Tag { tpid: 0x8100, tci: 5 }];
        let connection = lab.opens(&lab.syn(1).tags(&tags));
        lab.shake_hands(&connection);
        lab.server(1, |entry| {
            entry.state = ServerState::Down as u8;
            entry.on_down = OnDown::Reset as u8;
        });
        let packet = connection.from_client(ACK).tcp_options(&[1; 12]);
        lab.emits_exactly(&packet, Outcome::ResetSent, &reset_of(&packet));
    });
}

#[test]
fn a_clients_reset_is_not_answered_by_another() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let (mut lab, connection, _) = down(setting, OnDown::Reset);
        let ran = lab.run(&connection.from_client(RST));
        assert_eq!(ran.action, deston::datapath::Action::Drop);
        lab.assert_outcomes(&[(Outcome::ResetSent, 1)]);
        assert!(lab.flow(&connection).is_none());
    });
}

#[test]
fn reset_chooses_anew_for_datagrams() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let (mut lab, _, datagrams) = down(setting, OnDown::Reset);
        assert_eq!(lab.server_of(&datagrams.query(b"again")), 2);
        assert!(lab.flow(&datagrams).is_none());
        assert_eq!((lab.load(1).in_use, lab.load(1).entries), (1, 1), "the connection's");
    });
}

#[test]
fn rehash_chooses_anew_for_a_syn_and_for_datagrams() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let (mut lab, connection, datagrams) = down(setting, OnDown::Rehash);
        // Other packets belong to a connection that only its server knows.
        for flags in [ACK, FIN_ACK, RST] {
            lab.forwards(&connection, &connection.from_client(flags));
        }
        assert_eq!(lab.server_of(&connection.from_client(SYN).seq(90_000)), 2);
        assert_eq!(lab.server_of(&datagrams.query(b"again")), 2);
        assert_eq!((lab.load(1).in_use, lab.load(1).entries), (0, 0));
        lab.assert_entries(Entries::half_open(2));
    });
}

#[test]
fn a_server_that_comes_back_has_its_flows_still() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        for on_down in [OnDown::Drain, OnDown::Reset, OnDown::Rehash] {
            let (mut lab, connection, datagrams) = down(setting, on_down);
            lab.replies(&connection, &connection.from_server(ACK).payload(b"late"));
            lab.state(1, ServerState::Active);
            lab.forwards(&connection, &connection.from_client(ACK).payload(b"more"));
            lab.forwards(&datagrams, &datagrams.query(b"more"));
        }
    });
}

#[test]
fn a_server_without_a_way_to_it_loses_packets_and_no_flow() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let (connection, half_open) = (lab.establish(1), lab.open(2));
        lab.server(1, |entry| (entry.hop.ifindex, entry.reachable) = (0, 0));
        lab.drops(&connection.from_client(ACK), Outcome::NoNextHop);
        lab.drops(&half_open.from_client(SYN), Outcome::NoNextHop);
        // The way to the client is known.
        lab.replies(&connection, &connection.from_server(ACK));
        lab.server(1, |entry| (entry.hop.ifindex, entry.reachable) = (1, 1));
        lab.forwards(&connection, &connection.from_client(ACK));
        lab.shake_hands(&half_open);
    });
}

#[test]
fn a_way_that_is_not_known_any_more_still_carries_known_flows() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_servers(setting, 2);
        let connection = lab.establish(1);
        lab.server(1, |entry| entry.reachable = 0);
        lab.forwards(&connection, &connection.from_client(ACK).payload(b"still"));
        assert_eq!(lab.server_of(&lab.syn(2)), 2);
        assert_eq!(lab.server_of(&lab.syn(3)), 2);
    });
}

#[test]
fn a_full_server_is_skipped_for_the_next_one() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_servers(setting, 2);
        lab.server(1, |entry| entry.max_connections = 2);
        let servers: Vec<u16> = (1..=6).map(|client| lab.establish(client).number).collect();
        assert_eq!(servers, [1, 2, 1, 2, 2, 2]);
        assert_eq!((lab.in_use(1), lab.in_use(2)), (2, 4));
    });
}

#[test]
fn flows_beyond_every_servers_limit_are_dropped() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_servers(setting, 2);
        for n in 1..=2 {
            lab.server(n, |entry| entry.max_connections = 3);
        }
        for client in 1..=6 {
            lab.establish(client);
        }
        lab.drops(&lab.syn(7), Outcome::ServersFull);
        lab.drops(&lab.query(7), Outcome::ServersFull);
        // Full is not down.
        lab.state(1, ServerState::Down);
        lab.drops(&lab.syn(7), Outcome::ServersFull);
        lab.assert_entries(Entries::promoted(6));
        assert_eq!((lab.in_use(1), lab.in_use(2)), (3, 3));
    });
}

#[test]
fn a_released_slot_is_given_to_the_next_flow() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        lab.server(1, |entry| entry.max_connections = 1);
        let first = lab.establish(1);
        lab.drops(&lab.syn(2), Outcome::ServersFull);
        lab.replies(&first, &first.from_server(RST | ACK));
        lab.establish(2);
        assert_eq!(lab.in_use(1), 1);
    });
}

#[test]
fn the_last_of_many_full_servers_is_found() {
    require_kernel!();
    each(Setting::XDP, |setting| {
        let mut lab = Lab::with_servers(setting, 100);
        for n in 1..=100 {
            lab.server(n, |entry| entry.max_connections = if n == 63 { 5 } else { 0 });
        }
        for client in 1..=5 {
            assert_eq!(lab.establish(client).number, 63);
        }
        lab.drops(&lab.syn(6), Outcome::ServersFull);
    });
}

#[test]
fn a_lowered_limit_keeps_flows_and_refuses_new_ones() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let flows: Vec<Connection> = (1..=5).map(|client| lab.establish(client)).collect();
        lab.server(1, |entry| entry.max_connections = 2);
        for flow in &flows {
            lab.forwards(flow, &flow.from_client(ACK));
        }
        lab.drops(&lab.syn(6), Outcome::ServersFull);
        lab.close(&flows[0]);
        lab.drops(&lab.syn(6), Outcome::ServersFull);
        assert_eq!(lab.in_use(1), 4);
    });
}

#[test]
fn a_connection_reset_while_down_is_not_answered_twice() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let (mut lab, connection, _) = down(setting, OnDown::Reset);
        let data = connection.from_client(ACK).seq(CLIENT_ISN + 1).payload(b"request");
        lab.emits(&data, Outcome::ResetSent);
        lab.passes(&data, Outcome::NoFlow);
        lab.wait(TIMEOUTS.tcp_rst_ns);
        lab.passes(&connection.from_server(SYN_ACK), Outcome::Unrelated);
    });
}

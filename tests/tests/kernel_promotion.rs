//! A flow is promoted, and takes one of its server's slots, when its client has proved that it is
//! there; guesses prove nothing.

use deston::datapath::Sizes;
use deston_common::conntrack::State;
use deston_common::listener::flags;
use deston_common::outcome::Outcome;
use deston_tests::kernel::{
    CLIENT_ISN, Connection, Entries, Lab, SERVER_ISN, Setting, TIMEOUTS, each, rows,
};
use deston_tests::packet::Packet;
use deston_tests::packet::flags::{ACK, FIN_ACK, PSH, RST, SYN_ACK};
use deston_tests::require_kernel;

/// A flow whose server has answered.
fn answered(lab: &mut Lab, client: u16) -> Connection {
    let connection = lab.open(client);
    lab.replies(&connection, &connection.from_server(SYN_ACK));
    connection
}

#[test]
fn a_handshake_promotes_the_flow() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let opened = lab.now();
        let connection = answered(&mut lab, 1);
        lab.assert_entries(Entries::half_open(1));
        lab.wait(7);
        lab.forwards(&connection, &connection.from_client(ACK));
        lab.assert_entries(Entries::promoted(1));
        let flow = lab.flow(&connection).unwrap();
        assert_eq!(flow.state, State::REPLIED | State::ESTABLISHED);
        assert_eq!(flow.idle_limit_ns, TIMEOUTS.tcp_established_ns);
        assert_eq!((flow.opened_ns, flow.last_seen_ns), (opened, lab.now()));
        assert_eq!(flow.reply, connection.reply_key());
        let reply = lab.reply(&connection).unwrap();
        assert_eq!((reply.first_seq, reply.next_seq), (SERVER_ISN, SERVER_ISN + 1));
        assert_eq!(reply.flow, connection.key());
        let load = lab.load(1);
        assert_eq!((load.in_use, load.entries, load.opened), (1, 1, 1));
    });
}

#[test]
fn only_an_acknowledgement_of_what_the_server_sent_promotes() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let table = [
            ("the number after the SYN-ACK", SERVER_ISN + 1, true),
            ("the SYN-ACK's own number", SERVER_ISN, false),
            ("the number before it", SERVER_ISN - 1, false),
            ("one number too many", SERVER_ISN + 2, false),
            ("zero", 0, false),
            ("all ones", u32::MAX, false),
            ("half the space away", SERVER_ISN.wrapping_add(1 << 31), false),
        ];
        let table = table.map(|(name, ack, promotes)| (name, (ack, promotes)));
        let count = rows(table, |(ack, promotes)| {
            let mut lab = Lab::new(setting);
            let connection = answered(&mut lab, 1);
            lab.forwards(&connection, &connection.from_client(ACK).ack(ack));
            assert_eq!(lab.is_promoted(&connection), promotes);
            assert_eq!(lab.in_use(1), u64::from(promotes));
            // The server's next packet is carried either way.
            lab.replies(&connection, &connection.from_server(ACK));
        });
        assert_eq!(count, 7);
    });
}

#[test]
fn a_blind_ack_before_the_answer_promotes_nothing() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let connection = lab.open(1);
        for ack in [0, 1, CLIENT_ISN + 1, SERVER_ISN + 1, u32::MAX] {
            lab.forwards(&connection, &connection.from_client(ACK).ack(ack));
        }
        lab.assert_entries(Entries::half_open(1));
        assert_eq!(lab.in_use(1), 0);
        lab.shake_hands(&connection);
        assert!(lab.is_promoted(&connection));
    });
}

#[test]
fn only_an_ack_alone_promotes() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let table = [
            ("ACK", ACK, true),
            ("ACK and PSH", ACK | PSH, true),
            ("ACK and FIN", FIN_ACK, true),
            ("SYN and ACK", SYN_ACK, false),
            ("ACK and RST", ACK | RST, false),
            ("RST", RST, false),
            ("PSH", PSH, false),
        ];
        let table = table.map(|(name, flags, promotes)| (name, (flags, promotes)));
        let count = rows(table, |(flags, promotes)| {
            let mut lab = Lab::new(setting);
            let connection = answered(&mut lab, 1);
            let packet = connection.from_client(flags).seq(CLIENT_ISN + 1).ack(SERVER_ISN + 1);
            lab.forwards(&connection, &packet.payload(b"data"));
            assert_eq!(lab.is_promoted(&connection), promotes);
        });
        assert_eq!(count, 7);
    });
}

#[test]
fn numbers_that_wrap_are_compared_right() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        for (client, first) in (1..).zip([u32::MAX, u32::MAX - 1, 0, 1 << 31]) {
            let connection = lab.open(client);
            let answer = connection.from_server(SYN_ACK).seq(first);
            lab.replies(&connection, &answer);
            let ack = connection.from_client(ACK).ack(first.wrapping_add(2));
            lab.forwards(&connection, &ack);
            assert!(!lab.is_promoted(&connection), "{first}");
            let ack = connection.from_client(ACK).ack(first.wrapping_add(1));
            lab.forwards(&connection, &ack);
            assert!(lab.is_promoted(&connection), "{first}");
        }
    });
}

#[test]
fn an_ack_of_fast_open_data_promotes() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let connection = lab.open(1);
        let answer = connection.from_server(SYN_ACK).payload(b"early");
        lab.replies(&connection, &answer);
        let ack = connection.from_client(ACK).ack(SERVER_ISN + 1 + 5);
        lab.forwards(&connection, &ack);
        assert!(lab.is_promoted(&connection));
    });
}

#[test]
fn a_datagram_of_the_server_promotes() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let connection = lab.opens(&lab.query(1));
        lab.forwards(&connection, &connection.query(b"once more"));
        lab.assert_entries(Entries::half_open(1));
        lab.replies(&connection, &connection.response(b"response"));
        lab.assert_entries(Entries::promoted(1));
        let flow = lab.flow(&connection).unwrap();
        assert_eq!(flow.state & State::REPLIED, State::REPLIED);
        assert_eq!(flow.idle_limit_ns, TIMEOUTS.udp_two_way_ns);
        assert_eq!((lab.in_use(1), lab.load(1).entries), (1, 1));
        lab.forwards(&connection, &connection.query(b"and on"));
        lab.replies(&connection, &connection.response(b"and back"));
        assert_eq!(lab.in_use(1), 1);
    });
}

#[test]
fn a_full_server_refuses_promotion_until_a_slot_is_free() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        lab.server(1, |entry| entry.max_connections = 2);
        // All three come while there is room.
        let waiting: Vec<Connection> = (1..=3).map(|n| answered(&mut lab, n)).collect();
        for connection in &waiting[..2] {
            lab.forwards(connection, &connection.from_client(ACK));
        }
        let last = waiting[2].from_client(ACK).payload(b"request");
        for _ in 0..3 {
            lab.drops(&last, Outcome::ServersFull);
            assert_eq!(lab.in_use(1), 2);
        }
        lab.assert_entries(Entries { flows: 2, replies: 2, half_flows: 1, half_replies: 1 });
        lab.close(&waiting[0]);
        lab.forwards(&waiting[2], &last);
        assert!(lab.is_promoted(&waiting[2]));
        assert_eq!(lab.in_use(1), 2);
    });
}

#[test]
fn a_full_server_refuses_datagrams_of_a_flow_it_answers() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        lab.server(1, |entry| entry.max_connections = 1);
        let (one, two) = (lab.opens(&lab.query(1)), lab.opens(&lab.query(2)));
        lab.replies(&one, &one.response(b"1"));
        lab.drops(&two.response(b"2"), Outcome::ServersFull);
        assert_eq!(lab.half_flow(&two).unwrap().idle_limit_ns, TIMEOUTS.udp_one_way_ns);
        assert_eq!(lab.in_use(1), 1);
        assert!(!lab.is_promoted(&two));
    });
}

#[test]
fn when_the_table_is_full_nothing_is_promoted_and_nothing_changes() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let sizes = Sizes { flows: 16, half_open: 1_024 };
        let mut lab = Lab::with_sizes(setting, 1, sizes);
        let live: Vec<Connection> = (1..=16).map(|n| lab.establish(n)).collect();
        let more = answered(&mut lab, 17);
        let before = lab.load(1);
        let data = more.from_client(ACK).payload(b"request");
        for _ in 0..3 {
            lab.drops(&data, Outcome::FlowsFull);
        }
        assert_eq!(lab.load(1), before);
        lab.assert_entries(Entries { flows: 16, replies: 16, half_flows: 1, half_replies: 1 });
        let udp = lab.opens(&lab.query(18));
        lab.drops(&udp.response(b"r"), Outcome::FlowsFull);
        for connection in &live {
            lab.forwards(connection, &connection.from_client(ACK).payload(b"alive"));
        }
        lab.close(&live[0]);
        let key = live[0].key();
        lab.kernel.remove_flow(&key).unwrap();
        lab.kernel.remove_reply(&live[0].reply_key()).unwrap();
        lab.forwards(&more, &data);
        assert!(lab.is_promoted(&more));
    });
}

#[test]
fn the_clients_ack_sent_again_changes_nothing() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let connection = lab.establish(1);
        for _ in 0..3 {
            lab.forwards(&connection, &connection.from_client(ACK));
            lab.replies(&connection, &connection.from_server(SYN_ACK));
        }
        lab.assert_entries(Entries::promoted(1));
        let load = lab.load(1);
        assert_eq!((load.in_use, load.entries, load.opened), (1, 1, 1));
    });
}

#[test]
fn one_packet_flows_are_balanced_each_and_never_promoted() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_servers(setting, 3);
        lab.listener(|entry| entry.flags |= flags::ONE_PACKET);
        let queries: Vec<Connection> = (0..6).map(|_| lab.opens(&lab.query(1))).collect();
        let servers: Vec<u16> = queries.iter().map(|query| query.number).collect();
        assert_eq!(servers, [1, 2, 3, 1, 2, 3]);
        for query in &queries[3..] {
            lab.replies(query, &query.response(b"response"));
        }
        assert_eq!(lab.kernel.flows().count(), 0);
        assert_eq!((1..=3).map(|n| lab.in_use(n)).sum::<u64>(), 0);
    });
}

#[test]
fn a_client_of_one_packet_has_one_claim_towards_each_server() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_servers(setting, 2);
        lab.listener(|entry| entry.flags |= flags::ONE_PACKET);
        // More than there are tries for a port.
        let queries: Vec<Connection> = (0..40).map(|_| lab.opens(&lab.query(1))).collect();
        for query in &queries {
            lab.replies(query, &query.response(b"response"));
        }
        lab.assert_entries(Entries { half_flows: 1, half_replies: 2, ..Entries::default() });
    });
}

#[test]
fn many_clients_come_and_go_and_the_count_is_right() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_servers(setting, 2);
        for client in 1..=40 {
            let connection = lab.establish(client);
            let datagrams = lab.exchange(client);
            if client % 2 == 0 {
                lab.close(&connection);
            }
            drop(datagrams);
        }
        let in_use: u64 = (1..=2).map(|n| lab.in_use(n)).sum();
        assert_eq!(in_use, 20 + 40);
        let late = Packet::udp(lab.client(1), lab.listener_address(), b"late");
        lab.step(&late, Outcome::Forwarded);
    });
}

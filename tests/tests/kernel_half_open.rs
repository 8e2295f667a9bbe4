//! How flows begin: the first packet, its repetitions, the server's answer, and what is remembered
//! of a flow that neither side has proved.

use deston::datapath::Sizes;
use deston_common::conntrack::State;
use deston_common::flow::{FlowEntry, ReplyEntry};
use deston_common::hop::{Hop, Vlan};
use deston_common::listener::Forwarding;
use deston_common::net::{Be16, Mac};
use deston_common::outcome::Outcome;
use deston_common::server::{Load, ServerId};
use deston_tests::kernel::{
    CLIENT_ISN, Connection, Entries, IFINDEX, Lab, SECOND, SERVER_ISN, SNAT_PORTS, Setting,
    TCP_LISTENER, TIMEOUTS, UDP_LISTENER, each,
};
use deston_tests::packet::flags::{ACK, FIN_ACK, RST, SYN, SYN_ACK};
use deston_tests::packet::{BALANCER_MAC, CLIENT_MAC, Packet, Tag, ether_type, protocol};
use deston_tests::require_kernel;

#[test]
fn a_syn_is_translated_and_sent_to_a_server() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let connection = lab.open(1);
        assert_eq!(connection.source.ip(), setting.family.snat(1));
        assert!(SNAT_PORTS.contains(&connection.source.port()));
        assert_eq!(connection.server, setting.family.server(1));
        lab.assert_entries(Entries::half_open(1));
    });
}

#[test]
fn a_datagram_is_translated_and_sent_to_a_server() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let connection = lab.opens(&lab.query(1));
        assert!(SNAT_PORTS.contains(&connection.source.port()));
        assert_eq!(connection.server, setting.family.server(1));
        lab.assert_entries(Entries::half_open(1));
        lab.opens(&Packet::udp(lab.client(2), lab.listener_address(), b""));
    });
}

#[test]
fn an_absent_udp_checksum_stays_absent() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let connection = lab.opens(&lab.query(1).without_checksum());
        lab.replies(&connection, &connection.response(b"r").without_checksum());
        lab.forwards(&connection, &connection.query(b"q").without_checksum());
    });
}

#[test]
fn a_udp_checksum_never_becomes_absent() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let connection = lab.exchange(1);
        // Of all values of a word of payload, one makes the translated sum zero.
        let mut all_ones = 0;
        for word in 0..=u16::MAX {
            let query = connection.query(&word.to_be_bytes());
            let expected = connection.to_server(&query).bytes();
            let at = query.transport_at() + 6;
            if expected[at..at + 2] == [0xff, 0xff] {
                lab.forwards(&connection, &query);
                all_ones += 1;
            }
        }
        assert!(all_ones >= 1);
    });
}

#[test]
fn the_flow_entry_tells_all_of_a_new_flow() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let syn = lab.syn(1).payload(b"fast open");
        let connection = lab.opens(&syn);
        let expected = FlowEntry {
            key: connection.key(),
            reply: connection.reply_key(),
            state: 0,
            last_seen_ns: lab.now(),
            idle_limit_ns: TIMEOUTS.tcp_syn_ns,
            bytes: (syn.bytes().len() - 14) as u64,
            listener: TCP_LISTENER,
            server: ServerId(1),
            flags: setting.flow_flag() | Forwarding::Nat as u16,
            opened_ns: lab.now(),
            next_seq: CLIENT_ISN + 1 + 9,
            pad: 0,
        };
        assert_eq!(lab.half_flow(&connection), Some(expected));

        let query = lab.query(1);
        let connection = lab.opens(&query);
        let flow = lab.half_flow(&connection).expect("a half-open flow");
        assert_eq!(flow.idle_limit_ns, TIMEOUTS.udp_one_way_ns);
        assert_eq!((flow.listener, flow.state), (UDP_LISTENER, 0));
        assert_eq!(flow.bytes, (query.bytes().len() - 14) as u64);
    });
}

#[test]
fn the_reply_entry_knows_the_way_back() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let tag = Tag { tpid: ether_type::VLAN, tci: 0x0064 };
        let connection = lab.opens(&lab.syn(1).tags(&[tag]));
        let vlan = Vlan { tpid: Be16::from_host(tag.tpid), tci: Be16::from_host(tag.tci) };
        let expected = ReplyEntry {
            key: connection.reply_key(),
            flow: connection.key(),
            last_seen_ns: 0,
            opened_ns: lab.now(),
            bytes: 0,
            hop: Hop {
                ifindex: IFINDEX,
                source_mac: Mac::from_octets(BALANCER_MAC),
                next_hop_mac: Mac::from_octets(CLIENT_MAC),
                mtu: 0,
                vlan_count: 1,
                vlans: [vlan, Vlan::default()],
            },
            listener: TCP_LISTENER,
            server: ServerId(1),
            flags: setting.flow_flag() | Forwarding::Nat as u16,
            last_ack: 0,
            first_seq: 0,
            next_seq: 0,
        };
        assert_eq!(lab.half_reply(&connection), Some(expected));
    });
}

#[test]
fn a_flow_that_is_not_promoted_takes_no_slot_of_its_server() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        lab.server(1, |entry| entry.max_connections = 1);
        for client in 1..=20 {
            lab.open(client);
            lab.opens(&lab.query(client));
        }
        let load = lab.load(1);
        assert_eq!((load.in_use, load.entries), (0, 0), "{load:?}");
        lab.assert_entries(Entries::half_open(40));
    });
}

#[test]
fn a_syn_sent_again_reaches_the_same_server_by_the_same_port() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_servers(setting, 3);
        let connection = lab.open(1);
        lab.wait(SECOND / 2);
        for _ in 0..3 {
            lab.forwards(&connection, &connection.from_client(SYN));
        }
        assert_eq!(lab.kernel.cursor(0).unwrap(), 1);
        lab.assert_entries(Entries::half_open(1));
        assert_eq!(lab.load(1).unanswered, 0);
    });
}

#[test]
fn a_syn_ack_is_given_the_listeners_address_and_remembered() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let connection = lab.open(1);
        lab.wait(SECOND / 10);
        let answer = connection.from_server(SYN_ACK);
        lab.replies(&connection, &answer);
        let (flow, reply) =
            (lab.half_flow(&connection).unwrap(), lab.half_reply(&connection).unwrap());
        assert_eq!(flow.state, State::REPLIED);
        assert_eq!(flow.idle_limit_ns, TIMEOUTS.tcp_syn_ns);
        assert_eq!((reply.first_seq, reply.next_seq), (SERVER_ISN, SERVER_ISN + 1));
        assert_eq!(reply.last_ack, CLIENT_ISN + 1);
        assert_eq!(reply.last_seen_ns, lab.now());
        assert_eq!(reply.bytes, (answer.bytes().len() - 14) as u64);
        assert_eq!(lab.in_use(1), 0);
    });
}

#[test]
fn an_ack_that_answers_a_syn_without_a_syn_is_carried_and_proves_nothing() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let connection = lab.open(1);
        // A server that remembers an older connection challenges (RFC 9293, section 3.5.1).
        lab.replies(&connection, &connection.from_server(ACK).seq(77).ack(88));
        assert_eq!(lab.half_flow(&connection).unwrap().state, 0);
        lab.forwards(&connection, &connection.from_client(RST).seq(88));
        assert_eq!(lab.in_use(1), 0);
    });
}

#[test]
fn a_half_open_flow_is_forgotten_when_its_time_is_over() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_servers(setting, 2);
        let tcp = lab.open(1);
        assert_eq!(tcp.number, 1);
        lab.wait(TIMEOUTS.tcp_syn_ns + 1);
        // Whatever is not a SYN belongs to no flow.
        lab.passes(&tcp.from_client(ACK), Outcome::NoFlow);
        assert_eq!(lab.server_of(&lab.syn(1)), 2);

        let udp = lab.opens(&lab.query(1));
        lab.wait(TIMEOUTS.udp_one_way_ns + 1);
        assert_ne!(lab.server_of(&lab.query(1)), udp.number);
    });
}

#[test]
fn a_client_that_goes_on_keeps_its_half_open_flow() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let udp = lab.opens(&lab.query(1));
        for _ in 0..4 {
            lab.wait(TIMEOUTS.udp_one_way_ns - SECOND);
            lab.forwards(&udp, &udp.query(b"again"));
        }
        assert_eq!(lab.half_flow(&udp).unwrap().last_seen_ns, lab.now());
    });
}

#[test]
fn a_server_that_repeats_its_answer_does_not_keep_a_half_open_flow() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_servers(setting, 2);
        let connection = lab.open(1);
        for _ in 0..4 {
            lab.wait(TIMEOUTS.tcp_syn_ns / 4);
            lab.replies(&connection, &connection.from_server(SYN_ACK));
        }
        lab.wait(1);
        assert_eq!(lab.server_of(&lab.syn(1)), 2);
    });
}

#[test]
fn flows_differ_by_every_part_of_their_tuple() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_servers(setting, 4);
        let listener = lab.listener_address();
        let first = lab.open(1);
        let others = [
            lab.opens(&lab.query(1)),
            lab.opens(&Packet::tcp(lab.client_at(1, 40_001), listener, SYN)),
            lab.open(2),
        ];
        assert_eq!(first.number, 1);
        assert_eq!(others.map(|other| other.number), [2, 3, 4]);
        assert_eq!(lab.kernel.half_flows().filter(|f| f.key.protocol == protocol::UDP).count(), 1);
        lab.assert_entries(Entries::half_open(4));
    });
}

#[test]
fn what_a_client_sends_before_the_answer_is_carried() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let connection = lab.open(1);
        for flags in [ACK, FIN_ACK, RST, RST | ACK, 0] {
            lab.forwards(&connection, &connection.from_client(flags));
        }
        assert!(!lab.is_promoted(&connection));
        assert_eq!(lab.in_use(1), 0);
    });
}

#[test]
fn a_flood_of_syns_evicts_nothing_that_is_promoted() {
    require_kernel!();
    each(Setting::XDP, |setting| {
        let sizes = Sizes { flows: 1_024, half_open: 1_024 };
        let mut lab = Lab::with_sizes(setting, 4, sizes);
        let established: Vec<Connection> = (1..=50).map(|n| lab.establish(n)).collect();
        let datagrams: Vec<Connection> = (1..=50).map(|n| lab.exchange(n)).collect();
        let listener = lab.listener_address();
        for n in 0..8_000 {
            let forged = lab.client_at(100 + n % 100, 1_024 + n / 100);
            lab.step(&Packet::tcp(forged, listener, SYN), Outcome::Forwarded);
        }
        assert!(lab.kernel.half_flows().count() <= 1_024);
        for connection in &established {
            lab.forwards(connection, &connection.from_client(ACK).payload(b"still here"));
            lab.replies(connection, &connection.from_server(ACK).payload(b"so am I"));
        }
        for connection in &datagrams {
            lab.forwards(connection, &connection.query(b"still here"));
            lab.replies(connection, &connection.response(b"so am I"));
        }
        // And somebody new still gets in.
        lab.establish(60);
        assert_eq!(lab.load(1).entries + lab.load(2).entries, 51);
    });
}

#[test]
fn a_cursor_moves_once_for_each_new_flow() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_servers(setting, 3);
        let connection = lab.establish(1);
        lab.forwards(&connection, &connection.from_client(ACK));
        lab.exchange(1);
        lab.open(2);
        assert_eq!(lab.kernel.cursor(0).unwrap(), 3);
        assert_eq!(lab.load(1).unanswered, 0);
        assert_eq!(lab.load(3), Load { opened: lab.load(3).opened, ..Load::default() });
    });
}

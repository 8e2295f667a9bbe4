//! The loaded program's flows: how they begin, what keeps them, how they end.

use std::net::Ipv4Addr;
use std::time::Duration;

use deston::datapath::{Action, Ran, Swept};
use deston_common::conntrack::State;
use deston_common::flow::FlowEntry;
use deston_common::listener::ListenerEntry;
use deston_common::net::{TCP, UDP};
use deston_common::outcome::Outcome;
use deston_common::sequence;
use deston_common::server::{Load, ServerId, ServerState};
use deston_common::table::Table;
use deston_tests::kernel::{self, LISTENER, Lab, SNAT, TIMEOUTS};
use deston_tests::packet::{Packet, Transport, flags};
use deston_tests::require_kernel;
use nix::time::{ClockId, clock_gettime};

const CLIENT: (Ipv4Addr, u16) = (Ipv4Addr::new(203, 0, 113, 77), 40_000);

fn from_client(flags: u8) -> Packet {
    Packet::tcp(CLIENT, LISTENER, flags)
}

/// A packet of the server that has the flow.
fn from_server(flow: &FlowEntry, flags: u8) -> Packet {
    let server = kernel::server_address(flow.server.0);
    Packet::tcp((*server.ip(), server.port()), (SNAT, flow.reply.destination_port.to_host()), flags)
}

/// Opens a connection as a client and a server would.
fn establish(lab: &mut Lab) -> FlowEntry {
    lab.send(&from_client(flags::SYN));
    let flow = lab.only_flow();
    lab.send(&from_server(&flow, flags::SYN | flags::ACK));
    lab.send(&from_client(flags::ACK));
    lab.only_flow()
}

fn load(lab: &Lab, server: u16) -> Load {
    lab.kernel.load_of(ServerId(server)).unwrap()
}

/// Flows that count against a server.
fn in_use(lab: &Lab, server: u16) -> u64 {
    load(lab, server).in_use
}

/// The kernel's clock, moved on.
fn later(by_ns: u64) -> Duration {
    Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap()) + Duration::from_nanos(by_ns)
}

fn sweep(lab: &mut Lab, at: Duration) -> Swept {
    lab.kernel.expire(at, |_| Some(TIMEOUTS)).unwrap()
}

#[test]
fn a_handshake_establishes_the_flow() {
    require_kernel!();
    let mut lab = Lab::new(1);
    let flow = establish(&mut lab);
    assert_eq!(flow.state, State::REPLIED | State::ESTABLISHED);
    lab.assert_outcomes(&[(Outcome::Forwarded, 2), (Outcome::Replied, 1)]);
}

#[test]
fn a_clients_ack_before_the_servers_answer_establishes_nothing() {
    require_kernel!();
    let mut lab = Lab::new(1);
    lab.send(&from_client(flags::SYN));
    lab.send(&from_client(flags::ACK));
    assert_eq!(lab.only_flow().state, 0);
}

#[test]
fn a_retransmitted_syn_reaches_the_same_server_by_the_same_port() {
    require_kernel!();
    let mut lab = Lab::new(3);
    let first = lab.send(&from_client(flags::SYN));
    let again = lab.send(&from_client(flags::SYN));
    assert_eq!(first.packet, again.packet);
    assert_eq!(lab.kernel.cursor(0).unwrap(), 1);
}

#[test]
fn tcp_that_belongs_to_no_flow_and_opens_none_is_passed_as_it_is() {
    require_kernel!();
    let mut lab = Lab::new(1);
    let cases = [
        flags::ACK,
        flags::RST,
        flags::FIN | flags::ACK,
        flags::SYN | flags::ACK,
        flags::SYN | flags::RST,
        0,
    ];
    for flags in cases {
        let packet = from_client(flags).bytes();
        let ran = lab.send_bytes(&packet);
        assert_eq!((ran.action, ran.packet), (Action::Pass, packet));
    }
    lab.assert_outcomes(&[(Outcome::NoFlow, cases.len() as u64)]);
    assert_eq!(lab.kernel.flows().count(), 0);
}

#[test]
fn a_flow_keeps_its_server_when_the_table_changes() {
    require_kernel!();
    let mut lab = Lab::new(2);
    let before = establish(&mut lab);
    let mut table = Box::new(Table::EMPTY);
    sequence::fill(&mut table, &kernel::members([(2, 1)])).unwrap();
    lab.kernel.put_table(0, &table).unwrap();
    let mut drained = kernel::server_entry(1, 1_000);
    drained.state = ServerState::Draining as u8;
    lab.kernel.put_server(ServerId(1), &drained).unwrap();

    assert_eq!(before.server, ServerId(1));
    assert_eq!(lab.server_of(&from_client(flags::ACK)), 1);
    let new = Packet::tcp((CLIENT.0, CLIENT.1 + 1), LISTENER, flags::SYN);
    assert_eq!(lab.server_of(&new), 2);
}

#[test]
fn a_down_or_unreachable_server_gets_no_new_flow() {
    require_kernel!();
    let mut lab = Lab::new(2);
    let mut down = kernel::server_entry(1, 1_000);
    down.state = ServerState::Down as u8;
    let mut unreachable = kernel::server_entry(1, 1_000);
    unreachable.reachable = 0;
    for (n, entry) in [down, unreachable].into_iter().enumerate() {
        lab.kernel.put_server(ServerId(1), &entry).unwrap();
        for port in 0..10 {
            let port = 2_000 + 100 * n as u16 + port;
            assert_eq!(lab.server_of(&Packet::tcp((CLIENT.0, port), LISTENER, flags::SYN)), 2);
        }
    }
}

#[test]
fn both_sides_closing_releases_the_server_once() {
    require_kernel!();
    let mut lab = Lab::new(1);
    let flow = establish(&mut lab);
    lab.send(&from_client(flags::FIN | flags::ACK));
    assert_eq!(in_use(&lab, 1), 1);
    lab.send(&from_server(&flow, flags::FIN | flags::ACK));
    assert_eq!(in_use(&lab, 1), 0);
    lab.send(&from_client(flags::FIN | flags::ACK));
    lab.send(&from_server(&flow, flags::RST));
    assert_eq!(in_use(&lab, 1), 0);
    assert_ne!(lab.only_flow().state & State::RELEASED, 0);
}

#[test]
fn a_half_closed_flow_still_carries_both_directions() {
    require_kernel!();
    let mut lab = Lab::new(1);
    let flow = establish(&mut lab);
    lab.send(&from_client(flags::FIN | flags::ACK));
    let data = Packet { payload: b"late".to_vec(), ..from_server(&flow, flags::ACK) };
    assert_eq!(lab.send(&data).action, Action::Redirect);
    assert_eq!(lab.send(&from_client(flags::ACK)).action, Action::Redirect);
    assert_eq!(sweep(&mut lab, later(TIMEOUTS.tcp_fin_ns + 1)).idle, 0);
}

#[test]
fn a_reset_of_the_server_releases_it_and_is_carried() {
    require_kernel!();
    let mut lab = Lab::new(1);
    let flow = establish(&mut lab);
    let ran = lab.send(&from_server(&flow, flags::RST | flags::ACK));
    assert_eq!(ran.action, Action::Redirect);
    assert_eq!(in_use(&lab, 1), 0);
}

/// A client's packet with sequence and acknowledgement numbers of its own.
fn numbered(flags: u8, seq: u32, payload: &[u8]) -> Packet {
    Packet {
        transport: Transport::Tcp { flags, seq, ack: 5_001 },
        payload: payload.to_vec(),
        ..from_client(flags)
    }
}

/// The server acknowledges what the client has sent before `ack`.
fn acknowledge(lab: &mut Lab, flow: &FlowEntry, ack: u32) {
    let packet = Packet {
        transport: Transport::Tcp { flags: flags::ACK, seq: 5_001, ack },
        ..from_server(flow, flags::ACK)
    };
    lab.send(&packet);
}

#[test]
fn a_reset_of_the_client_releases_the_server_if_it_is_sure_to_be_taken() {
    require_kernel!();
    // The client's SYN has 1,000, and the server acknowledges 1,001.
    let mut lab = Lab::new(1);
    let flow = establish(&mut lab);
    lab.send(&numbered(flags::ACK, 1_001, b"request"));
    acknowledge(&mut lab, &flow, 1_008);
    assert_eq!(lab.send(&numbered(flags::RST, 1_008, b"")).action, Action::Redirect);
    assert_eq!(in_use(&lab, 1), 0);
}

#[test]
fn a_reset_that_the_server_may_ignore_does_not_release_it() {
    require_kernel!();
    let cases: [(&str, u32, u32); 4] = [
        ("before the window", 1_000, 1_008),
        ("beyond what was sent", 1_009, 1_008),
        ("far off", 900_000, 1_008),
        ("with bytes on the way that the server has not acknowledged", 1_001, 1_001),
    ];
    for (case, seq, acknowledged) in cases {
        let mut lab = Lab::new(1);
        let flow = establish(&mut lab);
        lab.send(&numbered(flags::ACK, 1_001, b"request"));
        acknowledge(&mut lab, &flow, acknowledged);
        assert_eq!(lab.send(&numbered(flags::RST, seq, b"")).action, Action::Redirect);
        assert_eq!(in_use(&lab, 1), 1, "a reset {case}");
        // The flow is still carried, and still counts when it goes on.
        assert_eq!(lab.send(&numbered(flags::ACK, 1_008, b"more")).action, Action::Redirect);
        assert_eq!(lab.send(&numbered(flags::SYN, 7_000, b"")).action, Action::Redirect);
        assert_eq!(lab.only_flow().reply, flow.reply);
        assert_eq!(in_use(&lab, 1), 1, "a reset {case}");
        // Silence after it ends the flow soon.
        let after = later(TIMEOUTS.tcp_rst_ns + 1_000_000_000);
        assert_eq!(sweep(&mut lab, after).idle, 1);
        assert_eq!(in_use(&lab, 1), 0);
    }
}

#[test]
fn a_server_that_repeats_its_answer_does_not_keep_a_half_open_flow() {
    require_kernel!();
    let mut lab = Lab::new(1);
    lab.send(&from_client(flags::SYN));
    let flow = lab.only_flow();
    lab.send(&from_server(&flow, flags::SYN | flags::ACK));
    lab.send(&from_server(&flow, flags::SYN | flags::ACK));
    let at = Duration::from_nanos(flow.last_seen_ns + TIMEOUTS.tcp_syn_ns + 1);
    assert_eq!(sweep(&mut lab, at).idle, 1);
    assert_eq!(in_use(&lab, 1), 0);
}

#[test]
fn a_server_is_named_by_its_closed_flows_until_they_are_gone() {
    require_kernel!();
    let mut lab = Lab::new(1);
    let flow = establish(&mut lab);
    lab.send(&from_client(flags::FIN | flags::ACK));
    lab.send(&from_server(&flow, flags::FIN | flags::ACK));
    assert_eq!(load(&lab, 1), Load { in_use: 0, entries: 1, opened: 1 });
    sweep(&mut lab, later(TIMEOUTS.tcp_fin_ns + 1_000_000_000));
    assert_eq!(load(&lab, 1), Load { in_use: 0, entries: 0, opened: 1 });
}

#[test]
fn a_syn_on_a_closed_flow_opens_a_new_one() {
    require_kernel!();
    let mut lab = Lab::new(2);
    let flow = establish(&mut lab);
    lab.send(&from_client(flags::FIN | flags::ACK));
    lab.send(&from_server(&flow, flags::FIN | flags::ACK));
    assert_eq!(lab.server_of(&from_client(flags::SYN)), 2);
    assert_eq!(lab.only_flow().state, 0);
    assert_eq!(in_use(&lab, 1), 0);
    assert_eq!(in_use(&lab, 2), 1);
}

#[test]
fn a_syn_on_an_established_flow_stays_with_its_server() {
    require_kernel!();
    let mut lab = Lab::new(2);
    establish(&mut lab);
    assert_eq!(lab.server_of(&from_client(flags::SYN)), 1);
}

#[test]
fn flows_are_ended_after_the_time_of_their_phase_and_not_before() {
    require_kernel!();
    let ack = flags::ACK;
    let second = 1_000_000_000;
    let cases: [(&[u8], &[u8], u64); 5] = [
        (&[flags::SYN], &[], TIMEOUTS.tcp_syn_ns),
        (&[flags::SYN, ack], &[flags::SYN | ack], TIMEOUTS.tcp_syn_ns),
        (&[flags::SYN, flags::FIN | ack], &[flags::SYN | ack], TIMEOUTS.tcp_established_ns),
        (
            &[flags::SYN, flags::FIN | ack],
            &[flags::SYN | ack, flags::FIN | ack],
            TIMEOUTS.tcp_fin_ns,
        ),
        (&[flags::SYN], &[flags::RST | ack], TIMEOUTS.tcp_rst_ns),
    ];
    for (forward, reply, timeout) in cases {
        let mut lab = Lab::new(1);
        lab.send(&from_client(forward[0]));
        let flow = lab.only_flow();
        // In the first two cases the answer, if any, comes after the client's second packet.
        if timeout == TIMEOUTS.tcp_syn_ns {
            forward[1..].iter().for_each(|f| drop(lab.send(&from_client(*f))));
            reply.iter().for_each(|f| drop(lab.send(&from_server(&flow, *f))));
        } else {
            reply.iter().for_each(|f| drop(lab.send(&from_server(&flow, *f))));
            forward[1..].iter().for_each(|f| drop(lab.send(&from_client(*f))));
        }
        assert_eq!(sweep(&mut lab, later(timeout - second)), Swept { seen: 1, idle: 0 });
        assert_eq!(sweep(&mut lab, later(timeout + second)), Swept { seen: 1, idle: 1 });
        assert_eq!(lab.kernel.flows().count(), 0);
        assert!(lab.kernel.reply(&flow.reply).is_none());
        assert_eq!(in_use(&lab, 1), 0);
    }
}

#[test]
fn a_flow_that_moved_since_it_was_looked_at_is_not_ended() {
    require_kernel!();
    let mut lab = Lab::new(1);
    let flow = establish(&mut lab);
    let stale = deston_common::flow::ExpireRequest {
        key: flow.key,
        flow_seen_ns: flow.last_seen_ns - 1,
        reply_seen_ns: 0,
    };
    lab.kernel.end_if_still(&[stale]).unwrap();
    assert_eq!(lab.kernel.flows().count(), 1);
    assert_eq!(in_use(&lab, 1), 1);
}

#[test]
fn more_idle_flows_than_fit_one_request_are_all_ended() {
    require_kernel!();
    let mut lab = Lab::new(1);
    for port in 0..300 {
        lab.send(&Packet::tcp((CLIENT.0, 2_000 + port), LISTENER, flags::SYN));
    }
    let swept = sweep(&mut lab, later(TIMEOUTS.tcp_syn_ns + 1_000_000_000));
    assert_eq!(swept, Swept { seen: 300, idle: 300 });
    assert_eq!(in_use(&lab, 1), 0);
}

#[test]
fn a_packet_on_a_flow_that_was_idle_too_long_does_not_revive_it() {
    require_kernel!();
    let mut lab = Lab::new(1);
    let hasty = ListenerEntry {
        timeouts: deston_common::listener::FlowTimeouts { tcp_syn_ns: 0, ..TIMEOUTS },
        ..kernel::listener_entry()
    };
    lab.send(&from_client(flags::SYN));
    lab.kernel.put_listener(&kernel::listener_key(TCP), &hasty).unwrap();
    assert_eq!(lab.send(&from_client(flags::ACK)).action, Action::Pass);
    assert_eq!(lab.kernel.flows().count(), 0);
    assert_eq!(in_use(&lab, 1), 0);
    lab.assert_outcomes(&[(Outcome::Forwarded, 1), (Outcome::NoFlow, 1)]);
}

#[test]
fn clients_with_the_same_port_get_different_ports_towards_one_server() {
    require_kernel!();
    let mut lab = Lab::new(1);
    let mut ports: Vec<u16> = (1..=200)
        .map(|host| {
            let client = (Ipv4Addr::new(203, 0, 113, host), 40_000);
            let ran: Ran = lab.send(&Packet::tcp(client, LISTENER, flags::SYN));
            u16::from_be_bytes([ran.packet[34], ran.packet[35]])
        })
        .collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 200);
}

#[test]
fn a_flow_without_a_free_port_is_dropped_and_counts_nothing() {
    require_kernel!();
    let mut lab = Lab::new(1);
    let one_port =
        ListenerEntry { snat_port_min: 20_000, snat_port_max: 20_000, ..kernel::listener_entry() };
    lab.kernel.put_listener(&kernel::listener_key(TCP), &one_port).unwrap();
    lab.send(&from_client(flags::SYN));
    let other = Packet::tcp((CLIENT.0, CLIENT.1 + 1), LISTENER, flags::SYN);
    assert_eq!(lab.send(&other).action, Action::Drop);
    lab.assert_outcomes(&[(Outcome::Forwarded, 1), (Outcome::SnatExhausted, 1)]);
    assert_eq!(in_use(&lab, 1), 1);
    assert_eq!(lab.only_flow().reply.destination_port.to_host(), 20_000);
}

#[test]
fn flows_beyond_the_tables_room_are_dropped_and_live_ones_stay() {
    require_kernel!();
    let mut lab = Lab::with_limit(1, u32::MAX);
    for n in 0..6_000_u32 {
        let client = Ipv4Addr::from(0xcb00_7100 + (n >> 8));
        lab.send(&Packet::tcp((client, 1_024 + (n & 0xff) as u16), LISTENER, flags::SYN));
    }
    let outcomes = lab.kernel.outcomes().unwrap();
    let forwarded = outcomes[Outcome::Forwarded as usize];
    let full = outcomes[Outcome::FlowsFull as usize];
    assert!(full > 1_000 && forwarded + full == 6_000, "{forwarded} forwarded, {full} full");
    assert_eq!(in_use(&lab, 1), forwarded);
    let first = Packet::tcp((Ipv4Addr::from(0xcb00_7100), 1_024), LISTENER, flags::SYN);
    assert_eq!(lab.send(&first).action, Action::Redirect);
}

#[test]
fn udp_flows_are_carried_both_ways() {
    require_kernel!();
    let mut lab = Lab::new(2);
    let query = Packet::udp(CLIENT, LISTENER, b"query");
    let ran = lab.send(&query);
    let flow = lab.only_flow();
    let server = kernel::server_address(1);
    let port = flow.reply.destination_port.to_host();
    let expected = Packet {
        source_mac: kernel::SOURCE_MAC,
        destination_mac: kernel::server_mac(1),
        source: (SNAT, port),
        destination: (*server.ip(), server.port()),
        ttl: 63,
        ..query.clone()
    };
    assert_eq!(ran.packet, expected.bytes());

    let answer = Packet { payload: b"answer".to_vec(), ..expected.answer(0) };
    let ran = lab.send(&answer);
    let expected = Packet {
        source_mac: deston_tests::packet::BALANCER_MAC,
        destination_mac: deston_tests::packet::CLIENT_MAC,
        source: LISTENER,
        destination: CLIENT,
        ttl: 63,
        ..answer
    };
    assert_eq!(ran.packet, expected.bytes());
    assert_eq!(lab.only_flow().state, State::REPLIED);
    assert_eq!(lab.server_of(&query), 1);
    lab.assert_outcomes(&[(Outcome::Forwarded, 2), (Outcome::Replied, 1)]);
}

#[test]
fn an_absent_udp_checksum_stays_absent() {
    require_kernel!();
    let mut lab = Lab::new(1);
    let query = Packet {
        transport: Transport::Udp { checksum: false },
        ..Packet::udp(CLIENT, LISTENER, b"query")
    };
    let ran = lab.send(&query);
    assert_eq!(ran.action, Action::Redirect);
    assert_eq!(ran.packet[40..42], [0, 0]);
}

#[test]
fn udp_flows_last_longer_once_the_server_has_answered() {
    require_kernel!();
    for answered in [false, true] {
        let mut lab = Lab::new(1);
        let query = Packet::udp(CLIENT, LISTENER, b"query");
        lab.send(&query);
        let flow = lab.only_flow();
        if answered {
            let server = kernel::server_address(1);
            let answer = Packet::udp(
                (*server.ip(), server.port()),
                (SNAT, flow.reply.destination_port.to_host()),
                b"answer",
            );
            lab.send(&answer);
        }
        let after = later(TIMEOUTS.udp_one_way_ns + 1_000_000_000);
        assert_eq!(sweep(&mut lab, after).idle, usize::from(!answered));
        let after = later(TIMEOUTS.udp_two_way_ns + 1_000_000_000);
        sweep(&mut lab, after);
        assert_eq!(lab.kernel.flows().count(), 0);
        assert_eq!(in_use(&lab, 1), 0);
    }
}

#[test]
fn tcp_and_udp_flows_of_one_client_port_are_different() {
    require_kernel!();
    let mut lab = Lab::new(2);
    assert_eq!(lab.server_of(&from_client(flags::SYN)), 1);
    assert_eq!(lab.server_of(&Packet::udp(CLIENT, LISTENER, b"x")), 2);
    let mut protocols: Vec<u8> = lab.kernel.flows().map(|flow| flow.key.protocol).collect();
    protocols.sort_unstable();
    assert_eq!(protocols, [TCP, UDP]);
}

#[test]
fn a_packet_whose_time_to_live_runs_out_is_dropped_and_opens_no_flow() {
    require_kernel!();
    let mut lab = Lab::new(1);
    for ttl in [0, 1] {
        let syn = Packet { ttl, ..from_client(flags::SYN) };
        assert_eq!(lab.send(&syn).action, Action::Drop);
    }
    lab.assert_outcomes(&[(Outcome::TtlExpired, 2)]);
    assert_eq!(lab.kernel.flows().count(), 0);
}

#[test]
fn ip_options_are_honoured() {
    require_kernel!();
    let mut lab = Lab::new(1);
    for words in 1..=10 {
        let syn = Packet {
            options: vec![1; 4 * words],
            ..Packet::tcp((CLIENT.0, 2_000 + words as u16), LISTENER, flags::SYN)
        };
        let ran = lab.send(&syn);
        let server = kernel::server_address(1);
        let l4 = 34 + 4 * words;
        let port = u16::from_be_bytes([ran.packet[l4], ran.packet[l4 + 1]]);
        let expected = Packet {
            source_mac: kernel::SOURCE_MAC,
            destination_mac: kernel::server_mac(1),
            source: (SNAT, port),
            destination: (*server.ip(), server.port()),
            ttl: 63,
            ..syn
        };
        assert_eq!(ran.packet, expected.bytes());
    }
}

//! The state of a flow, packet by packet.

use deston_common::conntrack::Direction::{self, Forward, Reply};
use deston_common::conntrack::tcp::{ACK, FIN, RST, SYN};
use deston_common::conntrack::{State, acknowledges};
use deston_common::limits::CLEAN_CLOSE_NS;
use deston_common::listener::FlowTimeouts;
use deston_common::net::{TCP, UDP};

const TIMEOUTS: FlowTimeouts = FlowTimeouts {
    tcp_syn_ns: 1,
    tcp_established_ns: 2,
    tcp_fin_ns: 3,
    tcp_rst_ns: 4,
    udp_one_way_ns: 5,
    udp_two_way_ns: 6,
};

/// The state after packets, as the datapath keeps it.
fn after(protocol: u8, packets: &[(Direction, u8)]) -> State {
    packets.iter().fold(State::default(), |state, (direction, flags)| {
        let news = state.news(protocol, *direction, *flags, true);
        let promoted = state.0 & State::REPLIED != 0 && *direction == Forward;
        State(state.0 | news | if promoted { State::ESTABLISHED } else { 0 })
    })
}

#[test]
fn every_phase_has_its_timeout() {
    let handshake = [(Forward, SYN), (Reply, SYN | ACK), (Forward, ACK)];
    let with = |more: &[(Direction, u8)]| after(TCP, &[&handshake[..], more].concat());
    let cases = [
        (after(TCP, &handshake[..1]), 1),
        (after(TCP, &handshake[..2]), 1),
        (with(&[]), 2),
        (with(&[(Forward, FIN | ACK)]), 2),
        (with(&[(Reply, FIN | ACK)]), 2),
        (with(&[(Reply, FIN | ACK), (Forward, FIN | ACK)]), 3),
        (with(&[(Forward, RST)]), 4),
        (with(&[(Reply, RST | ACK)]), 4),
    ];
    for (state, timeout) in cases {
        assert_eq!(state.timeout_ns(TCP, &TIMEOUTS), timeout, "{state:?}");
    }
    assert_eq!(after(UDP, &[(Forward, 0)]).timeout_ns(UDP, &TIMEOUTS), 5);
    assert_eq!(after(UDP, &[(Forward, 0), (Reply, 0)]).timeout_ns(UDP, &TIMEOUTS), 6);
}

#[test]
fn only_both_fins_or_a_reset_that_is_taken_close_a_flow() {
    assert!(!after(TCP, &[(Forward, SYN), (Forward, FIN | ACK)]).is_closed());
    assert!(!after(TCP, &[(Forward, SYN), (Reply, FIN | ACK)]).is_closed());
    assert!(after(TCP, &[(Forward, FIN | ACK), (Reply, FIN | ACK)]).is_closed());
    assert!(after(TCP, &[(Forward, RST)]).is_closed());
    assert!(after(TCP, &[(Reply, RST)]).is_closed());
    let claimed = State(State::default().news(TCP, Forward, RST, false));
    assert!(!claimed.is_closed());
    assert_eq!(claimed.timeout_ns(TCP, &TIMEOUTS), 4);
}

#[test]
fn only_an_ack_of_what_the_server_sent_is_a_proof() {
    let (first, next) = (u32::MAX, 100);
    assert!(acknowledges(first, next, 0));
    assert!(acknowledges(first, next, next));
    assert!(!acknowledges(first, next, first));
    assert!(!acknowledges(first, next, next + 1));
    assert!(!acknowledges(first, next, first - 1));
}

#[test]
fn a_flow_that_the_client_closed_first_frees_its_port_soon() {
    let timeouts = FlowTimeouts { tcp_fin_ns: 30 * CLEAN_CLOSE_NS, ..TIMEOUTS };
    let closed = |order: [Direction; 2]| after(TCP, &order.map(|side| (side, FIN | ACK)));
    let acknowledged = |state: State| State(state.0 | State::LAST_ACK);
    let client_first = closed([Forward, Reply]);
    assert_eq!(client_first.timeout_ns(TCP, &timeouts), 30 * CLEAN_CLOSE_NS);
    assert_eq!(acknowledged(client_first).timeout_ns(TCP, &timeouts), CLEAN_CLOSE_NS);
    let server_first = closed([Reply, Forward]);
    assert_eq!(acknowledged(server_first).timeout_ns(TCP, &timeouts), 30 * CLEAN_CLOSE_NS);
}

#[test]
fn what_is_known_is_no_news() {
    let state = State(State::REPLIED | State::ESTABLISHED | State::FIN_FORWARD);
    assert_eq!(state.news(TCP, Forward, FIN | ACK, false), 0);
    assert_eq!(state.news(TCP, Reply, ACK, true), 0);
    assert_eq!(state.news(TCP, Reply, FIN | ACK, true), State::FIN_REPLY);
}

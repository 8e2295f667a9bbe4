//! How promoted flows end: FINs, resets, silence, and SYNs that open them anew.

use std::time::Duration;

use deston::datapath::Swept;
use deston_common::conntrack::State;
use deston_common::flow::ExpireRequest;
use deston_common::outcome::Outcome;
use deston_common::server::Load;
use deston_tests::kernel::{
    CLIENT_ISN, Connection, Entries, Lab, SECOND, SERVER_ISN, Setting, TIMEOUTS, each, rows,
};
use deston_tests::packet::Packet;
use deston_tests::packet::flags::{ACK, FIN_ACK, RST, SYN, SYN_ACK};
use deston_tests::require_kernel;

/// Ends idle flows as the process does.
fn sweep(lab: &Lab) -> Swept {
    lab.kernel.expire(Duration::from_nanos(lab.now()), |_| false).unwrap()
}

#[test]
fn both_sides_closing_releases_the_server_once() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let connection = lab.establish(1);
        lab.forwards(&connection, &connection.from_client(FIN_ACK));
        assert_eq!(lab.in_use(1), 1);
        lab.replies(&connection, &connection.from_server(FIN_ACK));
        assert_eq!(lab.in_use(1), 0);
        lab.forwards(&connection, &connection.from_client(FIN_ACK));
        lab.replies(&connection, &connection.from_server(FIN_ACK));
        lab.replies(&connection, &connection.from_server(RST));
        assert_eq!(lab.in_use(1), 0);
        assert_ne!(lab.state_of(&connection).0 & State::RELEASED, 0);
    });
}

#[test]
fn a_half_closed_flow_carries_both_directions() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let connection = lab.establish(1);
        lab.forwards(&connection, &connection.from_client(FIN_ACK));
        lab.wait(TIMEOUTS.tcp_fin_ns + SECOND);
        lab.replies(&connection, &connection.from_server(ACK).payload(b"late"));
        lab.forwards(&connection, &connection.from_client(ACK).seq(CLIENT_ISN + 2));
        assert_eq!(sweep(&lab), Swept { seen: 1, idle: 0 });
    });
}

#[test]
fn the_state_tells_who_closed_first_and_whether_the_last_ack_came() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let base = State::REPLIED | State::ESTABLISHED;
        let fins = State::FIN_FORWARD | State::FIN_REPLY;
        let mut lab = Lab::new(setting);
        let clean = lab.establish(1);
        lab.forwards(&clean, &clean.from_client(FIN_ACK));
        let half = base | State::FIN_FORWARD | State::CLIENT_FIRST;
        assert_eq!(lab.state_of(&clean).0, half);
        lab.replies(&clean, &clean.from_server(FIN_ACK).ack(CLIENT_ISN + 2));
        let closed = half | State::FIN_REPLY | State::RELEASED;
        assert_eq!(lab.state_of(&clean).0, closed);
        // An ACK of something else is not the last one.
        lab.forwards(&clean, &clean.from_client(ACK).seq(CLIENT_ISN + 2));
        assert_eq!(lab.state_of(&clean).0, closed);
        let last = clean.from_client(ACK).seq(CLIENT_ISN + 2).ack(SERVER_ISN + 2);
        lab.forwards(&clean, &last);
        assert_eq!(lab.state_of(&clean).0, closed | State::LAST_ACK);
        assert_eq!(lab.flow(&clean).unwrap().idle_limit_ns, SECOND);

        let other = lab.establish(2);
        lab.replies(&other, &other.from_server(FIN_ACK));
        lab.forwards(&other, &other.from_client(FIN_ACK).ack(SERVER_ISN + 2));
        let state = lab.state_of(&other).0;
        assert_eq!(state & (fins | State::CLIENT_FIRST), fins);
        assert_eq!(lab.flow(&other).unwrap().idle_limit_ns, TIMEOUTS.tcp_fin_ns);
    });
}

#[test]
fn both_sides_closing_at_once_is_no_clean_close_of_the_client() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let connection = lab.establish(1);
        lab.forwards(&connection, &connection.from_client(FIN_ACK));
        lab.replies(&connection, &connection.from_server(FIN_ACK));
        lab.replies(&connection, &connection.from_server(ACK).seq(SERVER_ISN + 2));
        assert_eq!(lab.in_use(1), 0);
    });
}

#[test]
fn a_reset_of_the_server_releases_it_and_is_carried() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let connection = lab.establish(1);
        lab.replies(&connection, &connection.from_server(RST | ACK));
        assert_eq!(lab.in_use(1), 0);
        let state = lab.state_of(&connection).0;
        assert_ne!(state & State::RESET, 0);
        assert_eq!(lab.flow(&connection).unwrap().idle_limit_ns, TIMEOUTS.tcp_rst_ns);
        assert_eq!(lab.load(1).refused, 0);
    });
}

/// The client's request, which the server acknowledges up to `acknowledged`.
fn request(lab: &mut Lab, connection: &Connection, acknowledged: u32) {
    lab.forwards(connection, &connection.from_client(ACK).payload(b"request"));
    lab.replies(connection, &connection.from_server(ACK).ack(acknowledged));
}

#[test]
fn a_clients_reset_releases_the_server_if_it_is_sure_to_be_taken() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let connection = lab.establish(1);
        request(&mut lab, &connection, CLIENT_ISN + 8);
        lab.forwards(&connection, &connection.from_client(RST).seq(CLIENT_ISN + 8));
        assert_eq!(lab.in_use(1), 0);
        lab.wait(TIMEOUTS.tcp_rst_ns + 1);
        assert_eq!(sweep(&lab).idle, 1);
    });
}

#[test]
fn a_reset_that_the_server_may_ignore_does_not_release_it() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let next = CLIENT_ISN + 8;
        let table = [
            ("before the window", next - 8, next),
            ("beyond what was sent", next + 1, next),
            ("far off", 900_000, next),
            ("with bytes on the way", CLIENT_ISN + 1, CLIENT_ISN + 1),
            ("after bytes on the way", next, CLIENT_ISN + 1),
        ];
        let table = table.map(|(name, seq, acknowledged)| (name, (seq, acknowledged)));
        let count = rows(table, |(seq, acknowledged)| {
            let mut lab = Lab::new(setting);
            let connection = lab.establish(1);
            request(&mut lab, &connection, acknowledged);
            lab.forwards(&connection, &connection.from_client(RST).seq(seq));
            assert_eq!(lab.in_use(1), 1);
            // The flow is still carried, still counts, and no SYN opens it anew.
            lab.forwards(&connection, &connection.from_client(ACK).seq(next));
            lab.forwards(&connection, &connection.from_client(SYN).seq(7_000));
            assert_eq!(lab.in_use(1), 1);
            // Silence after it ends the flow soon.
            lab.wait(TIMEOUTS.tcp_rst_ns + 1);
            assert_eq!(sweep(&lab).idle, 1);
            assert_eq!(lab.in_use(1), 0);
        });
        assert_eq!(count, 5);
    });
}

#[test]
fn a_server_is_named_by_its_closed_flows_until_they_are_gone() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let connection = lab.establish(1);
        lab.close(&connection);
        assert_eq!(lab.load(1), Load { entries: 1, opened: 1, ..Load::default() });
        lab.wait(SECOND + 1);
        assert_eq!(sweep(&lab), Swept { seen: 1, idle: 1 });
        assert_eq!(lab.load(1), Load { opened: 1, ..Load::default() });
        lab.assert_entries(Entries::default());
    });
}

#[test]
fn a_syn_on_a_closed_flow_opens_a_new_one() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_servers(setting, 2);
        let old = lab.establish(1);
        lab.close(&old);
        let new = lab.opens(&lab.syn(1).seq(90_000));
        assert_eq!((old.number, new.number), (1, 2));
        lab.assert_entries(Entries::half_open(1));
        assert_eq!((lab.load(1).in_use, lab.load(1).entries), (0, 0));
        let answer = new.from_server(SYN_ACK).ack(90_001);
        lab.replies(&new, &answer);
        lab.forwards(&new, &new.from_client(ACK).seq(90_001));
        assert_eq!((lab.load(2).in_use, lab.load(2).entries), (1, 1));
    });
}

#[test]
fn only_a_syn_alone_opens_a_closed_flow_anew() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let connection = lab.establish(1);
        lab.close(&connection);
        for flags in [ACK, FIN_ACK, SYN_ACK, RST] {
            lab.forwards(&connection, &connection.from_client(flags));
        }
        lab.assert_entries(Entries::promoted(1));
    });
}

#[test]
fn a_syn_on_an_open_flow_stays_with_its_server() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_servers(setting, 2);
        let connection = lab.establish(1);
        for _ in 0..2 {
            lab.forwards(&connection, &connection.from_client(SYN).seq(90_000));
            lab.forwards(&connection, &connection.from_client(FIN_ACK));
        }
        assert_eq!(lab.in_use(1), 1);
    });
}

#[test]
fn flows_are_ended_after_the_time_of_their_phase_and_not_before() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let table: [(&str, &[u8], &[u8], u64); 5] = [
            ("established", &[], &[], TIMEOUTS.tcp_established_ns),
            ("half closed by the client", &[FIN_ACK], &[], TIMEOUTS.tcp_established_ns),
            ("half closed by the server", &[], &[FIN_ACK], TIMEOUTS.tcp_established_ns),
            ("closed", &[FIN_ACK], &[FIN_ACK], TIMEOUTS.tcp_fin_ns),
            ("reset", &[], &[RST | ACK], TIMEOUTS.tcp_rst_ns),
        ];
        let table = table.map(|(name, forward, reply, limit)| (name, (forward, reply, limit)));
        let count = rows(table, |(forward, reply, limit)| {
            let mut lab = Lab::new(setting);
            let connection = lab.establish(1);
            forward.iter().for_each(|f| lab.forwards(&connection, &connection.from_client(*f)));
            reply.iter().for_each(|f| lab.replies(&connection, &connection.from_server(*f)));
            lab.wait(limit);
            assert_eq!(sweep(&lab), Swept { seen: 1, idle: 0 });
            lab.wait(1);
            assert_eq!(sweep(&lab), Swept { seen: 1, idle: 1 });
            lab.assert_entries(Entries::default());
            assert_eq!((lab.load(1).in_use, lab.load(1).entries), (0, 0));
        });
        assert_eq!(count, 5);
    });
}

#[test]
fn datagram_flows_last_longer_once_the_server_has_answered() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let connection = lab.exchange(1);
        lab.wait(TIMEOUTS.udp_two_way_ns);
        assert_eq!(sweep(&lab), Swept { seen: 1, idle: 0 });
        // Either side keeps it.
        lab.replies(&connection, &connection.response(b"more"));
        lab.wait(TIMEOUTS.udp_two_way_ns);
        assert_eq!(sweep(&lab), Swept { seen: 1, idle: 0 });
        lab.forwards(&connection, &connection.query(b"more"));
        lab.wait(TIMEOUTS.udp_two_way_ns + 1);
        assert_eq!(sweep(&lab), Swept { seen: 1, idle: 1 });
        assert_eq!(lab.in_use(1), 0);
    });
}

#[test]
fn a_server_that_talks_keeps_an_established_flow() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let connection = lab.establish(1);
        lab.wait(TIMEOUTS.tcp_established_ns);
        lab.replies(&connection, &connection.from_server(ACK).payload(b"news"));
        lab.wait(TIMEOUTS.tcp_established_ns);
        assert_eq!(sweep(&lab).idle, 0);
        lab.forwards(&connection, &connection.from_client(ACK));
    });
}

#[test]
fn a_packet_on_a_flow_that_was_idle_too_long_does_not_revive_it() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_servers(setting, 2);
        let (tcp, udp) = (lab.establish(1), lab.exchange(1));
        assert_eq!((tcp.number, udp.number), (1, 2));
        lab.wait(TIMEOUTS.tcp_established_ns + 1);
        lab.passes(&tcp.from_client(ACK), Outcome::NoFlow);
        assert_eq!((lab.load(1).in_use, lab.load(1).entries), (0, 0));
        // A datagram opens a flow at once.
        assert_eq!(lab.server_of(&udp.query(b"again")), 1);
        lab.assert_entries(Entries::half_open(1));
    });
}

#[test]
fn a_flow_that_moved_since_it_was_looked_at_is_not_ended() {
    require_kernel!();
    each(Setting::XDP, |setting| {
        let mut lab = Lab::new(setting);
        let connection = lab.establish(1);
        lab.wait(7);
        lab.replies(&connection, &connection.from_server(ACK));
        let (flow, reply) = (lab.flow(&connection).unwrap(), lab.reply(&connection).unwrap());
        let asked = ExpireRequest {
            key: flow.key,
            flow_seen_ns: flow.last_seen_ns,
            reply_seen_ns: reply.last_seen_ns,
        };
        for stale in [
            ExpireRequest { flow_seen_ns: flow.last_seen_ns - 1, ..asked },
            ExpireRequest { reply_seen_ns: reply.last_seen_ns - 1, ..asked },
            ExpireRequest { reply_seen_ns: 0, ..asked },
            ExpireRequest { key: connection.reply_key(), ..asked },
        ] {
            lab.kernel.end_if_still(&[stale]).unwrap();
            lab.assert_entries(Entries::promoted(1));
        }
        lab.kernel.end_if_still(&[asked]).unwrap();
        lab.assert_entries(Entries::default());
        lab.kernel.end_if_still(&[asked, asked]).unwrap();
        assert_eq!((lab.load(1).in_use, lab.load(1).entries), (0, 0));
    });
}

#[test]
fn more_idle_flows_than_fit_one_request_are_all_ended() {
    require_kernel!();
    each(Setting::XDP, |setting| {
        let mut lab = Lab::new(setting);
        for client in 0..200 {
            let query = Packet::udp(lab.client_at(1, 2_000 + client), lab.listener_address(), b"q");
            let connection = lab.opens(&query);
            lab.replies(&connection, &connection.response(b"r"));
        }
        assert_eq!(lab.in_use(1), 200);
        lab.wait(TIMEOUTS.udp_two_way_ns + 1);
        assert_eq!(sweep(&lab), Swept { seen: 200, idle: 200 });
        assert_eq!((lab.load(1).in_use, lab.load(1).entries), (0, 0));
        lab.assert_entries(Entries::default());
    });
}

#[test]
fn the_process_may_end_flows_before_their_time() {
    require_kernel!();
    each(Setting::XDP, |setting| {
        let mut lab = Lab::new(setting);
        let (one, two) = (lab.establish(1), lab.establish(2));
        let now = Duration::from_nanos(lab.now());
        lab.kernel.expire(now, |flow| flow.key == one.key()).unwrap();
        assert!(lab.flow(&one).is_none() && lab.flow(&two).is_some());
        assert_eq!(lab.in_use(1), 1);
    });
}

//! A server that does not take the SYN: counted, and the client's next SYN goes to another.

use deston::datapath::Action;
use deston_common::conntrack::State;
use deston_common::listener::Forwarding;
use deston_common::outcome::Outcome;
use deston_common::server::ServerState;
use deston_tests::kernel::{
    Change, Connection, Entries, Family, Lab, MILLISECOND, SECOND, Setting, each, rows,
};
use deston_tests::packet::flags::{ACK, RST, SYN, SYN_ACK};
use deston_tests::packet::{Packet, Quote, v4, v6};
use deston_tests::require_kernel;

/// The time after which a SYN without an answer may go elsewhere.
const RETRY: u64 = 800 * MILLISECOND;

/// Two servers, and a flow that the first of them has.
fn refused_by_one(setting: Setting, forwarding: Forwarding) -> (Lab, Connection) {
    let mut lab = Lab::with_servers(setting, 2);
    lab.forwarding(forwarding);
    let connection = lab.open(1);
    assert_eq!(connection.number, 1);
    (lab, connection)
}

const TRANSLATED: [(&str, Forwarding); 2] = [("nat", Forwarding::Nat), ("dnat", Forwarding::Dnat)];

#[test]
fn a_syn_without_an_answer_goes_to_another_server() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let count = rows(TRANSLATED, |forwarding| {
            let (mut lab, connection) = refused_by_one(setting, forwarding);
            lab.wait(RETRY);
            let moved = lab.opens(&connection.from_client(SYN));
            assert_eq!(moved.number, 2);
            assert_eq!((lab.load(1).unanswered, lab.load(2).unanswered), (1, 0));
            lab.assert_entries(Entries::half_open(1));
            assert_eq!(lab.half_flow(&moved).unwrap().state & State::RETRIED, State::RETRIED);
            // The first server's late answer finds no flow.
            lab.passes(&connection.from_server(SYN_ACK), Outcome::Unrelated);
            lab.shake_hands(&moved);
            assert_eq!((lab.in_use(1), lab.in_use(2)), (0, 1));
        });
        assert_eq!(count, 2);
    });
}

#[test]
fn a_syn_sent_again_soon_stays() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let (mut lab, connection) = refused_by_one(setting, Forwarding::Nat);
        lab.wait(RETRY - 1);
        lab.forwards(&connection, &connection.from_client(SYN));
        assert_eq!(lab.load(1).unanswered, 0);
        // The age is that of the flow, not of its last packet.
        lab.wait(1);
        assert_eq!(lab.server_of(&connection.from_client(SYN)), 2);
    });
}

#[test]
fn a_syn_that_was_answered_stays() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let (mut lab, connection) = refused_by_one(setting, Forwarding::Nat);
        lab.replies(&connection, &connection.from_server(SYN_ACK));
        lab.wait(RETRY);
        lab.forwards(&connection, &connection.from_client(SYN));
        assert_eq!(lab.load(1).unanswered, 0);
    });
}

#[test]
fn a_flow_is_moved_once() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_servers(setting, 3);
        let connection = lab.open(1);
        lab.wait(RETRY);
        let moved = lab.opens(&connection.from_client(SYN));
        assert_ne!(moved.number, 1);
        for again in 1..=2 {
            lab.wait(RETRY);
            lab.forwards(&moved, &moved.from_client(SYN));
            assert_eq!(lab.load(moved.number).unanswered, again);
        }
        // Nor is a refusal swallowed then.
        lab.replies(&moved, &moved.from_server(RST | ACK).seq(0));
        assert_eq!(lab.load(moved.number).refused, 1);
    });
}

#[test]
fn without_another_server_a_syn_stays_and_is_counted() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let table: [(&str, Change); 5] = [
            ("the other is down", |lab| lab.state(2, ServerState::Down)),
            ("the other is draining", |lab| lab.state(2, ServerState::Draining)),
            ("the other is full", |lab| lab.server(2, |entry| entry.max_connections = 0)),
            ("the other cannot be reached", |lab| lab.server(2, |entry| entry.reachable = 0)),
            ("there is no other", |lab| lab.round_robin([1])),
        ];
        let count = rows(table, |spoil| {
            let (mut lab, connection) = refused_by_one(setting, Forwarding::Nat);
            spoil(&mut lab);
            lab.wait(RETRY);
            lab.forwards(&connection, &connection.from_client(SYN));
            assert_eq!(lab.load(1).unanswered, 1);
            // A reset is the client's to know.
            lab.replies(&connection, &connection.from_server(RST | ACK).seq(0));
            assert_eq!(lab.load(1).refused, 1);
        });
        assert_eq!(count, 5);
    });
}

#[test]
fn a_reset_to_a_syn_is_swallowed_and_the_next_syn_goes_to_another() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let count = rows(TRANSLATED, |forwarding| {
            let (mut lab, connection) = refused_by_one(setting, forwarding);
            let reset = connection.from_server(RST | ACK).seq(0);
            lab.drops(&reset, Outcome::RefusalSwallowed);
            assert_eq!((lab.load(1).refused, lab.load(1).unanswered), (1, 0));
            let flow = lab.half_flow(&connection).unwrap();
            assert_eq!(flow.state & State::REFUSED, State::REFUSED);
            // At once: the client's timer decides when.
            let moved = lab.opens(&connection.from_client(SYN));
            assert_eq!(moved.number, 2);
            assert_eq!(lab.load(1).unanswered, 0);
            lab.shake_hands(&moved);
            assert_eq!((lab.in_use(1), lab.in_use(2)), (0, 1));
            lab.assert_entries(Entries::promoted(1));
        });
        assert_eq!(count, 2);
    });
}

#[test]
fn a_reset_after_the_answer_is_no_refusal() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let (mut lab, connection) = refused_by_one(setting, Forwarding::Nat);
        lab.replies(&connection, &connection.from_server(SYN_ACK));
        lab.replies(&connection, &connection.from_server(RST));
        assert_eq!(lab.load(1).refused, 0);
        let (mut lab, _) = refused_by_one(setting, Forwarding::Nat);
        let established = lab.establish(2);
        lab.replies(&established, &established.from_server(RST | ACK));
        assert_eq!(lab.load(established.number).refused, 0);
    });
}

/// Types and codes that say that a destination cannot be reached.
fn unreachables(family: Family) -> Vec<(u8, u8)> {
    match family {
        Family::V4 => {
            let codes = (0..=15).filter(|code| *code != v4::NEEDS_FRAGMENTS);
            codes.map(|code| (v4::UNREACHABLE, code)).collect()
        }
        Family::V6 => (0..=7).map(|code| (v6::UNREACHABLE, code)).collect(),
    }
}

#[test]
fn an_unreachable_about_a_syn_is_a_refusal() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        for kind_code in unreachables(setting.family) {
            let (mut lab, connection) = refused_by_one(setting, Forwarding::Nat);
            let sent = connection.to_server(&connection.from_client(SYN));
            let router = setting.family.router();
            let error = sent.error(router, kind_code, [0; 4], Quote::Bytes(8));
            lab.drops(&error, Outcome::RefusalSwallowed);
            assert_eq!(lab.load(1).refused, 1);
            assert_eq!(lab.server_of(&connection.from_client(SYN)), 2);
        }
    });
}

#[test]
fn an_unreachable_without_another_server_is_translated_and_counted() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let (mut lab, connection) = refused_by_one(setting, Forwarding::Nat);
        lab.round_robin([1]);
        let sent = connection.to_server(&connection.from_client(SYN));
        let error = sent.unreachable(setting.family.router(), Quote::Bytes(8));
        lab.emits(&error, Outcome::ErrorReplied);
        assert_eq!(lab.load(1).refused, 1);
    });
}

#[test]
fn errors_that_are_no_refusals_are_translated_and_not_counted() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let (mut lab, half_open) = refused_by_one(setting, Forwarding::Nat);
        let established = lab.establish(2);
        let datagrams = lab.opens(&lab.query(3));
        let answered = lab.open(4);
        lab.replies(&answered, &answered.from_server(SYN_ACK));
        let router = setting.family.router();
        let syn = half_open.to_server(&half_open.from_client(SYN));
        let quote = Quote::Bytes(8);
        let sent = |connection: &Connection, packet: Packet| connection.to_server(&packet);
        let table = [
            ("a SYN too big", syn.too_big(router, 1_400, quote)),
            ("a SYN's time exceeded", syn.time_exceeded(router, quote)),
            (
                "an unreachable about data",
                sent(&established, established.from_client(ACK)).unreachable(router, quote),
            ),
            (
                "an unreachable about a datagram",
                sent(&datagrams, datagrams.query(b"query")).unreachable(router, quote),
            ),
            (
                "an unreachable about an answered SYN",
                sent(&answered, answered.from_client(SYN)).unreachable(router, quote),
            ),
        ];
        let count = rows(table, |error| {
            lab.emits(&error, Outcome::ErrorReplied);
        });
        assert_eq!(count, 5);
        assert_eq!((lab.load(1).refused, lab.load(2).refused), (0, 0));
    });
}

#[test]
fn two_servers_that_are_one_address_keep_the_flows_claim() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let count = rows(TRANSLATED, |forwarding| {
            let mut lab = Lab::with_servers(setting, 2);
            lab.forwarding(forwarding);
            let one = lab.server_entry(1);
            lab.server(2, |entry| entry.address = one.address);
            let connection = lab.open(1);
            lab.wait(RETRY);
            lab.step(&connection.from_client(SYN), Outcome::Forwarded);
            let flow = lab.half_flow(&connection).unwrap();
            assert!(lab.kernel.half_reply(&flow.reply).is_some(), "no claim");
        });
        assert_eq!(count, 2);
    });
}

#[test]
fn datagrams_are_never_moved() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_servers(setting, 2);
        let connection = lab.opens(&lab.query(1));
        lab.wait(SECOND);
        lab.forwards(&connection, &connection.query(b"again"));
        assert_eq!(lab.load(1).unanswered, 0);
    });
}

#[test]
fn a_refusal_is_carried_when_nobody_may_take_the_next_syn() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let (mut lab, connection) = refused_by_one(setting, Forwarding::Nat);
        lab.listener(|entry| entry.flags &= !deston_common::listener::flags::OPEN);
        lab.replies(&connection, &connection.from_server(RST | ACK).seq(0));
    });
}

#[test]
fn a_client_that_resets_before_the_answer_is_carried() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let (mut lab, connection) = refused_by_one(setting, Forwarding::Nat);
        lab.forwards(&connection, &connection.from_client(RST));
        let ran = lab.step(&connection.from_client(SYN).seq(70_000), Outcome::Forwarded);
        assert_ne!(ran.action, Action::Drop);
        assert_eq!((lab.load(1).refused, lab.load(1).unanswered), (0, 0));
    });
}

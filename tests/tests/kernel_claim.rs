//! Claims of SNAT ports: when one is given to another flow, and what happens when none is free.

use std::net::SocketAddr;

use deston_common::listener::Forwarding;
use deston_common::outcome::Outcome;
use deston_tests::kernel::{
    CLIENT_ISN, Connection, Entries, Lab, MILLISECOND, SECOND, Setting, TIMEOUTS, each, rows,
};
use deston_tests::packet::Packet;
use deston_tests::packet::flags::{ACK, FIN_ACK, RST, SYN, SYN_ACK};
use deston_tests::require_kernel;

#[test]
fn without_a_free_port_a_flow_is_dropped_and_nothing_changes() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_ports(setting, 3);
        let held: Vec<Connection> = (1..=3).map(|client| lab.establish(client)).collect();
        let before = lab.load(1);
        lab.drops(&lab.syn(4), Outcome::SnatExhausted);
        lab.assert_entries(Entries::promoted(3));
        assert_eq!(lab.load(1), before);
        for connection in &held {
            lab.forwards(connection, &connection.from_client(ACK).payload(b"data"));
            lab.replies(connection, &connection.from_server(ACK).payload(b"data"));
        }
    });
}

#[test]
fn a_new_client_steals_the_port_of_the_oldest_unanswered_syn() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_ports(setting, 3);
        let forged: Vec<Connection> = (1..=3)
            .map(|client| {
                lab.wait(MILLISECOND);
                lab.open(client)
            })
            .collect();
        let new = lab.open(4);
        assert_eq!(new.source, forged[0].source, "the oldest");
        assert_eq!(lab.half_flow(&forged[0]), None);
        lab.assert_entries(Entries::half_open(3));
        lab.shake_hands(&new);
        // The others are as they were, and the next to go is the oldest of them.
        lab.replies(&forged[2], &forged[2].from_server(SYN_ACK));
        assert_eq!(lab.open(5).source, forged[1].source);
    });
}

#[test]
fn the_port_of_an_answered_syn_is_stolen_after_a_second() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_ports(setting, 1);
        let answered = lab.open(1);
        lab.replies(&answered, &answered.from_server(SYN_ACK));
        lab.wait(SECOND);
        lab.drops(&lab.syn(2), Outcome::SnatExhausted);
        lab.wait(1);
        assert_eq!(lab.open(2).source, answered.source);
        assert_eq!(lab.half_flow(&answered), None);
    });
}

#[test]
fn the_port_of_a_syn_that_was_just_answered_is_not_stolen() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_ports(setting, 1);
        let answered = lab.open(1);
        lab.replies(&answered, &answered.from_server(SYN_ACK));
        lab.drops(&lab.syn(2), Outcome::SnatExhausted);
        lab.forwards(&answered, &answered.from_client(ACK));
        assert!(lab.is_promoted(&answered));
    });
}

#[test]
fn the_port_of_a_server_that_said_anything_is_not_stolen() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_ports(setting, 1);
        let challenged = lab.open(1);
        lab.replies(&challenged, &challenged.from_server(ACK).seq(77));
        lab.drops(&lab.syn(2), Outcome::SnatExhausted);
    });
}

#[test]
fn a_promoted_flows_port_is_never_stolen() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_ports(setting, 2);
        let (established, half_open) = (lab.establish(1), lab.open(2));
        assert_eq!(lab.open(3).source, half_open.source);
        lab.replies(&established, &established.from_server(ACK).payload(b"data"));
    });
}

#[test]
fn the_port_of_a_stale_half_open_flow_is_free() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_ports(setting, 1);
        let answered = lab.open(1);
        lab.replies(&answered, &answered.from_server(SYN_ACK));
        lab.wait(TIMEOUTS.tcp_syn_ns + 1);
        let new = lab.open(2);
        lab.shake_hands(&new);
        assert_eq!(lab.half_flow(&answered), None);
    });
}

#[test]
fn an_evicted_flow_keeps_its_claim_for_a_moment() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_ports(setting, 1);
        let answered = lab.open(1);
        lab.replies(&answered, &answered.from_server(SYN_ACK));
        lab.kernel.remove_half_flow(&answered.key()).unwrap();
        lab.wait(800 * MILLISECOND + 1);
        lab.open(2);
        lab.assert_entries(Entries::half_open(1));
    });
}

#[test]
fn a_flow_that_the_client_closed_frees_its_port_after_a_second() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_ports(setting, 1);
        let connection = lab.establish(1);
        lab.close(&connection);
        lab.wait(SECOND);
        lab.drops(&lab.syn(2).seq(0), Outcome::SnatExhausted);
        lab.wait(1);
        let new = lab.opens(&lab.syn(2).seq(0));
        assert_eq!(new.source, connection.source);
        lab.assert_entries(Entries::half_open(1));
        assert_eq!((lab.load(1).in_use, lab.load(1).entries), (0, 0));
    });
}

#[test]
fn a_flow_that_the_server_closed_frees_its_port_after_its_time() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_ports(setting, 1);
        let connection = lab.establish(1);
        lab.replies(&connection, &connection.from_server(FIN_ACK));
        lab.forwards(&connection, &connection.from_client(FIN_ACK));
        lab.wait(TIMEOUTS.tcp_fin_ns);
        lab.drops(&lab.syn(2).seq(0), Outcome::SnatExhausted);
        lab.wait(1);
        assert_eq!(lab.opens(&lab.syn(2).seq(0)).source, connection.source);
    });
}

#[test]
fn a_closing_flows_port_is_reused_if_the_new_number_is_higher() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let end = CLIENT_ISN + 2;
        let table = [
            ("higher", end + 1_000, true),
            ("lower", end - 1, false),
            ("the first number again", CLIENT_ISN, false),
            ("far behind", end.wrapping_sub(1 << 30), false),
        ];
        let table = table.map(|(name, seq, reused)| (name, (seq, reused)));
        let count = rows(table, |(seq, reused)| {
            let mut lab = Lab::with_ports(setting, 1);
            let old = lab.establish(1);
            lab.replies(&old, &old.from_server(FIN_ACK));
            lab.forwards(&old, &old.from_client(FIN_ACK));
            let syn = lab.syn(2).seq(seq);
            if reused {
                let new = lab.opens(&syn);
                assert_eq!(new.source, old.source);
                lab.assert_entries(Entries::half_open(1));
                lab.passes(&old.from_client(ACK), Outcome::NoFlow);
            } else {
                lab.drops(&syn, Outcome::SnatExhausted);
                lab.assert_entries(Entries::promoted(1));
            }
        });
        assert_eq!(count, 4);
    });
}

#[test]
fn an_unanswered_syn_of_a_second_gives_way_before_a_closing_flow() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let (mut lab, closing) = with_a_closing_flow(setting);
        let unanswered = lab.open(2);
        lab.wait(SECOND + 1);
        assert_eq!(lab.opens(&lab.syn(3).seq(1 << 20)).source, unanswered.source);
        assert!(lab.flow(&closing).is_some());
    });
}

#[test]
fn a_closing_flow_gives_way_before_a_handshake_that_goes_on() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let (mut lab, closing) = with_a_closing_flow(setting);
        let young = lab.open(2);
        lab.wait(SECOND);
        assert_eq!(lab.opens(&lab.syn(3).seq(1 << 20)).source, closing.source);
        lab.shake_hands(&young);
    });
}

#[test]
fn a_handshake_gives_way_where_the_closing_flow_may_not_be_followed() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let (mut lab, closing) = with_a_closing_flow(setting);
        let young = lab.open(2);
        assert_eq!(lab.opens(&lab.syn(3).seq(0)).source, young.source);
        assert!(lab.flow(&closing).is_some());
    });
}

/// Two ports, one of which a flow has that its server closed first.
fn with_a_closing_flow(setting: Setting) -> (Lab, Connection) {
    let mut lab = Lab::with_ports(setting, 2);
    let closing = lab.establish(1);
    lab.replies(&closing, &closing.from_server(FIN_ACK));
    lab.forwards(&closing, &closing.from_client(FIN_ACK));
    (lab, closing)
}

#[test]
fn a_reset_flows_port_is_reused_too() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_ports(setting, 1);
        let old = lab.establish(1);
        lab.replies(&old, &old.from_server(RST | ACK));
        assert_eq!(lab.opens(&lab.syn(2).seq(1 << 20)).source, old.source);
    });
}

#[test]
fn an_open_flows_port_is_never_reused() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let table: [(&str, &[u8], &[u8]); 3] = [
            ("established", &[], &[]),
            ("half closed by the client", &[FIN_ACK], &[]),
            ("half closed by the server", &[], &[FIN_ACK]),
        ];
        let table = table.map(|(name, forward, reply)| (name, (forward, reply)));
        let count = rows(table, |(forward, reply)| {
            let mut lab = Lab::with_ports(setting, 1);
            let old = lab.establish(1);
            forward.iter().for_each(|flags| lab.forwards(&old, &old.from_client(*flags)));
            reply.iter().for_each(|flags| lab.replies(&old, &old.from_server(*flags)));
            lab.wait(TIMEOUTS.tcp_fin_ns + SECOND);
            lab.drops(&lab.syn(2).seq(1 << 20), Outcome::SnatExhausted);
            assert!(lab.flow(&old).is_some());
        });
        assert_eq!(count, 3);
    });
}

#[test]
fn datagrams_steal_and_hold_ports_like_connections() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_ports(setting, 1);
        let one_way = lab.opens(&lab.query(1));
        let stolen = lab.opens(&lab.query(2));
        assert_eq!(stolen.source, one_way.source);
        lab.replies(&stolen, &stolen.response(b"r"));
        lab.drops(&lab.query(3), Outcome::SnatExhausted);
        lab.wait(TIMEOUTS.udp_two_way_ns + 1);
        lab.opens(&lab.query(3));
    });
}

/// A lab with one port, and a client whose SYN the first of two servers has refused: its claim is
/// free, and the flow is still there. Only the first server takes flows from here on.
fn with_a_refused_flow(setting: Setting) -> (Lab, Connection) {
    let mut lab = Lab::with_servers(setting, 2);
    lab.ports(1);
    let refused = lab.open(1);
    lab.drops(&refused.from_server(RST | ACK).seq(0), Outcome::RefusalSwallowed);
    lab.round_robin([1]);
    (lab, refused)
}

#[test]
fn a_flow_that_is_forgotten_leaves_its_port_to_who_has_it() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let (mut lab, refused) = with_a_refused_flow(setting);
        lab.wait(TIMEOUTS.tcp_syn_ns);
        let next = lab.open(2);
        lab.replies(&next, &next.from_server(SYN_ACK));
        lab.wait(1);
        lab.drops(&refused.from_client(SYN), Outcome::SnatExhausted);
        lab.forwards(&next, &next.from_client(ACK));
        assert!(lab.is_promoted(&next));
    });
}

#[test]
fn a_flow_that_moves_leaves_its_port_to_who_has_it() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let (mut lab, refused) = with_a_refused_flow(setting);
        let next = lab.open(2);
        lab.round_robin([2]);
        assert_eq!(lab.server_of(&refused.from_client(SYN)), 2);
        lab.shake_hands(&next);
    });
}

#[test]
fn a_flow_whose_port_another_has_is_not_carried_with_it() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let table = [("half open", false), ("established", true)];
        let count = rows(table, |established| {
            let (mut lab, refused) = with_a_refused_flow(setting);
            let next = lab.open(2);
            lab.replies(&next, &next.from_server(SYN_ACK));
            if established {
                lab.forwards(&next, &next.from_client(ACK));
            }
            for flags in [RST, ACK, FIN_ACK] {
                let half_open = lab.half_flow(&refused).unwrap();
                lab.passes(&refused.from_client(flags), Outcome::NoFlow);
                assert_eq!(lab.half_flow(&refused), None);
                lab.kernel.put_half_flow(&half_open).unwrap();
            }
            lab.drops(&refused.from_client(SYN), Outcome::SnatExhausted);
            lab.replies(&next, &next.from_server(ACK).payload(b"data"));
        });
        assert_eq!(count, 2);
    });
}

#[test]
fn a_flow_whose_port_another_has_claims_a_new_one() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let (mut lab, refused) = with_a_refused_flow(setting);
        let next = lab.establish(2);
        assert_eq!(next.source, refused.source);
        lab.listener(|entry| entry.snat_port_max = 20_001);
        let anew = lab.opens(&refused.from_client(SYN));
        assert_ne!(anew.source, next.source);
        lab.shake_hands(&anew);
        lab.replies(&next, &next.from_server(ACK).payload(b"data"));
    });
}

#[test]
fn datagrams_whose_claim_was_evicted_claim_the_port_again_or_another() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_ports(setting, 1);
        let evicted = lab.opens(&lab.query(1));
        lab.kernel.remove_half_reply(&evicted.reply_key()).unwrap();
        lab.forwards(&evicted, &evicted.query(b"again"));
        assert!(lab.half_reply(&evicted).is_some());
        lab.kernel.remove_half_reply(&evicted.reply_key()).unwrap();
        let next = lab.exchange(2);
        assert_eq!(next.source, evicted.source);
        lab.drops(&evicted.query(b"again"), Outcome::SnatExhausted);
        lab.replies(&next, &next.response(b"more"));
    });
}

#[test]
fn a_promoted_flow_takes_its_port_back_from_a_newcomer() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_ports(setting, 1);
        let old = lab.establish(1);
        lab.kernel.remove_reply(&old.reply_key()).unwrap();
        let new = lab.open(2);
        assert_eq!(new.source, old.source);
        lab.wait(SECOND + 1);
        lab.forwards(&old, &old.from_client(ACK).payload(b"data"));
        lab.replies(&old, &old.from_server(ACK).payload(b"data"));
        lab.drops(&new.from_client(SYN), Outcome::SnatExhausted);
    });
}

#[test]
fn a_promoted_flow_whose_port_another_has_got_ends_alone() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_ports(setting, 1);
        let old = lab.establish(1);
        lab.kernel.remove_reply(&old.reply_key()).unwrap();
        let new = lab.establish(2);
        assert_eq!(new.source, old.source);
        lab.wait(SECOND + 1);
        lab.passes(&old.from_client(ACK).payload(b"data"), Outcome::NoFlow);
        assert_eq!(lab.flow(&old), None);
        lab.replies(&new, &new.from_server(ACK).payload(b"data"));
        assert_eq!((lab.load(1).in_use, lab.load(1).entries), (1, 1));
    });
}

#[test]
fn a_closed_flow_stays_if_a_half_open_one_has_claimed_its_port() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_ports(setting, 1);
        let half_open = lab.open(1);
        let claim = lab.half_reply(&half_open).unwrap();
        lab.replies(&half_open, &half_open.from_server(SYN_ACK));
        lab.forwards(&half_open, &half_open.from_client(ACK));
        lab.close(&half_open);
        lab.kernel.put_half_reply(&claim).unwrap();
        lab.drops(&lab.syn(2).seq(1 << 20), Outcome::SnatExhausted);
        assert!(lab.flow(&half_open).is_some());
    });
}

#[test]
fn dnat_keeps_the_clients_tuple_and_refuses_what_would_collide() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        lab.forwarding(Forwarding::Dnat);
        let first = lab.open(1);
        assert_eq!(first.source, lab.client(1));
        lab.shake_hands(&first);
        // Another listener of the same server, and the same port of the same client.
        let other = SocketAddr::new(lab.listener_address().ip(), 81);
        let entry = lab.listener_entry();
        lab.kernel.put_listener(other.ip(), other.port(), 6, &entry).unwrap();
        let twin = Packet::tcp(lab.client(1), other, SYN);
        lab.drops(&twin, Outcome::SnatExhausted);
        lab.opens(&Packet::tcp(lab.client_at(1, 40_001), other, SYN));
        lab.replies(&first, &first.from_server(ACK).payload(b"data"));
    });
}

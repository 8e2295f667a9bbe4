//! From server to client: the listener's address and the way back, and halves of flows that are
//! lost or recycled.

use deston_common::conntrack::State;
use deston_common::outcome::Outcome;
use deston_tests::kernel::{
    CLIENT_ISN, Connection, Entries, Lab, SECOND, Setting, TIMEOUTS, Table, each, recycle, rows,
};
use deston_tests::packet::flags::{ACK, FIN_ACK, SYN, SYN_ACK};
use deston_tests::packet::{Packet, Tag, ether_type};
use deston_tests::require_kernel;

const TAG: Tag = Tag { tpid: ether_type::VLAN, tci: 0x0064 };
const OUTER: Tag = Tag { tpid: ether_type::SERVICE_VLAN, tci: 0x0007 };

#[test]
fn replies_carry_the_listeners_address_and_count() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let connection = lab.establish(1);
        let before = lab.reply(&connection).unwrap();
        lab.wait(SECOND / 2);
        let data = connection.from_server(ACK).payload(&[7; 1_000]).ack(CLIENT_ISN + 5);
        lab.replies(&connection, &data);
        let after = lab.reply(&connection).unwrap();
        assert_eq!(after.bytes - before.bytes, (data.bytes().len() - 14) as u64);
        assert_eq!((after.last_ack, after.last_seen_ns), (CLIENT_ISN + 5, lab.now()));
    });
}

#[test]
fn replies_go_back_the_way_the_clients_packets_came() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        // Tags on the client's side and on the server's.
        let table: [(&str, &[Tag], &[Tag]); 6] = [
            ("no tags", &[], &[]),
            ("a client behind one", &[TAG], &[]),
            ("a client behind two", &[OUTER, TAG], &[]),
            ("a server behind one", &[], &[TAG]),
            ("the same tag on both sides", &[TAG], &[TAG]),
            ("two for one", &[OUTER, TAG], &[OUTER]),
        ];
        let table = table.map(|(name, client, server)| (name, (client, server)));
        let count = rows(table, |(client, server)| {
            let mut lab = Lab::new(setting);
            lab.server_tags(1, server);
            let connection = lab.opens(&lab.syn(1).tags(client));
            assert_eq!(connection.server_tags, server);
            lab.shake_hands(&connection);
            let data = connection.from_server(ACK).payload(b"data");
            lab.replies(&connection, &data);
        });
        assert_eq!(count, 6);
    });
}

#[test]
fn a_servers_packet_from_another_port_or_to_another_is_no_reply() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let connection = lab.establish(1);
        let reply = connection.from_server(ACK);
        let mut from = reply.clone();
        from.source.set_port(8_001);
        let mut to = reply.clone();
        to.destination.set_port(if connection.source.port() == 11_111 { 11_112 } else { 11_111 });
        let host = Packet { source: setting.family.server(2), ..reply.clone() };
        let udp = connection.response(b"x");
        let table = [
            ("another port of the server", from),
            ("another port of ours", to),
            ("another host", host),
            ("another protocol", udp),
        ];
        let count = rows(table, |packet| lab.passes(&packet, Outcome::Unrelated));
        assert_eq!(count, 4);
        lab.replies(&connection, &reply);
    });
}

#[test]
fn a_lost_flow_entry_is_made_anew_by_the_servers_next_packet() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let table = [("a FIN", FIN_ACK, 0), ("data after a silence", ACK, 2 * SECOND)];
        let table = table.map(|(name, flags, silence)| (name, (flags, silence)));
        let count = rows(table, |(flags, silence)| {
            let mut lab = Lab::new(setting);
            let connection = lab.establish(1);
            let before = lab.flow(&connection).unwrap();
            lab.kernel.remove_flow(&connection.key()).unwrap();
            lab.wait(silence);
            lab.replies(&connection, &connection.from_server(flags));
            let after = lab.flow(&connection).expect("made anew");
            assert_eq!(
                (after.reply, after.server, after.listener, after.flags, after.opened_ns),
                (before.reply, before.server, before.listener, before.flags, before.opened_ns)
            );
            assert_ne!(after.state & State::ESTABLISHED, 0);
            lab.forwards(&connection, &connection.from_client(ACK).payload(b"data"));
            lab.close(&connection);
            assert_eq!((lab.in_use(1), lab.load(1).entries), (0, 1));
        });
        assert_eq!(count, 2);
    });
}

#[test]
fn a_lost_flow_entry_of_datagrams_is_made_anew_too() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let connection = lab.exchange(1);
        lab.kernel.remove_flow(&connection.key()).unwrap();
        lab.wait(2 * SECOND);
        lab.replies(&connection, &connection.response(b"more"));
        let flow = lab.flow(&connection).expect("made anew");
        assert_eq!(flow.idle_limit_ns, TIMEOUTS.udp_two_way_ns);
        lab.forwards(&connection, &connection.query(b"more"));
    });
}

#[test]
fn a_lost_reply_entry_is_made_anew_by_the_clients_next_packet_after_a_silence() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let connection = lab.opens(&lab.syn(1).tags(&[TAG]));
        lab.shake_hands(&connection);
        lab.kernel.remove_reply(&connection.reply_key()).unwrap();
        lab.passes(&connection.from_server(ACK), Outcome::Unrelated);
        lab.wait(SECOND + 1);
        lab.forwards(&connection, &connection.from_client(ACK).payload(b"anyone?"));
        lab.replies(&connection, &connection.from_server(ACK).payload(b"yes"));
        lab.assert_entries(Entries::promoted(1));
        lab.close(&connection);
        assert_eq!(lab.in_use(1), 0);
    });
}

#[test]
fn a_lost_half_open_entry_is_made_anew() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let connection = lab.open(1);
        lab.kernel.remove_half_flow(&connection.key()).unwrap();
        lab.replies(&connection, &connection.from_server(SYN_ACK));
        lab.forwards(&connection, &connection.from_client(ACK));
        assert!(lab.is_promoted(&connection));

        let connection = lab.open(2);
        lab.kernel.remove_half_reply(&connection.reply_key()).unwrap();
        lab.forwards(&connection, &connection.from_client(SYN));
        lab.shake_hands(&connection);
        assert!(lab.is_promoted(&connection));
    });
}

/// Two flows, of which the second's entry in `table` stands where the first's stood.
fn recycled(lab: &mut Lab, table: Table, open: fn(&mut Lab, u16) -> Connection) -> Connection {
    let (first, second) = (open(lab, 1), open(lab, 2));
    recycle(lab, table, &second, &first);
    first
}

#[test]
fn a_recycled_element_is_not_taken_for_the_flow_asked_for() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let first = recycled(&mut lab, Table::Flows, Lab::establish);
        lab.passes(&first.from_client(ACK), Outcome::NoFlow);

        let mut lab = Lab::new(setting);
        let first = recycled(&mut lab, Table::Replies, Lab::establish);
        lab.passes(&first.from_server(ACK), Outcome::Unrelated);

        let mut lab = Lab::new(setting);
        let first = recycled(&mut lab, Table::HalfReplies, Lab::open);
        lab.passes(&first.from_server(SYN_ACK), Outcome::Unrelated);

        let mut lab = Lab::new(setting);
        let first = recycled(&mut lab, Table::HalfFlows, Lab::open);
        lab.passes(&first.from_client(ACK), Outcome::NoFlow);
    });
}

#[test]
fn a_flow_that_another_processor_just_opened_is_left_to_it() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        // The element is there when the packet's own is written, and was not when it was looked for.
        let first = recycled(&mut lab, Table::HalfFlows, Lab::open);
        lab.kernel.remove_half_reply(&first.reply_key()).unwrap();
        let before = lab.kernel.half_replies().unwrap().len();
        lab.drops(&first.from_client(SYN), Outcome::Raced);
        assert_eq!(lab.kernel.half_replies().unwrap().len(), before, "the claim is given back");
    });
}

//! Fragments: the first has ports, which later ones borrow for a while; what borrows none is passed,
//! or dropped where the address is ours alone.

use deston_common::guard::verdict;
use deston_common::listener::{Forwarding, flags};
use deston_common::outcome::Outcome;
use deston_tests::kernel::{Connection, Entries, Lab, SECOND, Setting, UDP_LISTENER, each, rows};
use deston_tests::packet::flags::{ACK, FIN_ACK, RST};
use deston_tests::packet::{Packet, join, oracle, split};
use deston_tests::require_kernel;

/// A datagram that fills three fragments.
const PAYLOAD: [u8; 1_000] = [0x5a; 1_000];
const SIZE: usize = 400;

/// Sends all fragments and returns what left.
#[track_caller]
fn carry(lab: &mut Lab, frames: &[Vec<u8>], why: Outcome) -> Vec<Vec<u8>> {
    frames.iter().map(|frame| lab.step(frame, why).packet).collect()
}

/// The whole that the fragments of `datagram` make when they have left.
#[track_caller]
fn carried_whole(lab: &mut Lab, datagram: &Packet, id: u32, why: Outcome) -> Packet {
    let left = carry(lab, &split(datagram, id, SIZE), why);
    let whole = join(&left);
    assert_eq!(oracle::verify(&whole.bytes()), Ok(()), "the datagram's checksum");
    whole
}

/// `packet` as `join` gives it: fragments say when they left, not what became of the whole.
fn as_joined(packet: Packet, id: u16) -> Packet {
    let id = if packet.is_v4() { id } else { 0 };
    Packet { id, ..packet }
}

#[test]
fn a_fragmented_datagram_opens_a_flow_and_arrives_whole() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let query = Packet { payload: PAYLOAD.to_vec(), ..lab.query(1) };
        let whole = carried_whole(&mut lab, &query, 77, Outcome::Forwarded);
        let connection = lab.connection(&query, &whole);
        assert_eq!(whole, as_joined(connection.to_server(&query), 77));
        lab.assert_entries(Entries::half_open(1));
        let response = connection.response(&PAYLOAD);
        let whole = carried_whole(&mut lab, &response, 78, Outcome::Replied);
        assert_eq!(whole, as_joined(connection.to_client(&response), 78));
        assert!(lab.is_promoted(&connection));
    });
}

#[test]
fn fragments_of_a_known_flow_go_with_it() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        for forwarding in [Forwarding::Nat, Forwarding::Dnat] {
            let mut lab = Lab::with_servers(setting, 3);
            lab.forwarding(forwarding);
            let (tcp, udp) = (lab.establish(1), lab.exchange(1));
            let data = tcp.from_client(ACK).payload(&PAYLOAD);
            let whole = carried_whole(&mut lab, &data, 1, Outcome::Forwarded);
            assert_eq!(whole, as_joined(tcp.to_server(&data), 1));
            let data = tcp.from_server(ACK).payload(&PAYLOAD);
            let whole = carried_whole(&mut lab, &data, 2, Outcome::Replied);
            assert_eq!(whole, as_joined(tcp.to_client(&data), 2));
            let query = udp.query(&PAYLOAD);
            let whole = carried_whole(&mut lab, &query, 3, Outcome::Forwarded);
            assert_eq!(whole, as_joined(udp.to_server(&query), 3));
        }
    });
}

#[test]
fn a_datagram_without_a_checksum_is_carried_in_fragments() {
    require_kernel!();
    each(Setting::IPV4, |setting| {
        let mut lab = Lab::new(setting);
        let query = Packet { payload: PAYLOAD.to_vec(), ..lab.query(1) }.without_checksum();
        let whole = carried_whole(&mut lab, &query, 5, Outcome::Forwarded);
        let connection = lab.connection(&query, &whole);
        assert_eq!(whole, as_joined(connection.to_server(&query), 5));
    });
}

#[test]
fn a_later_fragment_whose_first_was_not_seen_is_passed_or_dropped() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let later = lab.query(1).later_fragment(9, 400, true, &[1; 400]);
        let last = lab.syn(1).later_fragment(9, 800, false, &[1; 8]);
        for fragment in [&later, &last] {
            lab.passes(fragment, Outcome::Fragment);
        }
        lab.dedicate();
        for fragment in [&later, &last] {
            lab.drops(fragment, Outcome::FragmentLost);
        }
        let to_snat = Packet { destination: (setting.family.snat(1), 0).into(), ..later };
        lab.passes(&to_snat, Outcome::Fragment);
        lab.assert_entries(Entries::default());
    });
}

#[test]
fn ports_are_remembered_by_source_destination_number_and_protocol() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let query = Packet { payload: PAYLOAD.to_vec(), ..lab.query(1) };
        let frames = split(&query, 0x1234, SIZE);
        lab.step(&frames[0], Outcome::Forwarded);
        let later = |of: &Packet, id| of.later_fragment(id, 400, true, &[0x5a; 400]);
        let another = Packet { source: lab.client(2), ..query.clone() };
        let tcp = lab.syn(1);
        let mut wide = vec![
            ("another number", later(&query, 0x1235)),
            ("another source", later(&another, 0x1234)),
            ("another protocol", later(&tcp, 0x1234)),
        ];
        if !query.is_v4() {
            wide.push(("another high half of the number", later(&query, 0x1_1234)));
        }
        rows(wide, |fragment| lab.passes(&fragment, Outcome::Fragment));
        lab.step(&later(&query, 0x1234), Outcome::Forwarded);
    });
}

#[test]
fn ports_are_borrowed_for_ten_seconds() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let query = Packet { payload: PAYLOAD.to_vec(), ..lab.query(1) };
        let frames = split(&query, 5, SIZE);
        lab.step(&frames[0], Outcome::Forwarded);
        lab.wait(10 * SECOND);
        lab.step(&frames[1], Outcome::Forwarded);
        lab.wait(1);
        lab.passes(&frames[2], Outcome::Fragment);
        // The number comes round again.
        lab.step(&frames[0], Outcome::Forwarded);
        lab.step(&frames[2], Outcome::Forwarded);
    });
}

#[test]
fn a_later_fragment_opens_nothing() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let query = Packet { payload: PAYLOAD.to_vec(), ..lab.query(1) };
        let frames = split(&query, 5, SIZE);
        let sent = Packet::read(&lab.step(&frames[0], Outcome::Forwarded).packet);
        let connection = lab.connection(&query, &sent);
        lab.kernel.remove_half_flow(&connection.key()).unwrap();
        lab.passes(&frames[1], Outcome::Fragment);
        lab.dedicate();
        lab.drops(&frames[1], Outcome::FragmentLost);
        lab.assert_entries(Entries { half_replies: 1, ..Entries::default() });
    });
}

#[test]
fn a_later_fragment_has_no_flags() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let connection = lab.establish(1);
        let first = connection.from_client(ACK).payload(&[0; 380]).fragment(3, 0, true);
        lab.step(&first, Outcome::Forwarded);
        let before = lab.flow(&connection).unwrap();
        // Bytes that would be a header with every flag.
        let later = first.later_fragment(3, 400, false, &[0xff; 40]);
        lab.step(&later, Outcome::Forwarded);
        let after = lab.flow(&connection).unwrap();
        assert_eq!((after.state, after.next_seq), (before.state, before.next_seq));
        assert_eq!(lab.in_use(1), 1);
    });
}

#[test]
fn the_ports_of_a_first_fragment_that_is_not_carried_are_not_remembered() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        lab.listener(|entry| entry.flags |= flags::LISTS);
        let client = lab.client(1).ip();
        lab.kernel.put_source(UDP_LISTENER, (client, 0), verdict::DENY).unwrap();
        let query = Packet { payload: PAYLOAD.to_vec(), ..lab.query(1) };
        let frames = split(&query, 5, SIZE);
        lab.drops(&frames[0], Outcome::Denied);
        lab.passes(&frames[1], Outcome::Fragment);
        assert_eq!(lab.kernel.fragments().unwrap(), []);
    });
}

#[test]
fn first_fragments_are_read_like_whole_packets() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        // Half a TCP header, and a datagram whose ports are cut.
        let tcp = lab.syn(1).later_fragment(1, 0, true, &[0x11; 16]);
        lab.passes(&tcp, Outcome::Malformed);
        let udp = lab.query(1).later_fragment(1, 0, true, &[0x11; 4]);
        lab.passes(&udp, Outcome::Malformed);
        let padded = Packet { padding: vec![0x22; 8], ..udp };
        lab.passes(&padded, Outcome::Malformed);
        let short = Packet { padding: vec![], ..lab.query(1) }.fragment(1, 0, true);
        let mut frame = short.bytes();
        frame[short.transport_at() + 4..][..2].copy_from_slice(&[0, 7]);
        lab.passes(&frame, Outcome::Malformed);
        let elsewhere = Packet { destination: (lab.listener_address().ip(), 81).into(), ..short };
        lab.passes(&elsewhere, Outcome::Unrelated);
        let mut data = lab.syn(1).flags(ACK).payload(&[0; 64]);
        data = data.fragment(2, 0, true);
        lab.passes(&data, Outcome::NoFlow);
    });
}

#[test]
fn flags_of_a_first_fragment_count() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let connection = lab.establish(1);
        let fin = connection.from_client(FIN_ACK).payload(&[0; 380]).fragment(3, 0, true);
        lab.step(&fin, Outcome::Forwarded);
        let reset = connection.from_server(RST | ACK).payload(&[0; 380]).fragment(4, 0, true);
        lab.step(&reset, Outcome::Replied);
        assert_eq!(lab.in_use(1), 0);
    });
}

#[test]
fn fragments_of_control_messages_are_passed() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let echo = Packet::echo(lab.client(1).ip(), lab.listener_address().ip(), &[0; 64]);
        let first = echo.clone().fragment(6, 0, true);
        let later = echo.later_fragment(6, 72, false, &[0; 64]);
        for _ in 0..2 {
            lab.passes(&first, Outcome::Fragment);
            lab.passes(&later, Outcome::Fragment);
            // Nor are they answered or dropped where the address is ours alone.
            lab.dedicate();
        }
    });
}

#[test]
fn a_whole_packet_in_a_fragment_header_is_whole() {
    require_kernel!();
    each(Setting::IPV6, |setting| {
        let mut lab = Lab::new(setting);
        let query = lab.query(1).fragment(8, 0, false);
        let connection = lab.opens(&query);
        lab.replies(&connection, &connection.response(b"r").fragment(9, 0, false));
        assert_eq!(lab.kernel.fragments().unwrap(), []);
    });
}

#[test]
fn replies_in_fragments_that_arrive_out_of_order_are_passed_until_the_first_comes() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let connection: Connection = lab.exchange(1);
        let frames = split(&connection.response(&PAYLOAD), 5, SIZE);
        lab.passes(&frames[2], Outcome::Fragment);
        lab.step(&frames[0], Outcome::Replied);
        lab.step(&frames[1], Outcome::Replied);
        lab.step(&frames[2], Outcome::Replied);
    });
}

#[test]
fn more_datagrams_than_are_remembered_lose_only_the_oldest() {
    require_kernel!();
    each(Setting::XDP, |setting| {
        let mut lab = Lab::new(setting);
        let connection = lab.exchange(1);
        let query = connection.query(&PAYLOAD);
        for id in 0..12_000_u32 {
            lab.run(&split(&query, id, SIZE)[0]);
        }
        lab.outcomes();
        lab.step(&split(&query, 11_999, SIZE)[1], Outcome::Forwarded);
        let kept = lab.kernel.fragments().unwrap().len();
        assert!((1_000..=8_192).contains(&kept), "{kept}");
    });
}

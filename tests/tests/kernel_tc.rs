//! What only the TC hook has: packets that the kernel will cut into segments, and flows whose client
//! and server are on the host itself.

use deston::datapath::Action;
use deston_common::net::Mac;
use deston_common::outcome::Outcome;
use deston_tests::kernel::{Connection, Lab, Setting, each, rows};
use deston_tests::packet::flags::{ACK, SYN_ACK};
use deston_tests::packet::{Packet, oracle};
use deston_tests::require_kernel;

const TC: [Setting; 2] = [Setting::TC4, Setting::TC6];

/// A `struct __sk_buff` (linux/bpf.h) that tells the size of the segments a packet will be cut into.
fn segmented(size: u32, segments: u32) -> Vec<u8> {
    let mut context = vec![0; 192];
    context[164..168].copy_from_slice(&segments.to_ne_bytes());
    context[176..180].copy_from_slice(&size.to_ne_bytes());
    context
}

/// A connection whose way to the server takes IP packets of 1,300 bytes.
fn narrow(setting: Setting) -> (Lab, Connection) {
    let mut lab = Lab::new(setting);
    lab.server(1, |entry| entry.hop.mtu = 1_300);
    let connection = lab.establish(1);
    (lab, connection)
}

#[test]
fn a_packet_that_will_be_cut_is_as_long_as_its_segments() {
    require_kernel!();
    each(TC, |setting| {
        let (mut lab, connection) = narrow(setting);
        let data = connection.from_client(ACK).payload(&[7; 3_000]).dont_fragment();
        let headers = data.ip_bytes().len() as u32 - 3_000;
        let table = [
            ("segments that fit", 1_000, true),
            ("segments that just fit", 1_300 - headers, true),
            ("segments a byte too long", 1_301 - headers, false),
        ];
        let table = table.map(|(name, size, fits)| (name, (size, fits)));
        let count = rows(table, |(size, fits)| {
            let context = segmented(size, 3_000 / size + 1);
            let hook = lab.setting.hook;
            let ran = lab.kernel.run_in_context(hook, &data.bytes(), &context).unwrap();
            let outcome = if fits { Outcome::Forwarded } else { Outcome::TooBig };
            lab.assert_outcomes(&[(outcome, 1)]);
            assert_eq!(ran.action, Action::Redirect);
            if fits {
                assert_eq!(ran.packet, connection.to_server(&data).bytes());
            }
        });
        assert_eq!(count, 3);
        // The same packet as it stands does not fit.
        lab.step(&data, Outcome::TooBig);
    });
}

#[test]
fn replies_that_will_be_cut_pass_whole() {
    require_kernel!();
    each(TC, |setting| {
        let (mut lab, connection) = narrow(setting);
        let data = connection.from_server(ACK).payload(&[7; 3_000]);
        let context = segmented(1_448, 3);
        let ran = lab.kernel.run_in_context(lab.setting.hook, &data.bytes(), &context).unwrap();
        lab.assert_outcomes(&[(Outcome::Replied, 1)]);
        assert_eq!(ran.packet, connection.to_client(&data).bytes());
    });
}

/// Without Ethernet addresses, as on the loopback.
fn bare(packet: Packet) -> Packet {
    Packet { source_mac: [0; 6], destination_mac: [0; 6], ..packet }
}

#[test]
fn on_the_loopback_packets_are_translated_and_go_on_into_the_stack() {
    require_kernel!();
    each(TC, |setting| {
        let mut lab = Lab::new(setting);
        lab.server(1, |entry| {
            entry.hop.source_mac = Mac::default();
            entry.hop.next_hop_mac = Mac::default();
        });
        let syn = bare(lab.syn(1));
        let ran = lab.run(&syn);
        lab.assert_outcomes(&[(Outcome::Forwarded, 1)]);
        assert_eq!(ran.action, Action::Pass);
        assert_eq!(oracle::verify(&ran.packet), Ok(()));
        let connection = lab.connection(&syn, &Packet::read(&ran.packet));
        assert_eq!(ran.packet, bare(connection.to_server(&syn)).bytes());

        let answer = bare(connection.from_server(SYN_ACK));
        let ran = lab.run(&answer);
        lab.assert_outcomes(&[(Outcome::Replied, 1)]);
        assert_eq!(ran.action, Action::Pass);
        assert_eq!(ran.packet, bare(connection.to_client(&answer)).bytes());
    });
}

#[test]
fn both_hooks_translate_a_packet_alike() {
    require_kernel!();
    for settings in [[Setting::XDP4, Setting::TC4], [Setting::XDP6, Setting::TC6]] {
        let sent = settings.map(|setting| {
            let mut lab = Lab::new(setting);
            let connection = lab.establish(1);
            let data = connection.from_client(ACK).payload(b"data");
            (connection, lab.run(&data).packet)
        });
        assert_eq!(sent[0], sent[1]);
    }
}

//! Packets that no client can have sent to us alone.

use std::net::IpAddr;

use deston_common::outcome::Outcome;
use deston_tests::kernel::{Entries, Family, Lab, Setting, each, rows};
use deston_tests::packet::Packet;
use deston_tests::packet::flags::SYN;
use deston_tests::require_kernel;

/// A group of stations, and all of them.
const GROUPS: [[u8; 6]; 3] =
    [[0x01, 0, 0x5e, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1], [0xff, 0xff, 0xff, 0xff, 0xff, 0xff]];

/// Addresses that send nothing to other hosts.
fn martians(family: Family) -> Vec<IpAddr> {
    let addresses: &[&str] = match family {
        Family::V4 => {
            &["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"]
        }
        Family::V6 => &["::", "::1", "ff02::1"],
    };
    addresses.iter().map(|address| address.parse().unwrap()).collect()
}

#[test]
fn sources_that_nobody_has_open_nothing() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let listener = lab.listener_address();
        let land = listener.ip();
        for source in martians(setting.family).into_iter().chain([land]) {
            lab.passes(&Packet::tcp((source, 40_000), listener, SYN), Outcome::Unrelated);
        }
        lab.assert_entries(Entries::default());
    });
}

#[test]
fn frames_from_or_to_a_group_open_nothing() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let count = rows(GROUPS.map(|group| (format!("{group:02x?}"), group)), |group| {
            let to = Packet { destination_mac: group, ..lab.syn(1) };
            lab.passes(&to, Outcome::Unrelated);
            let from = Packet { source_mac: group, ..lab.syn(1) };
            lab.passes(&from, Outcome::Unrelated);
        });
        assert_eq!(count, GROUPS.len());
        lab.assert_entries(Entries::default());
    });
}

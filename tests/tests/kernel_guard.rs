//! Source lists, the limit of new flows for each source, and the flood gate.

use std::net::IpAddr;

use deston_common::guard::{Flood, verdict};
use deston_common::listener::{Forwarding, flags};
use deston_common::outcome::Outcome;
use deston_tests::kernel::{
    Entries, Family, Lab, MILLISECOND, Pinned, SECOND, Setting, TCP_LISTENER, UDP_LISTENER, each,
    rows,
};
use deston_tests::packet::flags::{ACK, SYN};
use deston_tests::packet::{Packet, Quote};
use deston_tests::require_kernel;

/// Lists a prefix for both listeners.
fn list(lab: &mut Lab, address: IpAddr, bits: u8, verdict: u32) {
    for listener in [TCP_LISTENER, UDP_LISTENER] {
        lab.kernel.put_source(listener, (address, bits), verdict).unwrap();
    }
    lab.listener(|entry| entry.flags |= flags::LISTS);
}

/// Bits of the prefixes that hold one client, its network, a wide network, and everybody.
fn widths(family: Family) -> [u8; 4] {
    match family {
        Family::V4 => [32, 24, 8, 0],
        Family::V6 => [128, 64, 32, 0],
    }
}

#[test]
fn a_denied_source_opens_nothing() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        for bits in widths(setting.family) {
            let mut lab = Lab::new(setting);
            let denied = lab.client(1).ip();
            list(&mut lab, denied, bits, verdict::DENY);
            lab.drops(&lab.syn(1), Outcome::Denied);
            lab.drops(&lab.query(1), Outcome::Denied);
            lab.assert_entries(Entries::default());
        }
    });
}

#[test]
fn the_longest_prefix_decides() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let [host, network, wide, all] = widths(setting.family);
        let mut lab = Lab::new(setting);
        let (one, two) = (lab.client(1).ip(), lab.client(2).ip());
        list(&mut lab, one, all, verdict::DENY);
        list(&mut lab, one, wide, verdict::ALLOW);
        lab.open(1);
        list(&mut lab, one, network, verdict::DENY);
        list(&mut lab, two, network, verdict::DENY);
        list(&mut lab, two, host, verdict::ALLOW);
        lab.drops(&lab.query(1), Outcome::Denied);
        lab.open(2);
        // Somebody whom only the shortest prefix covers.
        let far: IpAddr = match setting.family {
            Family::V4 => [192, 0, 2, 200].into(),
            Family::V6 => [0xfd00, 0, 0, 0, 0, 0, 0, 1].into(),
        };
        lab.drops(&Packet::tcp((far, 2_000), lab.listener_address(), SYN), Outcome::Denied);
    });
}

#[test]
fn where_the_default_is_to_deny_only_listed_sources_are_served() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        lab.listener(|entry| entry.flags |= flags::DEFAULT_DENY);
        let allowed = lab.client(1).ip();
        list(&mut lab, allowed, widths(setting.family)[0], verdict::ALLOW);
        lab.open(1);
        lab.drops(&lab.syn(2), Outcome::Denied);
    });
}

#[test]
fn lists_are_of_one_listener_each() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let client = lab.client(1).ip();
        lab.listener(|entry| entry.flags |= flags::LISTS);
        lab.kernel.put_source(TCP_LISTENER, (client, 0), verdict::DENY).unwrap();
        lab.drops(&lab.syn(1), Outcome::Denied);
        lab.opens(&lab.query(1));
        lab.kernel.remove_source(TCP_LISTENER, (client, 0)).unwrap();
        lab.open(1);
    });
}

#[test]
fn flows_that_were_open_before_a_denial_go_on() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let (established, half_open) = (lab.establish(1), lab.open(2));
        let datagrams = lab.exchange(3);
        list(&mut lab, setting.family.client(1).ip(), 0, verdict::DENY);
        lab.forwards(&established, &established.from_client(ACK).payload(b"more"));
        lab.replies(&established, &established.from_server(ACK).payload(b"more"));
        lab.forwards(&half_open, &half_open.from_client(SYN));
        lab.shake_hands(&half_open);
        lab.forwards(&datagrams, &datagrams.query(b"again"));
        lab.drops(&lab.syn(4), Outcome::Denied);
    });
}

#[test]
fn replies_errors_and_foreign_packets_are_never_guarded() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let connection = lab.open(1);
        list(&mut lab, setting.family.server(1).ip(), 0, verdict::DENY);
        let sent = connection.to_server(&connection.from_client(SYN));
        let error = sent.time_exceeded(setting.family.router(), Quote::Bytes(8));
        lab.emits(&error, Outcome::ErrorReplied);
        lab.replies(&connection, &connection.from_server(ACK | SYN));
        let elsewhere = (lab.listener_address().ip(), 81);
        lab.passes(&Packet::tcp(lab.client(2), elsewhere, SYN), Outcome::Unrelated);
        let echo = Packet::echo(lab.client(2).ip(), elsewhere.0, b"x");
        lab.passes(&echo, Outcome::IcmpUnrelated);
    });
}

#[test]
fn ten_thousand_prefixes_each_decide_for_their_own() {
    require_kernel!();
    each(Setting::XDP, |setting| {
        let mut lab = Lab::new(setting);
        let network = |n: u16| -> (IpAddr, u8) {
            match setting.family {
                Family::V4 => {
                    let [high, low] = n.to_be_bytes();
                    ([10, high, low, 0].into(), 24)
                }
                Family::V6 => ([0x2001, 0xdb8, 0xa, n, 0, 0, 0, 0].into(), 64),
            }
        };
        for n in 0..10_000 {
            let verdict = if n % 2 == 0 { verdict::DENY } else { verdict::ALLOW };
            lab.kernel.put_source(TCP_LISTENER, network(n), verdict).unwrap();
        }
        lab.listener(|entry| entry.flags |= flags::LISTS | flags::DEFAULT_DENY);
        let mut judged = 0;
        for n in (0..10_200).step_by(51) {
            let host: IpAddr = match network(n).0 {
                IpAddr::V4(v4) => (u32::from(v4) | 0x4d).to_be_bytes().into(),
                IpAddr::V6(v6) => (u128::from(v6) | 0x4d).to_be_bytes().into(),
            };
            let syn = Packet::tcp((host, 2_000), lab.listener_address(), SYN);
            if n < 10_000 && n % 2 == 1 {
                lab.opens(&syn);
            } else {
                lab.drops(&syn, Outcome::Denied);
            }
            judged += 1;
        }
        assert_eq!(judged, 200);
    });
}

/// Ten new flows a second, three at once.
fn limit(lab: &mut Lab) {
    lab.listener(|entry| {
        entry.rate_interval_ns = 100 * MILLISECOND;
        entry.rate_tolerance_ns = 200 * MILLISECOND;
    });
}

/// The `n`th of a client's SYNs.
fn nth_syn(lab: &Lab, client: u16, n: u16) -> Packet {
    Packet::tcp(lab.client_at(client, 2_000 + n), lab.listener_address(), SYN)
}

#[test]
fn a_source_may_open_a_burst_and_then_one_flow_an_interval() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        limit(&mut lab);
        for n in 0..3 {
            lab.opens(&nth_syn(&lab, 1, n));
        }
        lab.drops(&nth_syn(&lab, 1, 3), Outcome::RateLimited);
        lab.wait(99 * MILLISECOND);
        lab.drops(&nth_syn(&lab, 1, 3), Outcome::RateLimited);
        lab.wait(MILLISECOND);
        lab.opens(&nth_syn(&lab, 1, 3));
        lab.drops(&nth_syn(&lab, 1, 4), Outcome::RateLimited);
        // Long silence earns no more than the burst.
        lab.wait(60 * SECOND);
        for n in 5..8 {
            lab.opens(&nth_syn(&lab, 1, n));
        }
        lab.drops(&nth_syn(&lab, 1, 8), Outcome::RateLimited);
        lab.assert_entries(Entries::half_open(7));
    });
}

#[test]
fn sources_and_listeners_have_a_limit_each() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        limit(&mut lab);
        for n in 0..3 {
            lab.opens(&nth_syn(&lab, 1, n));
        }
        lab.drops(&nth_syn(&lab, 1, 3), Outcome::RateLimited);
        lab.opens(&nth_syn(&lab, 2, 0));
        for port in 0..3 {
            lab.opens(&Packet::udp(lab.client_at(1, 3_000 + port), lab.listener_address(), b"x"));
        }
        lab.drops(&lab.query(1), Outcome::RateLimited);
    });
}

#[test]
fn one_subscribers_addresses_share_a_limit() {
    require_kernel!();
    each(Setting::IPV6, |setting| {
        let mut lab = Lab::new(setting);
        limit(&mut lab);
        let host = |n: u16| IpAddr::from([0x2001, 0xdb8, 3, 1, 0, 0, 0, n]);
        let syn = |n: u16| Packet::tcp((host(n), 2_000), setting.family.listener(), SYN);
        for n in 1..=3 {
            lab.opens(&syn(n));
        }
        lab.drops(&syn(4), Outcome::RateLimited);
        let neighbour = IpAddr::from([0x2001, 0xdb8, 3, 2, 0, 0, 0, 1]);
        lab.opens(&Packet::tcp((neighbour, 2_000), setting.family.listener(), SYN));
    });
}

#[test]
fn only_new_flows_count_against_a_limit() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        limit(&mut lab);
        let connection = lab.establish(1);
        for _ in 0..10 {
            lab.forwards(&connection, &connection.from_client(ACK).payload(b"data"));
        }
        let half_open = lab.opens(&nth_syn(&lab, 1, 0));
        for _ in 0..10 {
            lab.forwards(&half_open, &half_open.from_client(SYN).ack(2_000));
        }
        for _ in 0..10 {
            // Passed before the guard: they open nothing.
            lab.passes(&nth_syn(&lab, 1, 9).flags(ACK), Outcome::NoFlow);
        }
        lab.opens(&nth_syn(&lab, 1, 1));
        lab.drops(&nth_syn(&lab, 1, 2), Outcome::RateLimited);
    });
}

#[test]
fn what_is_denied_does_not_count_against_a_limit() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        limit(&mut lab);
        list(&mut lab, setting.family.client(1).ip(), 0, verdict::DENY);
        for n in 0..10 {
            lab.drops(&nth_syn(&lab, 1, n), Outcome::Denied);
        }
        lab.listener(|entry| entry.flags &= !flags::LISTS);
        for n in 0..3 {
            lab.opens(&nth_syn(&lab, 1, n));
        }
    });
}

#[test]
fn listeners_of_the_hosts_stack_are_guarded_too() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        lab.listener(|entry| entry.flags |= flags::STACK);
        limit(&mut lab);
        for n in 0..3 {
            lab.passes(&nth_syn(&lab, 1, n), Outcome::ToStack);
        }
        lab.drops(&nth_syn(&lab, 1, 3), Outcome::RateLimited);
        lab.passes(&nth_syn(&lab, 1, 0).flags(ACK), Outcome::ToStack);
        for _ in 0..10 {
            // The process knows which datagrams are new; here none is.
            lab.passes(&lab.query(1), Outcome::ToStack);
        }
        let denied = lab.client(2).ip();
        list(&mut lab, denied, widths(setting.family)[0], verdict::DENY);
        lab.drops(&lab.syn(2), Outcome::Denied);
        lab.drops(&lab.query(2), Outcome::Denied);
        lab.passes(&lab.syn(2).flags(ACK), Outcome::ToStack);
    });
}

#[test]
fn a_denied_packet_is_not_answered_about_its_time_to_live() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        list(&mut lab, setting.family.client(1).ip(), 0, verdict::DENY);
        lab.drops(&lab.syn(1).ttl(1), Outcome::Denied);
    });
}

/// A gate of ten new flows a second, nine of which this second has had on every processor.
fn nearly_flooded(setting: Setting, forwarding: Forwarding) -> Lab {
    let mut lab = Lab::new(setting);
    lab.forwarding(forwarding);
    lab.globals(|globals| globals.flood_gate = 10);
    let since_ns = lab.now();
    lab.kernel.put_flood(Flood { since_ns, count: 9 }).unwrap();
    lab
}

#[test]
fn beyond_the_gate_translated_flows_are_dropped_until_the_next_second() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let table = [("nat", Forwarding::Nat), ("dnat", Forwarding::Dnat)];
        let count = rows(table, |forwarding| {
            let pinned = Pinned::to_one_processor();
            let mut lab = nearly_flooded(setting, forwarding);
            let last = lab.open(1);
            lab.drops(&lab.syn(2), Outcome::Flooded);
            lab.drops(&lab.query(2), Outcome::Flooded);
            // What is known goes on.
            lab.shake_hands(&last);
            lab.wait(SECOND - 1);
            lab.drops(&lab.syn(2), Outcome::Flooded);
            lab.wait(1);
            lab.open(2);
            assert_eq!(lab.kernel.flood().unwrap().iter().filter(|f| f.count == 1).count(), 1);
            drop(pinned);
        });
        assert_eq!(count, 2);
    });
}

#[test]
fn beyond_the_gate_direct_return_is_carried_without_a_record() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let table = [("dsr-l2", Forwarding::DsrL2), ("dsr-ipip", Forwarding::DsrIpip)];
        let count = rows(table, |forwarding| {
            let pinned = Pinned::to_one_processor();
            let mut lab = nearly_flooded(setting, forwarding);
            lab.step(&lab.syn(1), Outcome::Forwarded);
            lab.assert_entries(Entries { half_flows: 1, ..Entries::default() });
            lab.step(&lab.syn(2), Outcome::Forwarded);
            lab.assert_entries(Entries { half_flows: 1, ..Entries::default() });
            drop(pinned);
        });
        assert_eq!(count, 2);
    });
}

#[test]
fn a_gate_of_zero_is_no_gate() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let since_ns = lab.now();
        lab.kernel.put_flood(Flood { since_ns, count: u64::MAX }).unwrap();
        lab.open(1);
    });
}

//! The loaded program's hard limit of flows for each server.

use std::net::Ipv4Addr;

use deston::datapath::Action;
use deston_common::outcome::Outcome;
use deston_common::server::ServerId;
use deston_tests::kernel::{self, LISTENER, Lab};
use deston_tests::packet::{Packet, flags};
use deston_tests::require_kernel;

const CLIENT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 77);

fn syn(n: u16) -> Packet {
    Packet::tcp((CLIENT, 2_000 + n), LISTENER, flags::SYN)
}

fn in_use(lab: &Lab, server: u16) -> u64 {
    lab.kernel.load_of(ServerId(server)).unwrap().in_use
}

#[test]
fn a_full_server_is_skipped_for_the_next_one() {
    require_kernel!();
    let mut lab = Lab::new(2);
    lab.kernel.put_server(ServerId(1), &kernel::server_entry(1, 2)).unwrap();
    let servers: Vec<u16> = (0..6).map(|n| lab.server_of(&syn(n))).collect();
    assert_eq!(servers, [1, 2, 1, 2, 2, 2]);
    assert_eq!((in_use(&lab, 1), in_use(&lab, 2)), (2, 4));
}

#[test]
fn flows_beyond_every_servers_limit_are_dropped_and_counted() {
    require_kernel!();
    let mut lab = Lab::with_limit(2, 3);
    for n in 0..10 {
        lab.send(&syn(n));
    }
    assert_eq!((in_use(&lab, 1), in_use(&lab, 2)), (3, 3));
    lab.assert_outcomes(&[(Outcome::Forwarded, 6), (Outcome::ServersFull, 4)]);
}

#[test]
fn a_released_slot_is_given_to_the_next_flow() {
    require_kernel!();
    let mut lab = Lab::with_limit(1, 1);
    lab.send(&syn(0));
    assert_eq!(lab.send(&syn(1)).action, Action::Drop);
    let refused = lab.only_flow();
    let server = kernel::server_address(1);
    lab.send(&Packet::tcp(
        (*server.ip(), server.port()),
        (kernel::SNAT, refused.reply.destination_port.to_host()),
        flags::RST | flags::ACK,
    ));
    assert_eq!(lab.send(&syn(1)).action, Action::Redirect);
    assert_eq!(in_use(&lab, 1), 1);
}

#[test]
fn the_last_of_many_full_servers_is_found() {
    require_kernel!();
    let mut lab = Lab::with_limit(100, 0);
    lab.kernel.put_server(ServerId(63), &kernel::server_entry(63, 5)).unwrap();
    for n in 0..5 {
        assert_eq!(lab.server_of(&syn(n)), 63);
    }
    assert_eq!(lab.send(&syn(5)).action, Action::Drop);
    lab.assert_outcomes(&[(Outcome::Forwarded, 5), (Outcome::ServersFull, 1)]);
}

#[test]
fn a_lowered_limit_keeps_flows_and_refuses_new_ones() {
    require_kernel!();
    let mut lab = Lab::with_limit(1, 5);
    for n in 0..5 {
        lab.send(&syn(n));
    }
    lab.kernel.put_server(ServerId(1), &kernel::server_entry(1, 2)).unwrap();
    assert_eq!(lab.send(&syn(0)).action, Action::Redirect);
    assert_eq!(lab.send(&syn(5)).action, Action::Drop);
    assert_eq!(in_use(&lab, 1), 5);
}

#[test]
fn processors_that_race_never_pass_the_limit() {
    require_kernel!();
    let limit = 100;
    let lab = Lab::with_limit(1, limit);
    let kernel = &lab.kernel;
    std::thread::scope(|scope| {
        for thread in 0..4_u16 {
            scope.spawn(move || {
                for n in 0..500 {
                    let packet =
                        Packet::tcp((CLIENT, 2_000 + 1_000 * thread + n), LISTENER, flags::SYN);
                    kernel.run(&packet.bytes(), 1).unwrap();
                }
            });
        }
    });
    assert_eq!(in_use(&lab, 1), u64::from(limit));
    assert_eq!(lab.kernel.flows().count(), limit as usize);
}

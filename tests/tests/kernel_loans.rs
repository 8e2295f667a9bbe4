//! Specs that share loaded programs do not see each other.

use std::net::Ipv4Addr;

use deston::datapath::Action;
use deston_common::net::TCP;
use deston_common::outcome::Outcome;
use deston_common::server::{Load, ServerEntry, ServerId};
use deston_tests::kernel::{self, FLOWS, LISTENER, Lab, Loan};
use deston_tests::packet::{Packet, flags};
use deston_tests::require_kernel;

fn syn() -> Packet {
    Packet::tcp((Ipv4Addr::new(203, 0, 113, 77), 2_000), LISTENER, flags::SYN)
}

#[test]
fn borrowed_programs_remember_nothing_of_the_spec_before() {
    require_kernel!();
    let mut lab = Lab::with_limit(3, 1_000);
    let program = lab.kernel.program_id().unwrap();
    lab.server_of(&syn());
    let flow = lab.only_flow();
    lab.kernel.put_cursor(9, 7).unwrap();
    drop(lab);

    let mut kernel = Loan::new(FLOWS);
    assert_eq!(kernel.program_id().unwrap(), program, "they were loaded again");
    assert_eq!(kernel.flows().count(), 0);
    assert_eq!(kernel.reply(&flow.reply), None);
    assert_eq!(kernel.outcomes().unwrap(), [0; Outcome::COUNT as usize]);
    assert_eq!((kernel.cursor(0).unwrap(), kernel.cursor(9).unwrap()), (0, 0));
    for id in (1..=3).map(ServerId) {
        assert_eq!(kernel.server(id).unwrap(), ServerEntry::default());
        assert_eq!(kernel.load_of(id).unwrap(), Load::default());
    }
    assert_eq!(kernel.run(&syn().bytes(), 1).unwrap().action, Action::Pass, "no listener");
    // A pool whose table is gone serves nobody.
    kernel.put_listener(&kernel::listener_key(TCP), &kernel::listener_entry()).unwrap();
    assert_eq!(kernel.run(&syn().bytes(), 1).unwrap().action, Action::Drop);
}

#[test]
fn two_loans_at_a_time_are_programs_of_their_own() {
    require_kernel!();
    let (one, other) = (Loan::new(FLOWS), Loan::new(FLOWS));
    assert_ne!(one.program_id().unwrap(), other.program_id().unwrap());
}

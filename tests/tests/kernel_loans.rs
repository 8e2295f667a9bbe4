//! Specs that share loaded programs do not see each other.

use deston::datapath::{Action, Hook, Kernel};
use deston_common::fragment::{FragmentEntry, FragmentKey};
use deston_common::guard::Bucket;
use deston_common::net::TCP;
use deston_common::outcome::Outcome;
use deston_common::server::{Load, ServerEntry, ServerId};
use deston_tests::kernel::{Lab, Loan, SIZES, Setting, listener_entry};
use deston_tests::packet::{Packet, flags};
use deston_tests::require_kernel;

#[test]
fn borrowed_programs_remember_nothing_of_the_spec_before() {
    require_kernel!();
    let mut lab = Lab::with_servers(Setting::XDP4, 3);
    let balancer = Kernel::PROGRAMS[0];
    let program = lab.kernel.program_id(balancer).unwrap();
    let (promoted, half_open) = (lab.establish(1), lab.open(2));
    lab.kernel.put_cursor(9, 7).unwrap();
    let client = lab.client(1).ip();
    lab.kernel.put_bucket(client, 1, &Bucket { due_ns: 9 }).unwrap();
    lab.kernel.put_fragment(&FragmentKey::default(), &FragmentEntry::default()).unwrap();
    lab.kernel.put_source(1, (client, 0), 2).unwrap();
    let syn = lab.syn(9);
    let listener = lab.listener_address();
    drop(lab);

    let mut kernel = Loan::new(SIZES);
    assert_eq!(kernel.program_id(balancer).unwrap(), program, "they were loaded again");
    assert_eq!((kernel.flows().count(), kernel.half_flows().count()), (0, 0));
    assert_eq!(kernel.reply(&promoted.reply_key()), None);
    assert_eq!(kernel.half_reply(&half_open.reply_key()), None);
    assert_eq!(kernel.outcomes().unwrap(), [0; Outcome::COUNT as usize]);
    assert_eq!((kernel.cursor(0).unwrap(), kernel.cursor(9).unwrap()), (0, 0));
    assert_eq!(kernel.buckets().unwrap(), []);
    assert_eq!(kernel.fragments().unwrap(), []);
    assert_eq!(kernel.globals().unwrap(), deston_common::globals::Globals::default());
    assert!(kernel.remove_source(1, (client, 0)).is_err(), "a prefix is left");
    for id in (1..=3).map(ServerId) {
        assert_eq!(kernel.server(id).unwrap(), ServerEntry::default());
        assert_eq!(kernel.load_of(id).unwrap(), Load::default());
    }
    let run = |kernel: &Kernel, packet: &Packet| kernel.run(Hook::Xdp, &packet.bytes()).unwrap();
    assert_eq!(run(&kernel, &syn).action, Action::Pass, "no address is ours");
    // A pool whose table is gone serves nobody.
    let ours = deston_common::address::AddressEntry { flags: 1, ..Default::default() };
    kernel.put_address(listener.ip(), &ours).unwrap();
    let entry = listener_entry(Hook::Xdp);
    kernel.put_listener(listener.ip(), listener.port(), TCP, &entry).unwrap();
    assert_eq!(run(&kernel, &syn.flags(flags::SYN)).action, Action::Drop);
}

#[test]
fn two_loans_at_a_time_are_programs_of_their_own() {
    require_kernel!();
    let (one, other) = (Loan::new(SIZES), Loan::new(SIZES));
    let balancer = Kernel::PROGRAMS[0];
    assert_ne!(one.program_id(balancer).unwrap(), other.program_id(balancer).unwrap());
}

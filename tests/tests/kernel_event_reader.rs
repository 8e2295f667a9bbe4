//! What the programs tell reaches a process that waits for it.

use std::time::Duration;

use deston::datapath::{Event, Hook, Kernel, Sizes};
use deston_common::event::TraceFilter;
use deston_common::globals::{Globals, flags};
use deston_tests::require_kernel;

/// An IPv4 UDP packet of nobody's: Ethernet, IPv4 without checksum, UDP.
fn packet() -> Vec<u8> {
    let mut packet = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    packet.extend([0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0]);
    packet.extend([203, 0, 113, 9, 192, 0, 2, 1]);
    packet.extend([0x30, 0x39, 0, 53, 0, 8, 0, 0]);
    packet
}

/// Programs that tell of every packet.
fn telling() -> Kernel {
    let mut kernel = Kernel::load(Sizes { flows: 64, half_open: 64 }).unwrap();
    kernel.put_trace(&TraceFilter { sample: 1, budget: 1_000, ..TraceFilter::default() }).unwrap();
    kernel.put_globals(&Globals { flags: flags::TRACE, ..Globals::default() }).unwrap();
    kernel
}

#[tokio::test]
async fn events_that_waited_and_events_to_come_are_read_in_order() {
    require_kernel!();
    let mut kernel = telling();
    for hook in [Hook::Xdp, Hook::Tc] {
        kernel.run(hook, &packet()).unwrap();
    }
    let mut events = kernel.take_events().unwrap().unwrap();
    assert!(kernel.take_events().unwrap().is_none());
    for tc in [0, 1] {
        let Event::Traced(told) = events.next().await.unwrap() else { panic!("no flow ended") };
        assert_eq!(told.tc, tc);
    }

    // Nothing is there now; what comes wakes the reader.
    let waits = tokio::time::timeout(Duration::from_millis(1), events.next());
    assert!(waits.await.is_err());
    let run = tokio::task::spawn_blocking(move || {
        kernel.run(Hook::Xdp, &packet()).unwrap();
        kernel
    });
    let Event::Traced(told) = events.next().await.unwrap() else { panic!("no flow ended") };
    assert_eq!(told.tc, 0);
    drop(run.await.unwrap());
}

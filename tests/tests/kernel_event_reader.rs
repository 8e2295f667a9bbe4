//! What the programs tell reaches a process that waits for it.

use std::net::Ipv4Addr;
use std::time::Duration;

use deston::datapath::{Kernel, Sizes};
use deston_common::event::{Ended, lost};
use deston_common::flow::{FlowEntry, FlowKey};
use deston_common::globals::{Globals, flags};
use deston_common::net::{Be16, Ipv4Be, TCP};
use deston_tests::require_kernel;

/// Programs that tell of ended flows.
fn telling() -> Kernel {
    let mut kernel = Kernel::load(Sizes { flows: 64, half_open: 64 }).unwrap();
    kernel.put_globals(&Globals { flags: flags::FLOW_LOG, ..Globals::default() }).unwrap();
    kernel
}

/// Has a flow of each of some ports of a client, and ends them.
fn end(kernel: &mut Kernel, ports: impl IntoIterator<Item = u16>) {
    for port in ports {
        let at = |last, port| (Ipv4Be::from(Ipv4Addr::new(192, 0, 2, last)), Be16::from_host(port));
        let key = FlowKey::new(at(9, port), at(1, 80), TCP).widened();
        kernel.put_flow(&FlowEntry { key, ..FlowEntry::default() }).unwrap();
    }
    kernel.expire(Duration::from_secs(1), |_| true).unwrap();
}

fn port(ended: Ended) -> u16 {
    ended.flow.source_port.to_host()
}

#[tokio::test]
async fn events_that_waited_and_events_to_come_are_read_in_order() {
    require_kernel!();
    let mut kernel = telling();
    end(&mut kernel, [1]);
    end(&mut kernel, [2]);
    let mut events = kernel.take_events().unwrap().unwrap();
    assert!(kernel.take_events().unwrap().is_none());
    assert_eq!(port(events.next().await.unwrap()), 1);
    assert_eq!(port(events.next().await.unwrap()), 2);

    // Nothing is there now; what comes wakes the reader.
    let waits = tokio::time::timeout(Duration::from_millis(1), events.next());
    assert!(waits.await.is_err());
    let run = tokio::task::spawn_blocking(move || {
        end(&mut kernel, [3]);
        kernel
    });
    assert_eq!(port(events.next().await.unwrap()), 3);
    let kernel = run.await.unwrap();
    assert_eq!(kernel.lost(lost::EVENTS).unwrap(), 0);
}

#[test]
fn what_finds_no_room_is_counted() {
    require_kernel!();
    let mut kernel = telling();
    // The ring has room for some 7,700.
    let told = 8_000;
    for first in (0..told).step_by(50) {
        end(&mut kernel, first..first + 50);
    }
    let lost = kernel.lost(lost::EVENTS).unwrap();
    let read = kernel.events().len() as u64;
    assert!(lost > 0 && read > 0);
    assert_eq!(lost + read, u64::from(told));
}

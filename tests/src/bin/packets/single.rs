//! The balancer alone: the mean of many runs, less the cost of injecting.

use std::net::Ipv4Addr;

use anyhow::Result;
use deston::datapath::{Hook, Kernel, Sizes};
use deston_common::address::{AddressEntry, flags};
use deston_common::net::UDP;
use deston_common::sequence;
use deston_common::server::ServerId;
use deston_common::table::Table;
use deston_tests::kernel::{self, Family};
use deston_tests::packet::{Packet, Transport};

use crate::inject::{Injector, Then};
use crate::stats::Rounds;

/// Runs of one measurement.
const REPEAT: u32 = 500_000;
/// Measurements of one figure.
const ROUNDS: usize = 9;

/// A case: its name, the packet and the number of flows.
struct Case {
    name: &'static str,
    packet: Packet,
    flows: u32,
    then: Then,
}

pub(crate) fn measure() -> Result<()> {
    let mut injector = Injector::load()?;
    let kernel = balancer()?;
    injector.call(&kernel)?;
    let listener = Family::V4.listener();
    let to_listener = Packet {
        transport: Transport::Udp { checksum: false },
        ..Packet::udp((Ipv4Addr::new(203, 0, 113, 77), 0), listener, &[0; 22])
    };
    let elsewhere = Packet { destination: (listener.ip(), 9).into(), ..to_listener.clone() };
    let case =
        |name, packet: &Packet, flows, then| Case { name, packet: packet.clone(), flows, then };
    let cases = [
        case("injecting alone", &to_listener, 1, Then::Drop),
        case("passed: not a listener's", &elsewhere, 1, Then::Balance),
        case("nat, known flow, 1 flow", &to_listener, 1, Then::Balance),
        case("nat, known flow, 1,024 flows", &to_listener, 1_024, Then::Balance),
        case("nat, known flow, 65,536 flows", &to_listener, 65_536, Then::Balance),
    ];
    let mut rounds: Vec<Rounds> = cases.iter().map(|_| Rounds::default()).collect();
    for round in 0..ROUNDS {
        let mut order: Vec<usize> = (0..cases.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for place in order {
            let case = &cases[place];
            injector.order(&case.packet, case.flows, case.then)?;
            // Opens the flows, so that what is measured finds them.
            injector.repeat(2 * case.flows)?;
            let spent = injector.repeat(REPEAT)?;
            rounds[place].push(spent.as_nanos() as f64);
        }
    }
    println!("BPF_PROG_TEST_RUN, {REPEAT} runs x {ROUNDS}, ns a packet, median [min-max]:\n");
    println!("| case | ns | less injecting |");
    println!("|---|---|---|");
    let injecting = rounds[0].median();
    for (case, rounds) in cases.iter().zip(&rounds) {
        println!("| {} | {} | {:.0} |", case.name, rounds.show(), rounds.median() - injecting);
    }
    println!(
        "\nverified instructions: {}",
        kernel
            .verified_instructions(Kernel::PROGRAMS[0])?
            .map_or("unknown".to_owned(), |count| count.to_string())
    );
    Ok(())
}

/// A balancer with one UDP listener and four servers, with room for every flow.
fn balancer() -> Result<Kernel> {
    let mut kernel = Kernel::load(Sizes::default())?;
    for n in 1..=4 {
        kernel.put_server(ServerId(n), &kernel::server_entry(Family::V4, n, u32::MAX))?;
    }
    let mut table = Box::new(Table::EMPTY);
    sequence::fill(&mut table, &kernel::members((1..=4).map(|n| (n, 1))))
        .map_err(|error| anyhow::anyhow!("{error:?}"))?;
    kernel.put_table(0, &table)?;
    let listener = Family::V4.listener();
    let ours = AddressEntry { flags: flags::LISTENER, ..AddressEntry::default() };
    kernel.put_address(listener.ip(), &ours)?;
    let entry = kernel::listener_entry(Hook::Xdp);
    kernel.put_listener(listener.ip(), listener.port(), UDP, &entry)?;
    Ok(kernel)
}

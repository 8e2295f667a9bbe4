//! What the kernel datapath does, told to people and to programs: its flows, its packets, its counts.
//!
//! Everything here reads what an instance has pinned, as another process than its own, and asks
//! nobody. How it looks is decided here; where it is printed, by the command line.

mod clock;
mod counts;
mod ending;
mod flow;
mod flows;
mod outcome;
mod packet;
mod pattern;

pub use clock::{Clock, age, rfc3339};
pub use counts::{Counts, ServerCounts};
pub use ending::record as ended_record;
pub use flow::{Flow, Phase};
pub use flows::{Asked, Servers, flows};
pub use outcome::explanation;
pub use packet::Packet;
pub use pattern::{InvalidPattern, Pattern, Prefix};

use std::net::SocketAddr;

use deston_common::flow::FlowKey;
use deston_common::net::{Address, ICMP, ICMPV6, TCP, UDP};

/// Where a tuple's packets come from.
fn source<A: Address>(key: &FlowKey<A>) -> SocketAddr {
    SocketAddr::new(key.source.widened().into(), key.source_port.to_host())
}

/// Where a tuple's packets go.
fn destination<A: Address>(key: &FlowKey<A>) -> SocketAddr {
    SocketAddr::new(key.destination.widened().into(), key.destination_port.to_host())
}

/// What a protocol is called; `None`: by its number.
fn protocol(number: u8) -> Option<&'static str> {
    match number {
        TCP => Some("tcp"),
        UDP => Some("udp"),
        ICMP => Some("icmp"),
        ICMPV6 => Some("icmpv6"),
        _ => None,
    }
}

/// The name of a protocol, or its number.
fn protocol_name(number: u8) -> String {
    protocol(number).map_or_else(|| number.to_string(), str::to_owned)
}

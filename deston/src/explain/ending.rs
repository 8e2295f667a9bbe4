//! A flow that has ended, as the flow log has it.

use std::net::SocketAddr;
use std::time::Duration;

use deston_common::event::{Ended, reason};
use deston_common::flow::FlowKey;
use deston_common::net::Ipv6Be;
use serde_json::{Value, json};

use super::clock::{Clock, rfc3339};
use super::{destination, protocol_name, source};

/// Why a flow ended.
fn end(number: u32) -> &'static str {
    match number {
        reason::CLOSED => "closed",
        reason::RESET => "reset",
        reason::IDLE => "idle",
        reason::DOWN => "server_down",
        reason::REOPENED => "reopened",
        reason::STOPPED => "stopped",
        _ => "unknown",
    }
}

/// The record of an ended flow. `server` is where its server stands, as SERVERS has it: with direct
/// return nothing else tells.
pub fn record(ended: &Ended, server: Option<SocketAddr>, clock: &Clock) -> Value {
    let Ended { flow, reply, opened_ns, last_seen_ns, forward_bytes, reply_bytes, .. } = ended;
    let forwarding = Seen::of(flow, reply);
    let server = match forwarding {
        Seen::Nat | Seen::Dnat => Some(source(reply)),
        Seen::DirectReturn => {
            server.map(|at| SocketAddr::new(at.ip(), flow.destination_port.to_host()))
        }
    };
    let duration = Duration::from_nanos(last_seen_ns.saturating_sub(*opened_ns));
    json!({
        "time": rfc3339(clock.wall(*last_seen_ns)),
        "event": "flow_ended",
        "protocol": protocol_name(flow.protocol),
        "client": source(flow),
        "listener": destination(flow),
        "snat": (forwarding == Seen::Nat).then(|| destination(reply)),
        "server": server,
        "bytes_sent": forward_bytes,
        "bytes_received": (forwarding != Seen::DirectReturn).then_some(reply_bytes),
        "duration_seconds": duration.as_secs_f64(),
        "end": end(ended.reason),
    })
}

/// What the two tuples of a flow tell of its forwarding.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Nat,
    Dnat,
    DirectReturn,
}

impl Seen {
    fn of(flow: &FlowKey<Ipv6Be>, reply: &FlowKey<Ipv6Be>) -> Self {
        if *reply == flow.reversed() {
            Self::DirectReturn
        } else if destination(reply) == source(flow) {
            Self::Dnat
        } else {
            Self::Nat
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use deston_common::net::{Be16, TCP};

    use super::*;

    fn at(last: u8, port: u16) -> (Ipv6Be, Be16) {
        (IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)).into(), Be16::from_host(port))
    }

    fn told(reply: FlowKey<Ipv6Be>) -> Value {
        let ended = Ended {
            reason: reason::CLOSED,
            flow: FlowKey::new(at(7, 40_000), at(1, 80), TCP),
            reply,
            opened_ns: 1_000_000_000,
            last_seen_ns: 3_500_000_000,
            forward_bytes: 100,
            reply_bytes: 2_000,
            ..Ended::default()
        };
        record(&ended, "192.0.2.12:9000".parse().ok(), &Clock::now())
    }

    #[test]
    fn a_record_tells_who_how_much_how_long_and_why() {
        let told = told(FlowKey::new(at(11, 8_080), at(2, 10_240), TCP));
        assert_eq!(
            (&told["client"], &told["listener"]),
            (&json!("192.0.2.7:40000"), &json!("192.0.2.1:80"))
        );
        assert_eq!(
            (&told["snat"], &told["server"]),
            (&json!("192.0.2.2:10240"), &json!("192.0.2.11:8080"))
        );
        assert_eq!((&told["bytes_sent"], &told["bytes_received"]), (&json!(100), &json!(2_000)));
        assert_eq!((&told["duration_seconds"], &told["end"]), (&json!(2.5), &json!("closed")));
    }

    #[test]
    fn a_flow_that_keeps_the_clients_address_has_no_snat() {
        let told = told(FlowKey::new(at(11, 8_080), at(7, 40_000), TCP));
        assert_eq!((&told["snat"], &told["server"]), (&Value::Null, &json!("192.0.2.11:8080")));
        assert_eq!(told["bytes_received"], 2_000);
    }

    #[test]
    fn of_direct_return_the_answers_are_not_known() {
        let told = told(FlowKey::new(at(1, 80), at(7, 40_000), TCP));
        assert_eq!((&told["snat"], &told["server"]), (&Value::Null, &json!("192.0.2.12:80")));
        assert_eq!(told["bytes_received"], Value::Null);
    }

    #[test]
    fn every_reason_has_a_word() {
        for number in reason::CLOSED..=reason::STOPPED {
            assert_ne!(end(number), "unknown", "{number}");
        }
        assert_eq!(end(reason::STOPPED + 1), "unknown");
    }
}

//! One traced packet, as it is told.

use std::fmt;
use std::net::SocketAddr;

use deston_common::conntrack::tcp;
use deston_common::event::Traced;
use deston_common::flow::FlowKey;
use deston_common::net::{Ipv6Be, TCP, UDP};
use deston_common::outcome::Outcome;
use serde_json::{Value, json};

use super::clock::{Clock, rfc3339};
use super::outcome::explanation;
use super::{destination, protocol_name, source};

/// One packet, with the names that its numbers stand for.
#[derive(Clone, Debug)]
pub struct Packet {
    traced: Traced,
    interface: String,
    server: Option<SocketAddr>,
    time: String,
}

impl Packet {
    /// A packet. `interface` is the one it came in by; `server` is where its server stands.
    pub fn of(
        traced: Traced,
        interface: String,
        server: Option<SocketAddr>,
        clock: &Clock,
    ) -> Self {
        Self { traced, interface, server, time: rfc3339(clock.wall(traced.at_ns)) }
    }

    fn hook(&self) -> &'static str {
        if self.traced.tc == 0 { "xdp" } else { "tc" }
    }

    fn translated(&self) -> Option<&FlowKey<Ipv6Be>> {
        Some(&self.traced.translated).filter(|key| **key != FlowKey::default())
    }

    /// For a program.
    pub fn json(&self) -> Value {
        let tuple = |key: &FlowKey<Ipv6Be>| json!({ "source": end(key, source(key)), "destination": end(key, destination(key)) });
        let outcome = Outcome::from_number(self.traced.outcome);
        json!({
            "time": self.time,
            "interface": self.interface,
            "hook": self.hook(),
            "protocol": protocol_name(self.traced.key.protocol),
            "packet": tuple(&self.traced.key),
            "tcp_flags": (self.traced.key.protocol == TCP).then(|| flags(self.traced.tcp_flags)),
            "bytes": self.traced.len,
            "translated": self.translated().map(tuple),
            "server": self.server,
            "outcome": outcome.map(Outcome::name),
            "why": outcome.map(explanation),
        })
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Traced { key, len, tcp_flags, outcome, .. } = &self.traced;
        write!(
            f,
            "{} {} {} {}",
            self.time,
            self.interface,
            self.hook(),
            protocol_name(key.protocol)
        )?;
        write!(f, " {} > {}", end(key, source(key)), end(key, destination(key)))?;
        if key.protocol == TCP {
            write!(f, " [{}]", flags(*tcp_flags))?;
        }
        write!(f, " {len} bytes")?;
        if let Some(to) = self.translated() {
            write!(f, ", as {} > {}", end(to, source(to)), end(to, destination(to)))?;
        }
        if let Some(server) = self.server {
            write!(f, ", server {server}")?;
        }
        match Outcome::from_number(*outcome) {
            Some(outcome) => write!(f, "\n    {}: {}", outcome.name(), explanation(outcome)),
            None => write!(f, "\n    outcome {outcome}: this build does not know it."),
        }
    }
}

/// An end of a tuple: with its port, if the protocol has ports.
fn end(key: &FlowKey<Ipv6Be>, address: SocketAddr) -> String {
    if key.protocol == TCP || key.protocol == UDP {
        address.to_string()
    } else {
        address.ip().to_string()
    }
}

/// TCP flags by their first letters, as tcpdump has them; `.` is ACK.
fn flags(set: u8) -> String {
    let letters = [
        (tcp::FIN, 'F'),
        (tcp::SYN, 'S'),
        (tcp::RST, 'R'),
        // PSH and URG (RFC 9293, section 3.1).
        (0x08, 'P'),
        (0x20, 'U'),
        (tcp::ACK, '.'),
    ];
    letters.iter().filter(|(flag, _)| set & flag != 0).map(|(_, letter)| letter).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use deston_common::net::{Be16, ICMP};

    use super::*;

    fn at(last: u8, port: u16) -> (Ipv6Be, Be16) {
        (IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)).into(), Be16::from_host(port))
    }

    fn packet(outcome: Outcome) -> Packet {
        let mut traced = Traced {
            outcome: outcome as u32,
            len: 60,
            key: FlowKey::new(at(7, 40_000), at(1, 80), TCP),
            tcp_flags: tcp::SYN,
            ..Traced::default()
        };
        let mut server = None;
        if outcome == Outcome::Forwarded {
            traced.translated = FlowKey::new(at(2, 10_240), at(11, 8_080), TCP);
            server = "192.0.2.11:8080".parse().ok();
        }
        Packet::of(traced, "eth0".to_owned(), server, &Clock::now())
    }

    #[test]
    fn a_line_says_what_came_in_what_left_and_why() {
        let told = packet(Outcome::Forwarded).to_string();
        let expected = " eth0 xdp tcp 192.0.2.7:40000 > 192.0.2.1:80 [S] 60 bytes, as \
                        192.0.2.2:10240 > 192.0.2.11:8080, server 192.0.2.11:8080\n    forwarded: \
                        It was sent to the server of its flow.";
        assert!(told.ends_with(expected), "{told}");
    }

    #[test]
    fn what_was_not_translated_has_no_second_tuple() {
        let told = packet(Outcome::Denied);
        assert!(told.to_string().contains("[S] 60 bytes\n    denied: Dropped: "), "{told}");
        let json = told.json();
        assert_eq!((&json["translated"], &json["server"]), (&Value::Null, &Value::Null));
        assert_eq!(json["outcome"], "denied");
        assert_eq!(json["packet"]["source"], "192.0.2.7:40000");
    }

    #[test]
    fn a_protocol_without_ports_is_told_without() {
        let mut told = packet(Outcome::IcmpUnrelated);
        told.traced.key.protocol = ICMP;
        assert!(told.to_string().contains("icmp 192.0.2.7 > 192.0.2.1 60 bytes"), "{told}");
        assert_eq!(told.json()["tcp_flags"], Value::Null);
    }

    #[test]
    fn an_outcome_of_another_build_is_told_by_its_number() {
        let mut told = packet(Outcome::Denied);
        told.traced.outcome = Outcome::COUNT;
        assert!(told.to_string().contains("does not know it"), "{told}");
    }

    #[test]
    fn flags_are_told_as_tcpdump_does() {
        assert_eq!(flags(tcp::SYN | tcp::ACK), "S.");
        assert_eq!(flags(tcp::FIN | tcp::ACK | 0x08), "FP.");
        assert_eq!(flags(0), "");
    }
}

//! One flow, as it is told.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use deston_common::conntrack::State;
use deston_common::flow::{FlowEntry, ReplyEntry, flags};
use deston_common::listener::Forwarding;
use deston_common::net::{Ipv6Be, TCP};
use serde_json::{Value, json};

use super::clock::{Clock, age};
use super::{destination, protocol_name, source};

/// How far a flow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// TCP: the server has not answered.
    Opening,
    /// TCP: the server has answered, and the client not yet that.
    Answered,
    /// TCP: the handshake is done.
    Established,
    /// TCP: one side has closed.
    Closing,
    /// TCP: both sides have closed.
    Closed,
    /// TCP: a side has reset it.
    Reset,
    /// UDP: only the client has sent.
    OneWay,
    /// UDP: both sides have sent.
    TwoWay,
}

impl Phase {
    /// Of a flow of `protocol` with these bits of `conntrack::State`.
    pub fn of(protocol: u8, state: u64) -> Self {
        let has = |bits| state & bits != 0;
        if protocol != TCP {
            return if has(State::REPLIED) { Self::TwoWay } else { Self::OneWay };
        }
        if has(State::RESET) {
            Self::Reset
        } else if has(State::FIN_FORWARD) && has(State::FIN_REPLY) {
            Self::Closed
        } else if has(State::FIN_FORWARD | State::FIN_REPLY) {
            Self::Closing
        } else if has(State::ESTABLISHED) {
            Self::Established
        } else if has(State::REPLIED) {
            Self::Answered
        } else {
            Self::Opening
        }
    }

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Answered => "answered",
            Self::Established => "established",
            Self::Closing => "closing",
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::OneWay => "one-way",
            Self::TwoWay => "two-way",
        }
    }
}

/// One flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// IP protocol number.
    pub protocol: u8,
    /// The client.
    pub client: SocketAddr,
    /// Where it connects to.
    pub listener: SocketAddr,
    /// Where the server sees it come from; `None`: from the client itself.
    pub snat: Option<SocketAddr>,
    /// The server; `None` if nobody knows any more where it was.
    pub server: Option<SocketAddr>,
    /// How far it is.
    pub phase: Phase,
    /// Since it began.
    pub age: Duration,
    /// Since either side sent something.
    pub idle: Duration,
    /// Bytes of the client's IP packets.
    pub sent: u64,
    /// Bytes of the server's IP packets; `None` if they are not seen.
    pub received: Option<u64>,
}

impl Flow {
    /// A flow by its entries. `server` is where its server stands, as SERVERS has it.
    pub fn of(
        entry: &FlowEntry<Ipv6Be>,
        reply: Option<&ReplyEntry<Ipv6Be>>,
        server: Option<SocketAddr>,
        clock: &Clock,
    ) -> Self {
        let forwarding = Forwarding::from_number((entry.flags & flags::FORWARDING) as u8);
        let (snat, server) = match forwarding {
            Forwarding::Nat => (Some(destination(&entry.reply)), Some(source(&entry.reply))),
            Forwarding::Dnat => (None, Some(source(&entry.reply))),
            // The packet keeps its port.
            Forwarding::DsrL2 | Forwarding::DsrIpip => {
                let port = entry.key.destination_port.to_host();
                (None, server.map(|server| SocketAddr::new(server.ip(), port)))
            }
        };
        let last = reply.map_or(0, |reply| reply.last_seen_ns).max(entry.last_seen_ns);
        Self {
            protocol: entry.key.protocol,
            client: source(&entry.key),
            listener: destination(&entry.key),
            snat,
            server,
            phase: Phase::of(entry.key.protocol, entry.state),
            age: clock.since(entry.opened_ns),
            idle: clock.since(last),
            sent: entry.bytes,
            received: reply.map(|reply| reply.bytes),
        }
    }

    /// What stands above the lines.
    pub fn heading() -> String {
        columns(["proto", "client", "listener", "snat", "server", "state", "age", "idle", "sent"])
            + "received"
    }

    /// For a program.
    pub fn json(&self) -> Value {
        json!({
            "protocol": protocol_name(self.protocol),
            "client": self.client,
            "listener": self.listener,
            "snat": self.snat,
            "server": self.server,
            "state": self.phase.name(),
            "age_seconds": self.age.as_secs_f64(),
            "idle_seconds": self.idle.as_secs_f64(),
            "bytes_sent": self.sent,
            "bytes_received": self.received,
        })
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = |address: Option<SocketAddr>| or_dash(address.map(|it| it.to_string()));
        let line = columns([
            &protocol_name(self.protocol),
            &self.client.to_string(),
            &self.listener.to_string(),
            &known(self.snat),
            &known(self.server),
            self.phase.name(),
            &age(self.age),
            &age(self.idle),
            &self.sent.to_string(),
        ]);
        write!(f, "{line}{}", or_dash(self.received.map(|bytes| bytes.to_string())))
    }
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

/// The columns that are followed by another: an IPv4 address with its port fits.
fn columns(texts: [&str; 9]) -> String {
    let widths = [5, 21, 21, 21, 21, 11, 7, 7, 10];
    let cells = texts.iter().zip(widths).map(|(text, width)| format!("{text:<width$} "));
    cells.collect()
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use deston_common::flow::FlowKey;
    use deston_common::net::{Be16, UDP};

    use super::*;

    fn at(last: u8, port: u16) -> (Ipv6Be, Be16) {
        (IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)).into(), Be16::from_host(port))
    }

    fn entry(forwarding: Forwarding) -> FlowEntry<Ipv6Be> {
        FlowEntry {
            key: FlowKey::new(at(7, 40_000), at(1, 80), TCP),
            reply: FlowKey::new(at(11, 8_080), at(2, 10_240), TCP),
            state: State::REPLIED | State::ESTABLISHED,
            flags: forwarding as u16,
            bytes: 1_500,
            ..FlowEntry::default()
        }
    }

    fn told(forwarding: Forwarding) -> Flow {
        let server = "192.0.2.12:9000".parse().ok();
        Flow::of(&entry(forwarding), None, server, &Clock::now())
    }

    #[test]
    fn where_a_server_sees_the_client_depends_on_the_forwarding() {
        let address = |text: &str| Some(text.parse().unwrap());
        let nat = told(Forwarding::Nat);
        assert_eq!(
            (nat.snat, nat.server),
            (address("192.0.2.2:10240"), address("192.0.2.11:8080"))
        );
        let dnat = told(Forwarding::Dnat);
        assert_eq!((dnat.snat, dnat.server), (None, address("192.0.2.11:8080")));
        let dsr = told(Forwarding::DsrL2);
        assert_eq!((dsr.snat, dsr.server), (None, address("192.0.2.12:80")));
    }

    #[test]
    fn phases_follow_the_bits_of_the_state() {
        let table = [
            (TCP, 0, Phase::Opening),
            (TCP, State::REPLIED, Phase::Answered),
            (TCP, State::REPLIED | State::ESTABLISHED, Phase::Established),
            (TCP, State::ESTABLISHED | State::FIN_REPLY, Phase::Closing),
            (TCP, State::ESTABLISHED | State::FIN_REPLY | State::FIN_FORWARD, Phase::Closed),
            (TCP, State::ESTABLISHED | State::RESET, Phase::Reset),
            (UDP, 0, Phase::OneWay),
            (UDP, State::REPLIED, Phase::TwoWay),
        ];
        for (protocol, state, phase) in table {
            assert_eq!(Phase::of(protocol, state), phase);
        }
    }

    #[test]
    fn a_line_has_a_column_for_each_heading() {
        let line = told(Forwarding::Dnat).to_string();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words.len(), Flow::heading().split_whitespace().count());
        assert_eq!(words[..3], ["tcp", "192.0.2.7:40000", "192.0.2.1:80"]);
        assert_eq!((words[3], words[9]), ("-", "-"));
    }

    #[test]
    fn a_program_is_told_the_same() {
        let told = told(Forwarding::Nat).json();
        assert_eq!(told["client"], "192.0.2.7:40000");
        assert_eq!(told["snat"], "192.0.2.2:10240");
        assert_eq!((&told["bytes_sent"], &told["bytes_received"]), (&json!(1_500), &Value::Null));
    }
}

//! What the programs have counted: packets of each outcome, flows of each server.

use std::fmt;
use std::net::SocketAddr;

use deston_common::event::lost;
use deston_common::limits::MAX_SERVERS;
use deston_common::outcome::Outcome;
use deston_common::server::{Load, ServerEntry, ServerId, ServerState};
use serde_json::{Map, Value, json};

use super::flows::address;
use super::outcome::explanation;
use crate::datapath::{KernelError, Maps, PortUse, port_use};

/// The counts of an instance since its maps were made.
#[derive(Clone, Debug)]
pub struct Counts {
    /// Packets of each outcome.
    pub outcomes: Vec<(Outcome, u64)>,
    /// Each server.
    pub servers: Vec<ServerCounts>,
    /// Ended flows that were not logged, since the ring had no room.
    pub lost_flows: u64,
}

/// The counts of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerCounts {
    /// Where it stands.
    pub address: SocketAddr,
    /// How the programs know it.
    pub id: ServerId,
    state: &'static str,
    is_reachable: bool,
    limit: u32,
    load: Load,
    /// Of one that gets no new flow by `nat`: `None`.
    ports: Option<PortUse>,
}

impl Counts {
    /// Reads them.
    pub fn read(maps: &Maps) -> Result<Self, KernelError> {
        let (mut servers, ports) = (Vec::new(), port_use(maps)?);
        for id in (1..MAX_SERVERS).filter_map(|id| u16::try_from(id).ok()).map(ServerId) {
            let entry = maps.server(id)?;
            if entry.state != 0 {
                let ports = ports.get(&id).copied();
                servers.push(ServerCounts::of(id, &entry, maps.load_of(id)?, ports));
            }
        }
        Ok(Self {
            outcomes: Outcome::ALL.into_iter().zip(maps.outcomes()?).collect(),
            servers,
            lost_flows: maps.lost(lost::EVENTS)?,
        })
    }

    /// For a program.
    pub fn json(&self) -> Value {
        let outcomes: Map<String, Value> = self
            .outcomes
            .iter()
            .map(|(outcome, packets)| (outcome.name().to_owned(), json!(packets)))
            .collect();
        let servers: Vec<Value> = self.servers.iter().map(ServerCounts::json).collect();
        json!({ "outcomes": outcomes, "servers": servers, "flows_not_logged": self.lost_flows })
    }
}

impl ServerCounts {
    fn of(id: ServerId, entry: &ServerEntry, load: Load, ports: Option<PortUse>) -> Self {
        Self {
            address: address(entry),
            id,
            state: state(entry.state),
            is_reachable: entry.reachable == 1,
            limit: entry.max_connections,
            load,
            ports,
        }
    }

    fn json(&self) -> Value {
        json!({
            "server": self.address,
            "id": self.id.0,
            "state": self.state,
            "next_hop_known": self.is_reachable,
            "in_use": self.load.in_use,
            "max_connections": self.limit,
            "entries": self.load.entries,
            "opened": self.load.opened,
            "unanswered": self.load.unanswered,
            "refused": self.load.refused,
            "snat_ports": self.ports.map(|ports| {
                json!({ "used": ports.used, "available": ports.available })
            }),
        })
    }
}

fn state(number: u8) -> &'static str {
    let is = |state: ServerState| number == state as u8;
    if is(ServerState::Active) {
        "active"
    } else if is(ServerState::Draining) {
        "draining"
    } else if is(ServerState::Down) {
        "down"
    } else {
        "unknown"
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>14}  outcome", "packets")?;
        for (outcome, packets) in &self.outcomes {
            writeln!(f, "{packets:>14}  {:<17} {}", outcome.name(), explanation(*outcome))?;
        }
        writeln!(
            f,
            "\n{:<21} {:<9} {:<9} {:>8} {:>8} {:>10} {:>11} {:>8} {:>15}",
            "server",
            "state",
            "next hop",
            "in use",
            "limit",
            "opened",
            "unanswered",
            "refused",
            "SNAT ports"
        )?;
        for server in &self.servers {
            let hop = if server.is_reachable { "known" } else { "unknown" };
            let ports = server.ports.map(|ports| format!("{}/{}", ports.used, ports.available));
            writeln!(
                f,
                "{:<21} {:<9} {hop:<9} {:>8} {:>8} {:>10} {:>11} {:>8} {:>15}",
                server.address.to_string(),
                server.state,
                server.load.in_use,
                server.limit,
                server.load.opened,
                server.load.unanswered,
                server.load.refused,
                ports.as_deref().unwrap_or("-")
            )?;
        }
        if self.lost_flows > 0 {
            writeln!(f, "\n{} ended flows found no room on their way to the log", self.lost_flows)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use deston_common::net::Be16;

    use super::*;

    fn counts(ports: Option<PortUse>) -> Counts {
        let entry = ServerEntry {
            address: std::net::IpAddr::from([203, 0, 113, 9]).into(),
            port: Be16::from_host(80),
            state: ServerState::Draining as u8,
            max_connections: 100,
            ..ServerEntry::default()
        };
        let load = Load { in_use: 3, opened: 7, unanswered: 1, ..Load::default() };
        Counts {
            outcomes: Outcome::ALL.into_iter().map(|outcome| (outcome, outcome as u64)).collect(),
            servers: vec![ServerCounts::of(ServerId(4), &entry, load, ports)],
            lost_flows: 0,
        }
    }

    #[test]
    fn every_outcome_is_told_even_if_it_never_was() {
        let (text, json) = (counts(None).to_string(), counts(None).json());
        for outcome in Outcome::ALL {
            assert!(text.lines().any(|line| line.contains(&format!("  {} ", outcome.name()))));
            assert_eq!(json["outcomes"][outcome.name()], outcome as u64);
        }
    }

    #[test]
    fn a_server_is_told_with_its_state_and_counts() {
        let text = counts(None).to_string();
        let line = text.lines().find(|line| line.starts_with("203.0.113.9:80")).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[1..], ["draining", "unknown", "3", "100", "7", "1", "0", "-"]);
        let json = counts(None).json();
        let server = &json["servers"][0];
        assert_eq!((&server["server"], &server["opened"]), (&json!("203.0.113.9:80"), &json!(7)));
        assert_eq!(server["snat_ports"], Value::Null);
    }

    #[test]
    fn ports_are_told_with_those_that_there_are() {
        let counts = counts(Some(PortUse { used: 5, available: 22_528 }));
        assert!(counts.to_string().lines().any(|line| line.ends_with(" 5/22528")), "{counts}");
        let ports = &counts.json()["servers"][0]["snat_ports"];
        assert_eq!(*ports, json!({ "used": 5, "available": 22_528 }));
    }
}

//! Elements of hash tables as a reader may find them: the kernel gives a removed element to another
//! key while somebody still looks at it.

use super::contents::Map;
use super::{Connection, Family, Lab};

/// A table of flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// FLOWS.
    Flows,
    /// REPLIES.
    Replies,
    /// HALF_FLOWS.
    HalfFlows,
    /// HALF_REPLIES.
    HalfReplies,
}

/// Writes what the table has of one flow where it had another's.
#[track_caller]
pub fn recycle(lab: &Lab, table: Table, of: &Connection, over: &Connection) {
    let name = match (table, lab.setting.family) {
        (Table::Flows, Family::V4) => "FLOWS4",
        (Table::Flows, Family::V6) => "FLOWS6",
        (Table::Replies, Family::V4) => "REPLIES4",
        (Table::Replies, Family::V6) => "REPLIES6",
        (Table::HalfFlows, Family::V4) => "HALF_FLOWS4",
        (Table::HalfFlows, Family::V6) => "HALF_FLOWS6",
        (Table::HalfReplies, Family::V4) => "HALF_REPLIES4",
        (Table::HalfReplies, Family::V6) => "HALF_REPLIES6",
    };
    let key = |connection: &Connection| match table {
        Table::Flows | Table::HalfFlows => {
            key(connection.client, connection.listener, connection.protocol)
        }
        Table::Replies | Table::HalfReplies => {
            key(connection.server, connection.source, connection.protocol)
        }
    };
    let ids = lab.kernel.map_ids().unwrap();
    let map = Map::named(&ids, name).unwrap_or_else(|| panic!("no map {name}"));
    let value = map.get(&mut key(of)).expect("the flow's entry");
    map.put(&mut key(over), &value).expect("an element for it");
}

/// A flow key's bytes.
fn key(from: std::net::SocketAddr, to: std::net::SocketAddr, protocol: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    for end in [from, to] {
        match end.ip() {
            std::net::IpAddr::V4(v4) => bytes.extend(v4.octets()),
            std::net::IpAddr::V6(v6) => bytes.extend(v6.octets()),
        }
    }
    bytes.extend(from.port().to_be_bytes());
    bytes.extend(to.port().to_be_bytes());
    bytes.extend([protocol, 0, 0, 0]);
    bytes
}

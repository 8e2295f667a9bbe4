//! What is told of a flow: a line of `deston flows --json`, and one of the flow log.

use std::net::SocketAddr;

use serde_json::Value;

/// A flow that `deston flows` lists.
#[derive(Clone, Debug)]
pub struct ListedFlow {
    /// Who opened it.
    pub client: SocketAddr,
    /// Who has it.
    pub server: SocketAddr,
    /// How far it is.
    pub state: String,
    /// Since either side sent something, seconds.
    pub idle: f64,
}

impl ListedFlow {
    pub(super) fn of(line: &str) -> Self {
        let value: Value = serde_json::from_str(line).expect(line);
        Self {
            client: address(&value["client"]).expect(line),
            server: address(&value["server"]).expect(line),
            state: value["state"].as_str().expect(line).to_owned(),
            idle: value["idle_seconds"].as_f64().expect(line),
        }
    }
}

/// A flow that the flow log says has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct EndedFlow {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Who opened it.
    pub client: SocketAddr,
    /// Where the client sent to.
    pub listener: SocketAddr,
    /// Where the server saw it come from, if not from the client.
    pub snat: Option<SocketAddr>,
    /// Who had it.
    pub server: SocketAddr,
    /// Bytes of the client's IP packets.
    pub sent: u64,
    /// Bytes of the server's, if they are seen.
    pub received: Option<u64>,
    /// From the first packet to the last, seconds.
    pub duration: f64,
    /// Why it ended.
    pub end: String,
}

impl EndedFlow {
    pub(super) fn of(line: &str) -> Self {
        let value: Value = serde_json::from_str(line).expect(line);
        assert_eq!(value["event"], "flow_ended", "{line}");
        let text = |key: &str| value[key].as_str().expect(line).to_owned();
        Self {
            protocol: text("protocol"),
            client: address(&value["client"]).expect(line),
            listener: address(&value["listener"]).expect(line),
            snat: address(&value["snat"]),
            server: address(&value["server"]).expect(line),
            sent: value["bytes_sent"].as_u64().expect(line),
            received: value["bytes_received"].as_u64(),
            duration: value["duration_seconds"].as_f64().expect(line),
            end: text("end"),
        }
    }
}

fn address(value: &Value) -> Option<SocketAddr> {
    value.as_str().map(|text| text.parse().unwrap())
}

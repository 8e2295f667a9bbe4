//! What a lab's maps hold: flows, loads, counters.

use deston_common::conntrack::State;
use deston_common::flow::{FlowEntry, ReplyEntry};
use deston_common::net::Ipv6Be;
use deston_common::outcome::Outcome;
use deston_common::server::{Load, ServerId};

use super::{Connection, Lab};

/// How many entries the four tables of flows have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Entries {
    /// FLOWS.
    pub flows: usize,
    /// REPLIES.
    pub replies: usize,
    /// HALF_FLOWS.
    pub half_flows: usize,
    /// HALF_REPLIES.
    pub half_replies: usize,
}

impl Entries {
    /// So many half-open flows, each with both entries.
    pub fn half_open(count: usize) -> Self {
        Self { half_flows: count, half_replies: count, ..Self::default() }
    }

    /// So many promoted flows, each with both entries.
    pub fn promoted(count: usize) -> Self {
        Self { flows: count, replies: count, ..Self::default() }
    }
}

impl Lab {
    /// Asserts the outcomes since the last call: these, and no others.
    #[track_caller]
    pub fn assert_outcomes(&mut self, expected: &[(Outcome, u64)]) {
        let now = self.kernel.outcomes().unwrap();
        let seen: Vec<(Outcome, u64)> = Outcome::ALL
            .into_iter()
            .zip(now.iter().zip(self.counted).map(|(now, before)| now - before))
            .filter(|(_, delta)| *delta > 0)
            .collect();
        self.counted = now;
        let mut expected = expected.to_vec();
        expected.sort();
        assert_eq!(seen, expected, "outcomes");
    }

    /// The outcomes since the last call.
    pub fn outcomes(&mut self) -> Vec<(Outcome, u64)> {
        let now = self.kernel.outcomes().unwrap();
        let deltas = now.iter().zip(self.counted).map(|(now, before)| now - before);
        let seen = Outcome::ALL.into_iter().zip(deltas).filter(|(_, delta)| *delta > 0).collect();
        self.counted = now;
        seen
    }

    /// Asserts how many entries the tables of flows have.
    #[track_caller]
    pub fn assert_entries(&self, expected: Entries) {
        let seen = Entries {
            flows: self.kernel.flows().count(),
            replies: self.kernel.replies().unwrap().len(),
            half_flows: self.kernel.half_flows().count(),
            half_replies: self.kernel.half_replies().unwrap().len(),
        };
        assert_eq!(seen, expected, "entries");
    }

    /// The promoted flow of a connection.
    pub fn flow(&self, connection: &Connection) -> Option<FlowEntry<Ipv6Be>> {
        self.kernel.flows().find(|flow| flow.key == connection.key())
    }

    /// The half-open flow of a connection.
    pub fn half_flow(&self, connection: &Connection) -> Option<FlowEntry<Ipv6Be>> {
        self.kernel.half_flows().find(|flow| flow.key == connection.key())
    }

    /// The reply entry of a promoted flow.
    pub fn reply(&self, connection: &Connection) -> Option<ReplyEntry<Ipv6Be>> {
        self.kernel.reply(&connection.reply_key())
    }

    /// The reply entry of a half-open flow.
    pub fn half_reply(&self, connection: &Connection) -> Option<ReplyEntry<Ipv6Be>> {
        self.kernel.half_reply(&connection.reply_key())
    }

    /// Whether the flow is promoted; it is half open or promoted, never both.
    #[track_caller]
    pub fn is_promoted(&self, connection: &Connection) -> bool {
        let (promoted, half) = (self.flow(connection), self.half_flow(connection));
        assert!(promoted.is_some() != half.is_some(), "{promoted:?} and {half:?}");
        promoted.is_some()
    }

    /// State bits of a promoted flow.
    #[track_caller]
    pub fn state_of(&self, connection: &Connection) -> State {
        State(self.flow(connection).expect("a promoted flow").state)
    }

    /// What is counted of a server.
    pub fn load(&self, n: u16) -> Load {
        self.kernel.load_of(ServerId(n)).unwrap()
    }

    /// Flows that count against a server.
    pub fn in_use(&self, n: u16) -> u64 {
        self.load(n).in_use
    }
}

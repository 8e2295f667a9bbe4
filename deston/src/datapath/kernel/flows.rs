//! Reading flows.

use deston_common::flow::{FlowEntry, FlowKey, ReplyEntry};
use deston_common::net::Ipv6Be;

use super::error::map;
use super::family::{is_v4, narrow_key, widen_flow, widen_reply};
use super::{KernelError, Maps};

impl Maps {
    /// All promoted flows, as they stand while they are read.
    pub fn flows(&self) -> impl Iterator<Item = FlowEntry<Ipv6Be>> + '_ {
        self.try_flows().filter_map(Result::ok)
    }

    /// The same, and an error if they are not all.
    pub fn try_flows(&self) -> impl Iterator<Item = Result<FlowEntry<Ipv6Be>, KernelError>> + '_ {
        let v4 = self.v4.flows.entries().map(|entry| entry.map(widen_flow).map_err(map("FLOWS4")));
        let v6 = self.v6.flows.entries().map(|entry| entry.map(widen_flow).map_err(map("FLOWS6")));
        v4.chain(v6)
    }

    /// All half-open flows, as they stand while they are read.
    pub fn half_flows(&self) -> impl Iterator<Item = FlowEntry<Ipv6Be>> + '_ {
        let v4 = self.v4.half_flows.entries().filter_map(|entry| entry.ok().map(widen_flow));
        let v6 = self.v6.half_flows.entries().filter_map(|entry| entry.ok().map(widen_flow));
        v4.chain(v6)
    }

    /// The reply entry of a promoted flow.
    pub fn reply(&self, key: &FlowKey<Ipv6Be>) -> Option<ReplyEntry<Ipv6Be>> {
        if is_v4(key) {
            self.v4.replies.map.get(&narrow_key(key), 0).ok().map(widen_reply)
        } else {
            self.v6.replies.map.get(&narrow_key(key), 0).ok().map(widen_reply)
        }
    }

    /// The reply entry of a half-open flow.
    pub fn half_reply(&self, key: &FlowKey<Ipv6Be>) -> Option<ReplyEntry<Ipv6Be>> {
        if is_v4(key) {
            self.v4.half_replies.map.get(&narrow_key(key), 0).ok().map(widen_reply)
        } else {
            self.v6.half_replies.map.get(&narrow_key(key), 0).ok().map(widen_reply)
        }
    }
}

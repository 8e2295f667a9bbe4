//! Reading flows.

use deston_common::flow::{FlowEntry, FlowKey, ReplyEntry};
use deston_common::net::Ipv6Be;

use super::Kernel;
use super::family::{is_v4, narrow_key, widen_flow, widen_reply};

impl Kernel {
    /// All promoted flows, as they stand while they are read.
    pub fn flows(&self) -> impl Iterator<Item = FlowEntry<Ipv6Be>> + '_ {
        let v4 =
            self.v4.flows.iter().filter_map(|entry| entry.ok().map(|(_, flow)| widen_flow(flow)));
        let v6 =
            self.v6.flows.iter().filter_map(|entry| entry.ok().map(|(_, flow)| widen_flow(flow)));
        v4.chain(v6)
    }

    /// All half-open flows, as they stand while they are read.
    pub fn half_flows(&self) -> impl Iterator<Item = FlowEntry<Ipv6Be>> + '_ {
        let (v4, v6) = (&self.v4.half_flows, &self.v6.half_flows);
        let v4 = v4.iter().filter_map(|entry| entry.ok().map(|(_, flow)| widen_flow(flow)));
        let v6 = v6.iter().filter_map(|entry| entry.ok().map(|(_, flow)| widen_flow(flow)));
        v4.chain(v6)
    }

    /// The reply entry of a promoted flow.
    pub fn reply(&self, key: &FlowKey<Ipv6Be>) -> Option<ReplyEntry<Ipv6Be>> {
        if is_v4(key) {
            self.v4.replies.get(&narrow_key(key), 0).ok().map(widen_reply)
        } else {
            self.v6.replies.get(&narrow_key(key), 0).ok().map(widen_reply)
        }
    }

    /// The reply entry of a half-open flow.
    pub fn half_reply(&self, key: &FlowKey<Ipv6Be>) -> Option<ReplyEntry<Ipv6Be>> {
        if is_v4(key) {
            self.v4.half_replies.get(&narrow_key(key), 0).ok().map(widen_reply)
        } else {
            self.v6.half_replies.get(&narrow_key(key), 0).ok().map(widen_reply)
        }
    }
}

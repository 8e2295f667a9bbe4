//! Ending idle flows: the process finds them, the kernel ends them.

use std::time::Duration;

use aya::programs::{TestRun, TestRunOptions};
use deston_common::conntrack::State;
use deston_common::flow::{ExpireRequest, FlowEntry, FlowKey};
use deston_common::limits::EXPIRE_BATCH;
use deston_common::net::{Ipv4Be, Ipv6Be};

use super::error::program;
use super::family::{Wire, is_v4, narrow_key};
use super::{EXPIRE4, EXPIRE6, Kernel, KernelError, xdp};
use crate::model::nanoseconds;

/// What one sweep saw and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Flows there were.
    pub seen: usize,
    /// Flows that had been idle too long.
    pub idle: usize,
}

impl Kernel {
    /// Ends the promoted flows that have been idle for longer than their limit, at `now` on
    /// CLOCK_MONOTONIC. `is_over` is asked about every flow and may end one before its time.
    pub fn expire(
        &self,
        now: Duration,
        mut is_over: impl FnMut(&FlowEntry<Ipv6Be>) -> bool,
    ) -> Result<Swept, KernelError> {
        let now = nanoseconds(now);
        let mut swept = Swept::default();
        let [mut v4, mut v6] = [const { Vec::new() }; 2];
        for flow in self.try_flows() {
            let flow = flow?;
            swept.seen += 1;
            let is_over = is_over(&flow);
            let idle = |since: u64| now.saturating_sub(since) > flow.idle_limit_ns;
            if !is_over && !idle(flow.last_seen_ns) {
                continue;
            }
            let reply_seen_ns = self.reply(&flow.reply).map_or(0, |reply| reply.last_seen_ns);
            let is_kept = State(flow.state).is_kept_by_replies(flow.key.protocol);
            if is_over || !is_kept || idle(reply_seen_ns) {
                let request =
                    ExpireRequest { key: flow.key, flow_seen_ns: flow.last_seen_ns, reply_seen_ns };
                if is_v4(&flow.key) { v4.push(request) } else { v6.push(request) }
            }
        }
        swept.idle = v4.len() + v6.len();
        self.end_if_still(&v4)?;
        self.end_if_still(&v6)?;
        Ok(swept)
    }

    /// Ends those flows, all of one family, that nothing has moved since they were read.
    pub fn end_if_still(&self, requests: &[ExpireRequest<Ipv6Be>]) -> Result<(), KernelError> {
        for batch in requests.chunks(EXPIRE_BATCH) {
            let is_v4 = batch.first().is_some_and(|request| is_v4(&request.key));
            let (name, packet): (_, Vec<u8>) = if is_v4 {
                (EXPIRE4, batch.iter().flat_map(bytes::<Ipv4Be>).collect())
            } else {
                (EXPIRE6, batch.iter().flat_map(bytes::<Ipv6Be>).collect())
            };
            let options = TestRunOptions { data_in: Some(&packet), ..TestRunOptions::new() };
            xdp(&self.ebpf, name)?.test_run(options).map_err(program(name))?;
        }
        Ok(())
    }
}

/// A request as the kernel reads it.
fn bytes<A: Wire>(request: &ExpireRequest<Ipv6Be>) -> Vec<u8> {
    let key: FlowKey<A> = narrow_key(&request.key);
    let mut bytes = key.source.bytes().as_ref().to_vec();
    bytes.extend(key.destination.bytes().as_ref());
    bytes.extend(key.source_port.word().to_ne_bytes());
    bytes.extend(key.destination_port.word().to_ne_bytes());
    bytes.extend([key.protocol, key.pad]);
    bytes.extend(key.pad2.to_ne_bytes());
    bytes.extend(request.flow_seen_ns.to_ne_bytes());
    bytes.extend(request.reply_seen_ns.to_ne_bytes());
    bytes
}

//! Ending idle flows: the process finds them, the kernel ends them.

use std::time::Duration;

use aya::programs::{TestRun, TestRunOptions};
use deston_common::conntrack::State;
use deston_common::flow::{ExpireRequest, FlowEntry};
use deston_common::limits::EXPIRE_BATCH;
use deston_common::listener::{FlowTimeouts, ListenerKey};

use super::kernel::{EXPIRE, Kernel, KernelError, program};

/// What one sweep saw and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Flows there were.
    pub seen: usize,
    /// Flows that had been idle too long.
    pub idle: usize,
}

impl Kernel {
    /// Ends the flows that have been idle for longer than their listener's timeouts, at `now` on
    /// CLOCK_MONOTONIC. A flow whose listener `timeouts` does not know is ended.
    pub fn expire(
        &self,
        now: Duration,
        timeouts: impl Fn(&ListenerKey) -> Option<FlowTimeouts>,
    ) -> Result<Swept, KernelError> {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let mut swept = Swept::default();
        let mut requests = Vec::new();
        for flow in self.flows() {
            swept.seen += 1;
            let reply_seen = self.reply(&flow.reply).map_or(0, |reply| reply.last_seen_ns);
            let state = State(flow.state);
            let protocol = flow.key.protocol;
            let kept = if state.is_kept_by_replies(protocol) { reply_seen } else { 0 };
            let idle = now.saturating_sub(flow.last_seen_ns.max(kept));
            let limit =
                timeouts(&listener_of(&flow)).map(|timeouts| state.timeout_ns(protocol, &timeouts));
            if limit.is_none_or(|limit| idle > limit) {
                requests.push(ExpireRequest {
                    key: flow.key,
                    flow_seen_ns: flow.last_seen_ns,
                    reply_seen_ns: reply_seen,
                });
            }
        }
        swept.idle = requests.len();
        for batch in requests.chunks(EXPIRE_BATCH) {
            self.end_if_still(batch)?;
        }
        Ok(swept)
    }

    /// Ends those of at most `EXPIRE_BATCH` flows that nothing has moved since they were read.
    pub fn end_if_still(&self, batch: &[ExpireRequest]) -> Result<(), KernelError> {
        let packet: Vec<u8> = batch.iter().flat_map(bytes).collect();
        let options = TestRunOptions { data_in: Some(&packet), ..TestRunOptions::new() };
        program(&self.ebpf, EXPIRE)?
            .test_run(options)
            .map_err(|source| KernelError::Program { name: EXPIRE, source })?;
        Ok(())
    }
}

/// The listener a flow belongs to.
pub(super) fn listener_of(flow: &FlowEntry) -> ListenerKey {
    ListenerKey {
        address: flow.key.destination,
        port: flow.key.destination_port,
        protocol: flow.key.protocol,
        pad: 0,
    }
}

/// A request as the kernel reads it.
fn bytes(request: &ExpireRequest) -> [u8; 32] {
    let key = &request.key;
    let mut bytes = [0; 32];
    let fields = key
        .source
        .octets()
        .into_iter()
        .chain(key.destination.octets())
        .chain(key.source_port.word().to_ne_bytes())
        .chain(key.destination_port.word().to_ne_bytes())
        .chain([key.protocol])
        .chain([key.pad])
        .chain(key.pad2.to_ne_bytes())
        .chain(request.flow_seen_ns.to_ne_bytes())
        .chain(request.reply_seen_ns.to_ne_bytes());
    for (place, byte) in bytes.iter_mut().zip(fields) {
        *place = byte;
    }
    bytes
}

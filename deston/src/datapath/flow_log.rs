//! Hearing of flows that have ended, on a thread of its own: the datapath's may end thousands in one
//! sweep, and whoever writes them down may be slow. What finds no room meanwhile is counted, and told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use deston_common::event::{Ended, reason};
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};

use super::balancer::DatapathError;
use super::kernel::{EndedFlows, Kernel};

/// What is done with an ended flow, and where its server stands.
pub type OnEnded = Box<dyn FnMut(&Ended, Option<SocketAddr>) + Send>;

/// How often it is looked whether flows found no room.
const LOOK: Duration = Duration::from_secs(5);

/// The thread. Dropped, it tells what is left and ends.
pub(super) struct FlowLog {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: Notify,
    is_stopping: AtomicBool,
}

impl FlowLog {
    /// Starts to hear of flows.
    pub(super) fn start(kernel: &mut Kernel, on_ended: OnEnded) -> Result<Self, DatapathError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(DatapathError::Thread)?;
        let ended = {
            let _inside = runtime.enter();
            kernel.take_events().map_err(DatapathError::Thread)?.ok_or(DatapathError::Gone)?
        };
        let shared = Arc::new(Shared::default());
        let told = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("deston-flow-log".to_owned())
            .spawn(move || runtime.block_on(hear(ended, on_ended, &told)))
            .map_err(DatapathError::Thread)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// The datapath stops: flows that end from here on do so for that.
    pub(super) fn stopping(&self) {
        self.shared.is_stopping.store(true, Ordering::Release);
    }
}

impl Drop for FlowLog {
    fn drop(&mut self) {
        self.shared.stop.notify_one();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the flow log's thread had panicked");
        }
    }
}

async fn hear(mut flows: EndedFlows, mut on_ended: OnEnded, shared: &Shared) {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = flows.lost().unwrap_or(0);
    loop {
        tokio::select! {
            // What waits in the ring is told before the end.
            biased;
            _ = look.tick() => told = tell_lost(&flows, told),
            ended = flows.next() => match ended {
                Ok(ended) => {
                    let ended = as_it_was(ended, shared.is_stopping.load(Ordering::Acquire));
                    let server = flows.server(ended.server).ok().filter(|entry| entry.state != 0);
                    let server = server
                        .map(|entry| SocketAddr::new(entry.address.into(), entry.port.to_host()));
                    on_ended(&ended, server);
                }
                Err(error) => {
                    tracing::error!(%error, "the flow log has ended: its events cannot be read");
                    return;
                }
            },
            () = shared.stop.notified() => break,
        }
    }
    tell_lost(&flows, told);
}

/// An ended flow with the reason that the programs could not know.
fn as_it_was(ended: Ended, is_stopping: bool) -> Ended {
    let reason =
        if is_stopping && ended.reason == reason::IDLE { reason::STOPPED } else { ended.reason };
    Ended { reason, ..ended }
}

/// Warns of flows that found no room since `told` of them; returns how many there are.
fn tell_lost(flows: &EndedFlows, told: u64) -> u64 {
    let Ok(lost) = flows.lost() else { return told };
    if lost > told {
        tracing::warn!(
            flows = lost - told,
            "flows ended faster than they could be logged, and are missing from the flow log: \
             lower `[log] sample`, or read the standard output faster"
        );
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_when_the_datapath_stops_did_not_fall_silent() {
        let ended = |reason| Ended { reason, ..Ended::default() };
        for (reason, is_stopping, told) in [
            (reason::IDLE, true, reason::STOPPED),
            (reason::CLOSED, true, reason::CLOSED),
            (reason::IDLE, false, reason::IDLE),
        ] {
            assert_eq!(as_it_was(ended(reason), is_stopping).reason, told);
        }
    }
}

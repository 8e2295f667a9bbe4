//! Layer 4 UDP: a worker's end of one UDP listener.
//!
//! The kernel gives a client's datagrams to one worker, by the hash of their addresses, and the
//! worker keeps a flow for each client: a socket connected to the client's server. A datagram that
//! cannot be carried is lost, as datagrams are; nothing a client or server sends ends the listener.

mod downstream;
mod flow;
mod flows;

use std::io;
use std::net::UdpSocket;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use self::downstream::Downstream;
use self::flows::Flows;
use super::listen::Taken;
use super::worker::Worker;
use crate::live;

/// Between two looks for flows that are over.
const SWEEP: Duration = Duration::from_secs(1);

/// Datagrams received before other tasks get their turn.
const BATCH: usize = 32;

/// After an error of the listening socket, which may repeat.
const PAUSE: Duration = Duration::from_millis(10);

/// Carries datagrams until `stop`; flows end with it.
pub(super) async fn run(
    socket: UdpSocket,
    taken: Arc<Taken>,
    listener: Arc<live::Listener>,
    worker: Rc<Worker>,
    mut stop: oneshot::Receiver<()>,
) {
    let downstream = match Downstream::new(socket, taken) {
        Ok(downstream) => Rc::new(downstream),
        Err(error) => {
            tracing::error!(listener = listener.serving().listener.name, %error, "cannot receive");
            return;
        }
    };
    let mut sweep = interval(SWEEP);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut flows = Flows::new(Rc::clone(&downstream), listener, Rc::clone(&worker));
    loop {
        let received = tokio::select! {
            biased;
            _ = &mut stop => return,
            _ = sweep.tick() => {
                flows.sweep(Instant::now());
                continue;
            }
            ready = downstream.readable() => ready.and_then(|()| receive(&downstream, &worker, &mut flows)),
        };
        match received {
            Ok(()) => tokio::task::yield_now().await,
            Err(error) => {
                if let Some(untold) = worker.notices.exhausted.due() {
                    tracing::warn!(%error, untold, "receiving datagrams failed");
                }
                sleep(PAUSE).await;
            }
        }
    }
}

/// Carries the datagrams that have arrived, a batch at most.
fn receive(downstream: &Downstream, worker: &Worker, flows: &mut Flows) -> io::Result<()> {
    let mut buffer = worker.buffers.borrow();
    for _ in 0..BATCH {
        match downstream.try_receive(&mut buffer) {
            Ok((length, origin)) => {
                flows.forward(origin, buffer.get(..length).unwrap_or_default());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;

//! The flows of one UDP listener and worker.
//!
//! Bounded by the servers' slots and by the worker's room for flows; a full table refuses new flows
//! and never drops one that is in use.

use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use deston_common::server::ServerId;
use tokio::time::Instant;

use super::downstream::{Downstream, Origin};
use super::flow::{Entry, Flow};
use crate::live;
use crate::model::{Layer, Protocol};
use crate::proxy::connect::is_exhaustion;
use crate::proxy::worker::{Room, Worker};

/// A listener's flows by origin.
pub(super) struct Flows {
    entries: HashMap<Origin, Entry>,
    downstream: Rc<Downstream>,
    listener: Arc<live::Listener>,
    worker: Rc<Worker>,
}

impl Flows {
    pub(super) fn new(
        downstream: Rc<Downstream>,
        listener: Arc<live::Listener>,
        worker: Rc<Worker>,
    ) -> Self {
        Self { entries: HashMap::new(), downstream, listener, worker }
    }

    /// Carries one datagram, in its flow or in a new one.
    pub(super) fn forward(&mut self, origin: Origin, bytes: &[u8]) {
        let now = Instant::now();
        let refused = match self.entries.get(&origin) {
            Some(entry) if !entry.flow.is_lost() => return entry.flow.send(bytes, now),
            Some(entry) => Some(entry.flow.server().id()),
            None => {
                if let Err(refusal) = self.admit(&origin) {
                    let client = origin.client;
                    return tracing::debug!(%client, "a datagram was refused: {refusal}");
                }
                None
            }
        };
        // Where nothing listens any more, the client's next datagram tries another server.
        match self.open(&origin, refused, now) {
            Some(flow) => {
                flow.send(bytes, now);
                let (downstream, buffers) = (&self.downstream, &self.worker.buffers);
                self.entries.insert(origin, Entry::start(flow, origin, downstream, buffers));
            }
            None => {
                if let Some(entry) = self.entries.get(&origin) {
                    entry.flow.send(bytes, now);
                }
            }
        }
    }

    /// Asks the listener's guard about a new flow.
    fn admit(&self, origin: &Origin) -> Result<(), live::Refusal> {
        let serving = self.listener.serving();
        self.listener.admit(&serving.listener, origin.client.ip())
    }

    /// Ends the flows that are over.
    pub(super) fn sweep(&mut self, now: Instant) {
        let serving = self.listener.serving();
        let Layer::L4(l4) = &serving.listener.layer else { return };
        let view = serving.pool.view();
        self.entries.retain(|_, entry| !entry.flow.is_over(now, &l4.flows, &view));
    }

    /// Opens a flow to the server whose turn it is, or to the next one with a free slot.
    fn open(&self, origin: &Origin, refused: Option<ServerId>, now: Instant) -> Option<Flow> {
        let Some(mut room) = Room::take(&self.worker) else {
            self.warn("this host has no room for more flows");
            return None;
        };
        let serving = self.listener.serving();
        let view = serving.pool.view();
        let reached = origin.reached(serving.listener.address);
        let key = live::flow_key(origin.client, reached, Protocol::Udp);
        let client = origin.client.ip();
        let kept = serving.pool.kept(&view, client);
        let mut start = None;
        let mut passed: Vec<_> = refused.into_iter().collect();
        loop {
            let claim = |server: &Arc<live::Server>| {
                if passed.contains(&server.id()) { None } else { server.claim() }
            };
            let mut slot = kept.as_ref().and_then(claim);
            if slot.is_none() {
                let start = *start.get_or_insert_with(|| serving.pool.enter(&view, &key));
                view.choose(start, |server| {
                    slot = claim(server);
                    slot.is_some()
                });
            }
            let Some(claimed) = slot else {
                if refused.is_none() {
                    self.warn("no server of the pool has a free slot");
                }
                return None;
            };
            let server = Arc::clone(claimed.server());
            match Flow::open(claimed, room, now) {
                Ok(flow) => {
                    serving.pool.remember(&view, client, flow.server());
                    return Some(flow);
                }
                Err(error) => {
                    self.failed(&server, &error);
                    if is_exhaustion(&error) {
                        return None;
                    }
                    passed.push(server.id());
                    room = Room::take(&self.worker)?;
                }
            }
        }
    }

    fn failed(&self, server: &live::Server, error: &io::Error) {
        if is_exhaustion(error) {
            self.warn("this host has no room for more flows");
        } else {
            tracing::debug!(server = server.name(), %error, "opening a flow failed");
        }
    }

    fn warn(&self, why: &'static str) {
        if let Some(untold) = self.worker.notices.refused.due() {
            let listener = &self.listener.serving().listener.name;
            tracing::warn!(listener, untold, "a datagram was dropped: {why}");
        }
    }
}

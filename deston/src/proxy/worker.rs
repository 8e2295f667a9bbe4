//! A worker, as its connections see it: what they share, and who owns them.
//!
//! Lives on one thread and is reached from no other. Its tasks live on the thread's `LocalSet`, are
//! counted while they carry a connection, and are gone when the thread ends.

use std::cell::Cell;
use std::rc::Rc;

use futures_util::FutureExt;
use tokio::sync::Notify;

use super::buffers::Buffers;
use super::closing::Closing;
use super::http;
use super::notice::Notice;
use crate::access::Lane;

/// What the connections of one worker share.
#[derive(Debug)]
pub(crate) struct Worker {
    /// Where connections borrow buffers.
    pub(crate) buffers: Buffers,
    /// When to finish; clone it to wait for it.
    pub(crate) closing: Closing,
    /// Pooled HTTP connections to servers.
    pub(crate) upstreams: http::Upstreams,
    flows_left: Cell<usize>,
    /// Warnings.
    pub(super) notices: Notices,
    /// When a password's hash may be computed.
    pub(super) hashing: http::Turn,
    /// Where requests get their ids from.
    pub(super) ids: http::Ids,
    /// Where requests are told of; `None`: nowhere.
    pub(super) access: Option<Lane>,
    connections: Cell<usize>,
    /// The last connection has ended.
    emptied: Notify,
}

/// A worker's warnings about traffic.
#[derive(Debug, Default)]
pub(super) struct Notices {
    /// Out of descriptors or memory.
    pub(super) exhausted: Notice,
    /// No server could take a connection or flow.
    pub(super) refused: Notice,
    /// A listener or a client has too many connections.
    pub(super) limited: Notice,
}

impl Worker {
    /// A worker without connections.
    pub(super) fn new(closing: Closing, flows: usize) -> Self {
        Self {
            buffers: Buffers::default(),
            closing,
            upstreams: http::Upstreams::default(),
            flows_left: Cell::new(flows),
            notices: Notices::default(),
            hashing: http::Turn::default(),
            ids: http::Ids::default(),
            access: None,
            connections: Cell::new(0),
            emptied: Notify::new(),
        }
    }

    /// With a lane to the access log, if there is one.
    pub(super) fn logging(self, access: Option<Lane>) -> Self {
        Self { access, ..self }
    }

    /// Runs a connection: draining waits for it.
    pub(crate) fn spawn(self: &Rc<Self>, connection: impl Future<Output = ()> + 'static) {
        self.connections.set(self.connections.get() + 1);
        let counted = Counted(Rc::clone(self));
        // Not an async block, which would hold the connection's future twice.
        tokio::task::spawn_local(connection.map(|()| drop(counted)));
    }

    /// Connections there are.
    pub(super) fn connections(&self) -> usize {
        self.connections.get()
    }

    /// Waits until there is no connection.
    pub(super) async fn emptied(&self) {
        while self.connections.get() > 0 {
            self.emptied.notified().await;
        }
    }
}

/// Counts a connection for as long as its task exists.
struct Counted(Rc<Worker>);

impl Drop for Counted {
    fn drop(&mut self) {
        let left = self.0.connections.get().saturating_sub(1);
        self.0.connections.set(left);
        if left == 0 {
            self.0.emptied.notify_one();
        }
    }
}

/// Room for one UDP flow; a worker's is bounded, since each flow has a descriptor.
#[derive(Debug)]
pub(super) struct Room(Rc<Worker>);

impl Room {
    /// Takes it if some is left.
    pub(super) fn take(worker: &Rc<Worker>) -> Option<Self> {
        worker.flows_left.set(worker.flows_left.get().checked_sub(1)?);
        Some(Self(Rc::clone(worker)))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.0.flows_left.set(self.0.flows_left.get().saturating_add(1));
    }
}

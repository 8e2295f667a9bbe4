//! A UDP flow: one client, one server, a socket between.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::UdpSocket;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::BATCH;
use super::downstream::{Downstream, Origin};
use crate::live::{Server, Slot, View};
use crate::model::FlowTimeouts;
use crate::proxy::buffers::Buffers;
use crate::proxy::worker::Room;

/// A flow, shared by the listener, which sends, and the flow's task, which receives.
#[derive(Debug)]
pub(super) struct Flow {
    /// Closed before the slot is given back: fields drop in order.
    upstream: UdpSocket,
    slot: Slot,
    _room: Room,
    opened: Instant,
    forward: Cell<Instant>,
    reply: Cell<Option<Instant>>,
    refused: Cell<bool>,
}

/// A flow in the table. Dropping it ends the flow.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) flow: Rc<Flow>,
    replies: AbortHandle,
}

impl Flow {
    /// A flow to the slot's server.
    pub(super) fn open(slot: Slot, room: Room, now: Instant) -> io::Result<Self> {
        let address = slot.server().address();
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), None)?;
        socket.connect(&address.into())?;
        Ok(Self {
            upstream: UdpSocket::from_std(socket.into())?,
            slot,
            _room: room,
            opened: now,
            forward: Cell::new(now),
            reply: Cell::new(None),
            refused: Cell::new(false),
        })
    }

    /// The flow's server.
    pub(super) fn server(&self) -> &Arc<Server> {
        self.slot.server()
    }

    /// Whether the client is to be given another server: this one is down and flows are moved, or
    /// its host has answered that nothing listens there, and the server nothing.
    pub(super) fn is_lost(&self) -> bool {
        self.server().fate().moves_flows() || self.refused.get() && self.reply.get().is_none()
    }

    /// Sends one datagram to the server; lost if it cannot be sent at once.
    pub(super) fn send(&self, bytes: &[u8], now: Instant) {
        self.forward.set(now);
        // Past tokio, which does not take a new socket for writable before its first event.
        let socket = SockRef::from(&self.upstream);
        if let Err(error) = socket.send(bytes) {
            self.note(&error);
            if error.kind() == io::ErrorKind::ConnectionRefused {
                // The error was that of an earlier datagram, and kept this one from being sent.
                let _ = socket.send(bytes);
            }
        }
    }

    /// Whether it has been idle for its time, or its server has left the pool and is silent. A
    /// server that drains answers, and keeps its flows.
    pub(super) fn is_over(&self, now: Instant, timeouts: &FlowTimeouts, view: &View) -> bool {
        let forward = now.duration_since(self.forward.get());
        let silent = now.duration_since(self.reply.get().unwrap_or(self.opened));
        let idle = match self.reply.get() {
            None => forward >= timeouts.udp_one_way,
            Some(_) => forward.min(silent) >= timeouts.udp_two_way,
        };
        idle || silent >= timeouts.udp_one_way && !view.contains(self.server())
    }

    fn note(&self, error: &io::Error) {
        if error.kind() == io::ErrorKind::ConnectionRefused && !self.refused.replace(true) {
            self.server().streaks().refused();
        }
    }
}

impl Entry {
    /// Starts to carry the flow's replies.
    pub(super) fn start(
        flow: Flow,
        origin: Origin,
        downstream: &Rc<Downstream>,
        buffers: &Buffers,
    ) -> Self {
        let flow = Rc::new(flow);
        let replies = replies(Rc::clone(&flow), origin, Rc::clone(downstream), buffers.clone());
        Self { flow, replies: tokio::task::spawn_local(replies).abort_handle() }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.replies.abort();
    }
}

/// Carries replies until it is aborted.
async fn replies(flow: Rc<Flow>, origin: Origin, downstream: Rc<Downstream>, buffers: Buffers) {
    while flow.upstream.readable().await.is_ok() {
        let mut buffer = buffers.borrow();
        for _ in 0..BATCH {
            match flow.upstream.try_recv(&mut buffer) {
                Ok(length) => {
                    if flow.reply.replace(Some(Instant::now())).is_none() {
                        flow.server().streaks().connected();
                    }
                    // A reply that cannot be sent is lost.
                    let reply = buffer.get(..length).unwrap_or_default();
                    let _ = downstream.reply(reply, &origin).await;
                }
                Err(error) => {
                    // ICMP errors are told here, once each.
                    flow.note(&error);
                    break;
                }
            }
        }
        drop(buffer);
        tokio::task::yield_now().await;
    }
}

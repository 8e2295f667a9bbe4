//! A worker's thread: takes orders from `control`, and ends in order.
//!
//! An order is carried out between connections; nothing here is on a connection's path.

use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::LocalSet;
use tokio::time::timeout;

use super::closing::{Closing, Stage};
use super::listen::Socket;
use super::worker::Worker;
use super::{accept, udp};
use crate::access::Lane;
use crate::live;

/// Orders that may wait for a worker; more make `control` wait.
const ORDERS: usize = 64;

/// What connections get to reset both sides once the deadline is over.
const ABORT: Duration = Duration::from_secs(1);

/// An order to a worker.
pub(super) enum Command {
    /// Accept from a socket.
    Open {
        /// The worker's own socket.
        socket: Socket,
        /// What connections are served by.
        listener: Arc<live::Listener>,
    },
    /// Stop accepting for a listener.
    Close {
        /// The listener.
        name: String,
    },
    /// Stop accepting, finish, end.
    Drain {
        /// How long finishing may take.
        deadline: Duration,
    },
}

/// What became of the connections that were open when draining began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Ended by themselves.
    pub finished: usize,
    /// Still open at the deadline, and reset.
    pub aborted: usize,
}

/// A worker as `control` sees it. Dropping it aborts the worker and joins its thread.
#[derive(Debug)]
pub(super) struct Handle {
    commands: Option<SyncSender<Command>>,
    wake: Arc<Notify>,
    ended: oneshot::Receiver<Drained>,
    thread: Option<JoinHandle<()>>,
}

impl Handle {
    /// Starts worker number `number`, which may hold `flows` UDP flows and tells of requests on
    /// `lane`.
    pub(super) fn start(number: usize, flows: usize, lane: Option<Lane>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (sender, receiver) = sync_channel(ORDERS);
        let (ended, end) = oneshot::channel();
        let wake = Arc::new(Notify::new());
        let orders = Orders { receiver, wake: Arc::clone(&wake) };
        let thread = std::thread::Builder::new()
            .name(format!("deston-worker-{number}"))
            .spawn(move || run(runtime, orders, flows, lane, ended))?;
        Ok(Self { commands: Some(sender), wake, ended: end, thread: Some(thread) })
    }

    /// Gives an order.
    pub(super) fn send(&self, command: Command) {
        let Some(commands) = &self.commands else { return };
        if commands.send(command).is_err() {
            tracing::error!("a worker has ended before its time; its connections are lost");
        }
        self.wake.notify_one();
    }

    /// Waits until a drained worker has ended.
    pub(super) async fn ended(&mut self) -> Drained {
        // An error means that the worker has panicked, which joining it will tell.
        (&mut self.ended).await.unwrap_or_default()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        drop(self.commands.take());
        self.wake.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a worker has panicked");
        }
    }
}

/// The thread.
fn run(
    runtime: Runtime,
    orders: Orders,
    flows: usize,
    lane: Option<Lane>,
    ended: oneshot::Sender<Drained>,
) {
    let tasks = LocalSet::new();
    let (stage, closing) = Closing::new();
    let worker = Rc::new(Worker::new(closing, flows).logging(lane));
    let drained = tasks.block_on(&runtime, work(&worker, orders, stage));
    // Tasks close their sockets before the end is told.
    drop(tasks);
    drop(runtime);
    // Nobody listens after an abort.
    let _ = ended.send(drained);
}

/// The receiving end of orders.
struct Orders {
    receiver: Receiver<Command>,
    wake: Arc<Notify>,
}

impl Orders {
    /// The next order; `None` when nobody gives any.
    async fn next(&self) -> Option<Command> {
        loop {
            match self.receiver.try_recv() {
                Ok(command) => return Some(command),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => self.wake.notified().await,
            }
        }
    }
}

/// Follows orders until drained or abandoned.
async fn work(worker: &Rc<Worker>, orders: Orders, stage: watch::Sender<Stage>) -> Drained {
    let mut open = HashMap::new();
    let (deadline, orders) = loop {
        match orders.next().await {
            Some(Command::Open { socket, listener }) => {
                let name = listener.serving().listener.name.clone();
                let accepting = Accepting::start(worker, socket, listener);
                if let Some(former) = open.insert(name, accepting) {
                    former.stop().await;
                }
            }
            Some(Command::Close { name }) => {
                if let Some(accepting) = open.remove(&name) {
                    accepting.stop().await;
                }
            }
            Some(Command::Drain { deadline }) => break (deadline, Some(orders)),
            None => break (Duration::ZERO, None),
        }
    };
    stage.send_replace(Stage::Draining);
    for (_, accepting) in open {
        accepting.stop().await;
    }
    let open = worker.connections();
    if let Some(orders) = orders {
        tokio::select! {
            _ = timeout(deadline, worker.emptied()) => {}
            () = abandoned(&orders) => {}
        }
    }
    let aborted = worker.connections();
    stage.send_replace(Stage::Aborting);
    // Whoever is not done by then is dropped.
    let _ = timeout(ABORT, worker.emptied()).await;
    Drained { finished: open.saturating_sub(aborted), aborted }
}

/// Waits until nobody gives orders any more.
async fn abandoned(orders: &Orders) {
    while orders.next().await.is_some() {}
}

/// A listener that this worker accepts for.
struct Accepting {
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Accepting {
    fn start(worker: &Rc<Worker>, socket: Socket, listener: Arc<live::Listener>) -> Self {
        let (stop, stopped) = oneshot::channel();
        let worker = Rc::clone(worker);
        let task = tokio::task::spawn_local(async move {
            match socket {
                Socket::Tcp(socket, taken) => {
                    accept::run(socket, listener, worker, stopped).await;
                    drop(taken);
                }
                Socket::Udp(socket, taken) => {
                    udp::run(socket, taken, listener, worker, stopped).await;
                }
            }
        });
        Self { stop, task }
    }

    /// Stops it; returns once the socket is closed, which is a matter of moments.
    async fn stop(self) {
        drop(self.stop);
        if self.task.await.is_err() {
            tracing::error!("a listener's task has panicked");
        }
    }
}

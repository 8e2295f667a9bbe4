//! A worker: one thread, one runtime, and everything its connections share.
//!
//! A worker owns its tasks: they live on its `LocalSet`, are counted while they carry a connection,
//! and are gone when the thread ends. It takes orders from `control` between connections and never
//! touches another worker.

use std::cell::Cell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::LocalSet;
use tokio::time::timeout;

use super::buffers::Buffers;
use super::closing::{Closing, Stage};
use super::listen::Socket;
use super::notice::Notice;
use super::{accept, http, udp};
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
    /// Behind a lock only to be `Sync`.
    ended: Mutex<Option<oneshot::Receiver<Drained>>>,
    thread: Option<JoinHandle<()>>,
}

impl Handle {
    /// Starts worker number `number`, which may hold `flows` UDP flows.
    pub(super) fn start(number: usize, flows: usize) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (sender, receiver) = sync_channel(ORDERS);
        let (ended, end) = oneshot::channel();
        let wake = Arc::new(Notify::new());
        let orders = Orders { receiver, wake: Arc::clone(&wake) };
        let thread = std::thread::Builder::new()
            .name(format!("deston-worker-{number}"))
            .spawn(move || run(runtime, orders, flows, ended))?;
        let ended = Mutex::new(Some(end));
        Ok(Self { commands: Some(sender), wake, ended, thread: Some(thread) })
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
        let end = self.ended.get_mut().ok().and_then(Option::take);
        match end {
            Some(end) => end.await.unwrap_or_default(),
            None => Drained::default(),
        }
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
fn run(runtime: Runtime, orders: Orders, flows: usize, ended: oneshot::Sender<Drained>) {
    let tasks = LocalSet::new();
    let (stage, closing) = Closing::new();
    let worker = Rc::new(Worker::new(closing, flows));
    let drained = tasks.block_on(&runtime, worker.work(orders, stage));
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

/// What the connections of one worker share.
#[derive(Debug)]
pub(crate) struct Worker {
    /// Where connections borrow buffers.
    pub(crate) buffers: Buffers,
    /// When to finish; clone it to wait for it.
    pub(crate) closing: Closing,
    /// Pooled HTTP connections to servers.
    pub(crate) upstreams: http::Upstreams,
    /// UDP flows that may still be opened.
    pub(super) flows_left: Cell<usize>,
    /// Warnings.
    pub(super) notices: Notices,
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
            connections: Cell::new(0),
            emptied: Notify::new(),
        }
    }

    /// Runs a connection: draining waits for it.
    pub(crate) fn spawn(self: &Rc<Self>, connection: impl Future<Output = ()> + 'static) {
        self.connections.set(self.connections.get() + 1);
        let counted = Counted(Rc::clone(self));
        tokio::task::spawn_local(async move {
            let _counted = counted;
            connection.await;
        });
    }

    /// Runs what carries no connection of a client, such as an idle connection to a server:
    /// draining does not wait for it, and it is dropped when the worker ends.
    pub(crate) fn spawn_background(&self, task: impl Future<Output = ()> + 'static) {
        tokio::task::spawn_local(task);
    }

    /// Follows orders until drained or abandoned.
    async fn work(self: &Rc<Self>, orders: Orders, stage: watch::Sender<Stage>) -> Drained {
        let mut open = HashMap::new();
        let (deadline, orders) = loop {
            match orders.next().await {
                Some(Command::Open { socket, listener }) => {
                    let name = listener.serving().listener.name.clone();
                    let accepting = Accepting::start(self, socket, listener);
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
        let open = self.connections.get();
        if let Some(orders) = orders {
            tokio::select! {
                _ = timeout(deadline, self.emptied()) => {}
                () = abandoned(&orders) => {}
            }
        }
        let aborted = self.connections.get();
        stage.send_replace(Stage::Aborting);
        // Whoever is not done by then is dropped.
        let _ = timeout(ABORT, self.emptied()).await;
        Drained { finished: open.saturating_sub(aborted), aborted }
    }

    async fn emptied(&self) {
        while self.connections.get() > 0 {
            self.emptied.notified().await;
        }
    }
}

/// Waits until nobody gives orders any more.
async fn abandoned(orders: &Orders) {
    while orders.next().await.is_some() {}
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
                Socket::Tcp(socket, held) => {
                    accept::run(socket, listener, worker, stopped).await;
                    drop(held);
                }
                Socket::Udp(socket, held) => {
                    udp::run(socket, listener, worker, stopped).await;
                    drop(held);
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

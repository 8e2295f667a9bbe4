//! A worker's idle connections to servers: the one used last is used first.
//!
//! Each holds one of its server's slots, so it gives way: while another worker waits for a slot,
//! every worker closes what it holds unused.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::shared::Shared;
use super::task::Task;
use super::upstream::{IdleUpstream, Left, Upstream};
use crate::live::Server;

/// How often idle connections are looked through. A dead or expired one is not used meanwhile
/// either: taking one looks at it again.
const SWEEP: Duration = Duration::from_secs(1);

/// A worker's idle connections.
#[derive(Debug, Default)]
pub(crate) struct Upstreams {
    shelves: Rc<Shelves>,
}

/// The shelf of server N is the Nth: identifiers are small.
#[derive(Debug, Default)]
struct Shelves {
    by_id: RefCell<Vec<Option<Box<Shelf>>>>,
    sweeper: RefCell<Option<Task>>,
}

/// The idle connections to one server.
#[derive(Debug)]
struct Shelf {
    server: Arc<Server>,
    /// The one used last at the back.
    idle: VecDeque<Kept>,
    /// Of HTTP/2, busy or not.
    shared: Vec<Shared>,
    /// A connection was put here.
    filled: Rc<Notify>,
    /// Empty at the last sweep.
    spare: bool,
    /// Closes connections while the server's slots are asked for.
    _watcher: Task,
}

#[derive(Debug)]
struct Kept {
    upstream: IdleUpstream,
    expires: Instant,
}

impl Upstreams {
    /// Takes an idle connection to `server` that is still good, or a stream of a shared one.
    pub(super) fn take(&self, server: &Arc<Server>, may_share: bool) -> Option<Upstream> {
        if may_share && let Some(shared) = self.share(server) {
            return Some(shared);
        }
        loop {
            let mut kept = self.shelves.with(server, |shelf| shelf.idle.pop_back())??;
            if kept.expires > Instant::now() && kept.upstream.is_alive() {
                return Some(kept.upstream.wake());
            }
        }
    }

    /// A stream, if a shared connection has room and the server a slot.
    fn share(&self, server: &Arc<Server>) -> Option<Upstream> {
        let lease = |shelf: &mut Shelf| {
            let shared = shelf.shared.iter().find(|shared| shared.has_room())?;
            Some(Upstream::of_shared(shared.lease(), server.claim()?))
        };
        self.shelves.with(server, lease)?
    }

    /// Keeps a connection for requests to share.
    pub(super) fn keep(&self, shared: Shared) {
        let server = Arc::clone(shared.server());
        self.shelves.put(&server, |shelf| shelf.shared.push(shared));
    }

    /// Keeps a connection whose response has ended, if it can be used again.
    pub(super) fn park(&self, upstream: Upstream) {
        let limit = upstream.idle_limit();
        if limit.is_zero() {
            return;
        }
        let Left::Idle(upstream) = upstream.park() else { return };
        let Some(expires) = Instant::now().checked_add(limit) else { return };
        let server = Arc::clone(upstream.server());
        self.shelves.put(&server, |shelf| {
            shelf.idle.push_back(Kept { upstream, expires });
            shelf.filled.notify_one();
        });
    }
}

impl Shelves {
    /// Looks at the shelf of `server`.
    fn with<T>(&self, server: &Arc<Server>, look: impl FnOnce(&mut Shelf) -> T) -> Option<T> {
        let mut shelves = self.by_id.borrow_mut();
        let shelf = shelves.get_mut(index(server))?.as_mut()?;
        // An identifier may have passed to another server.
        Arc::ptr_eq(&shelf.server, server).then(|| look(shelf))
    }

    /// Puts something on the shelf of `server`.
    fn put(self: &Rc<Self>, server: &Arc<Server>, put: impl FnOnce(&mut Shelf)) {
        let index = index(server);
        let mut shelves = self.by_id.borrow_mut();
        if shelves.len() <= index {
            shelves.resize_with(index + 1, || None);
        }
        let Some(entry) = shelves.get_mut(index) else { return };
        let shelf = match entry {
            Some(shelf) if Arc::ptr_eq(&shelf.server, server) => shelf,
            Some(_) | None => entry.insert(Box::new(Shelf::new(Arc::clone(server), self))),
        };
        put(shelf);
        drop(shelves);
        self.start_sweeper();
    }

    fn start_sweeper(self: &Rc<Self>) {
        let mut sweeper = self.sweeper.borrow_mut();
        if sweeper.as_ref().is_none_or(Task::has_ended) {
            *sweeper = Some(Task::start(sweep(Rc::downgrade(self))));
        }
    }

    /// Closes what is dead or expired, and forgets servers that went unused. Whether any is left.
    fn sweep(&self) -> bool {
        let now = Instant::now();
        let mut shelves = self.by_id.borrow_mut();
        let mut any = false;
        for entry in shelves.iter_mut() {
            let Some(shelf) = entry else { continue };
            shelf.idle.retain_mut(|kept| kept.expires > now && kept.upstream.is_alive());
            shelf.shared.retain(|shared| !shared.is_spent(now));
            let spare = shelf.idle.is_empty() && shelf.shared.is_empty();
            if spare && shelf.spare {
                *entry = None;
            } else {
                shelf.spare = spare;
                any = true;
            }
        }
        any
    }
}

impl Shelf {
    fn new(server: Arc<Server>, shelves: &Rc<Shelves>) -> Self {
        let filled = Rc::new(Notify::new());
        let watcher = watch(Arc::clone(&server), Rc::clone(&filled), Rc::downgrade(shelves));
        Self {
            server,
            idle: VecDeque::new(),
            shared: Vec::new(),
            filled,
            spare: false,
            _watcher: Task::start(watcher),
        }
    }
}

fn index(server: &Server) -> usize {
    usize::from(server.id().0)
}

/// Sweeps until nothing is left.
async fn sweep(shelves: Weak<Shelves>) {
    loop {
        sleep(SWEEP).await;
        let Some(shelves) = shelves.upgrade() else { return };
        if !shelves.sweep() {
            return;
        }
    }
}

/// Closes an idle connection, the one longest unused, whenever a claim on `server` waits.
async fn watch(server: Arc<Server>, filled: Rc<Notify>, shelves: Weak<Shelves>) {
    loop {
        server.asked_to_give_way().await;
        let Some(shelves) = shelves.upgrade() else { return };
        let oldest = shelves.with(&server, |shelf| shelf.idle.pop_front()).flatten();
        drop(shelves);
        if oldest.is_none() {
            filled.notified().await;
        }
    }
}

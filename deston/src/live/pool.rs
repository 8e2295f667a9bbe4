//! A live pool: a cursor, and a view that is replaced whole.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use deston_common::hash;
use deston_common::select;
use deston_common::server::ServerId;
use deston_common::table::{Index, Table};

use super::Server;
use crate::model::PoolTimeouts;

/// A pool in use.
pub struct Pool {
    name: String,
    /// Shared by all workers, so that one client's consecutive requests see the sequence.
    cursor: AtomicU64,
    view: ArcSwap<View>,
}

/// What a choice is made from: a table and the servers it names, always of the same moment.
pub struct View {
    /// The table; its slots name eligible servers only.
    pub table: Box<Table>,
    /// Servers of the table, ordered by identifier.
    pub servers: Vec<Arc<Server>>,
    /// Server side deadlines.
    pub timeouts: PoolTimeouts,
}

impl Pool {
    /// A pool with its first view.
    pub fn new(name: String, view: View) -> Self {
        Self { name, cursor: AtomicU64::new(0), view: ArcSwap::from_pointee(view) }
    }

    /// The pool's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The current view.
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// Replaces the view; choices under way finish on the old one.
    pub fn publish(&self, view: View) {
        self.view.store(Arc::new(view));
    }

    /// Where a new flow or request of `client` enters the table: once for each flow or request,
    /// since a cursor moves on.
    pub fn enter(&self, view: &View, client: IpAddr) -> u64 {
        if view.table.index == Index::Client as u32 {
            hash::client(view.table.seed, client)
        } else {
            self.cursor.fetch_add(1, Ordering::Relaxed)
        }
    }
}

impl View {
    /// The first server from `start` that `take` accepts; `take` may see a server twice.
    pub fn choose(
        &self,
        start: u64,
        mut take: impl FnMut(&Arc<Server>) -> bool,
    ) -> Option<Arc<Server>> {
        let id = select::choose(&self.table, start, |id| self.server(id).is_some_and(&mut take))?;
        self.server(id).cloned()
    }

    /// Whether `server` is one of those that may be chosen.
    pub fn contains(&self, server: &Arc<Server>) -> bool {
        self.server(server.id()).is_some_and(|here| Arc::ptr_eq(here, server))
    }

    fn server(&self, id: ServerId) -> Option<&Arc<Server>> {
        let index = self.servers.binary_search_by_key(&id, |server| server.id()).ok()?;
        self.servers.get(index)
    }
}

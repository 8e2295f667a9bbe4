//! The reconciler between stand-ins that write down what they are told.

mod backups;
mod kernel;
mod listeners;
mod origin;
mod outliers;
mod pools;
mod routes;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use deston_common::server::{ServerId, ServerState};
use deston_common::table::Table;

use super::*;
use crate::config;
use crate::control::hold::Beside;
use crate::datapath::{Chosen, DatapathError, Hook, Reason};

/// Everything the datapaths were told, in order.
#[derive(Clone, Default)]
struct Journal(Rc<RefCell<Vec<String>>>);

impl Journal {
    fn write(&self, line: String) {
        self.0.borrow_mut().push(line);
    }

    /// What was written since the last look.
    fn read(&self) -> Vec<String> {
        std::mem::take(&mut self.0.borrow_mut())
    }
}

/// A userspace datapath without sockets.
struct Paper {
    journal: Journal,
    in_use: Rc<RefCell<Vec<u16>>>,
}

impl UserspaceDatapath for Paper {
    type Bound = SocketAddr;
    type Held = ();

    fn hold(&self, listener: &model::Listener, _: Beside) -> Result<Option<()>, BindError> {
        let (name, address) = (listener.name.clone(), listener.address);
        if self.in_use.borrow().contains(&address.port()) {
            return Err(BindError::InUse { name, address, protocol: "tcp" });
        }
        Ok(Some(()))
    }

    fn bind(&self, listener: &model::Listener) -> Result<SocketAddr, BindError> {
        let (name, address) = (listener.name.clone(), listener.address);
        if self.in_use.borrow().contains(&address.port()) {
            return Err(BindError::InUse { name, address, protocol: "tcp" });
        }
        self.journal.write(format!("bind {name}:{}", address.port()));
        Ok(address)
    }

    fn address(bound: &SocketAddr) -> SocketAddr {
        *bound
    }

    fn open(&self, bound: SocketAddr, listener: Arc<live::Listener>) {
        let name = listener.serving().listener.name.clone();
        self.journal.write(format!("open {name}:{}", bound.port()));
    }

    fn close(&self, name: &str) {
        self.journal.write(format!("close {name}"));
    }
}

/// A kernel that carries every listener whose name begins with `k`, and guards those that begin with
/// `g`.
struct PaperKernel {
    journal: Journal,
    flows: Rc<RefCell<u64>>,
    /// Port of servers that it cannot reach; 0: of none.
    unroutable: Rc<RefCell<u16>>,
    /// What the process before left.
    former: Vec<(ServerId, SocketAddr)>,
}

impl KernelDatapath for PaperKernel {
    fn adopt(&mut self) -> Vec<(ServerId, SocketAddr)> {
        self.former.clone()
    }

    fn remembered(&self, pool: &str, address: SocketAddr) -> Option<ServerId> {
        let its = self.former.iter().filter(|(_, of)| *of == address).map(|(id, _)| *id);
        // The pools of a server had their names in the order of the alphabet.
        if pool == "p" { its.min() } else { its.max() }
    }

    fn take_over(&mut self) {
        if !self.former.is_empty() {
            self.journal.write("kernel: take over".to_owned());
        }
    }

    fn carry(
        &mut self,
        listener: &model::Listener,
        servers: &[model::Server],
    ) -> Result<Chosen, DatapathError> {
        self.reach(listener, servers)?;
        if listener.name.starts_with('k') {
            Ok(Chosen { hook: Hook::Xdp, why_not_xdp: None })
        } else {
            Err(Reason::NoDefaultRoute.into())
        }
    }

    fn reach(
        &mut self,
        _: &model::Listener,
        servers: &[model::Server],
    ) -> Result<(), DatapathError> {
        let unroutable = *self.unroutable.borrow();
        if servers.iter().any(|server| server.address.port() == unroutable) {
            return Err(Reason::NoRoute(std::net::Ipv4Addr::LOCALHOST.into()).into());
        }
        Ok(())
    }

    fn guard(&mut self, listener: &model::Listener) -> Result<Chosen, DatapathError> {
        if listener.name.starts_with('g') {
            Ok(Chosen { hook: Hook::Tc, why_not_xdp: None })
        } else {
            Err(Reason::GuardOfLoopback.into())
        }
    }

    fn put_server(
        &mut self,
        _: &model::Pool,
        id: ServerId,
        server: &model::Server,
        state: ServerState,
    ) -> Result<(), NotTaken> {
        let port = server.address.port();
        self.journal.write(format!("kernel: server {} is :{port} {state:?}", id.0));
        Ok(())
    }

    fn put_table(&mut self, pool: &model::Pool, table: &Table) -> Result<(), NotTaken> {
        self.journal.write(format!("kernel: table {} is {:?}", pool.name, slots(table)));
        Ok(())
    }

    fn put_listener(&mut self, listener: &model::Listener) -> Result<(), NotTaken> {
        let (name, port) = (&listener.name, listener.address.port());
        self.journal.write(format!("kernel: listener {name}:{port} has pool {}", listener.pool));
        Ok(())
    }

    fn settle(&mut self) {}

    fn close_listener(&mut self, listener: &model::Listener) {
        let (name, port) = (&listener.name, listener.address.port());
        self.journal.write(format!("kernel: close {name}:{port}"));
    }

    fn forget_pool(&mut self, pool: &str) {
        self.journal.write(format!("kernel: forget pool {pool}"));
    }

    fn drain_server(&mut self, id: ServerId, _: Duration) {
        self.journal.write(format!("kernel: drain server {}", id.0));
    }

    fn open_flows(&self, _: ServerId) -> u64 {
        *self.flows.borrow()
    }

    fn forget_server(&mut self, id: ServerId) {
        self.journal.write(format!("kernel: forget server {}", id.0));
    }
}

fn slots(table: &Table) -> Vec<u16> {
    table.slots.iter().take(table.len as usize).map(|id| id.0).collect()
}

/// A reconciler with its stand-ins.
struct Lab {
    reconciler: Reconciler<Paper, PaperKernel>,
    journal: Journal,
    in_use: Rc<RefCell<Vec<u16>>>,
    flows: Rc<RefCell<u64>>,
    unroutable: Rc<RefCell<u16>>,
}

fn model(text: &str) -> Model {
    config::parse("config.toml", text).unwrap()
}

/// Ports that somebody else has.
fn start_beside(text: &str, in_use: &[u16]) -> (Result<Lab, Refused>, Journal) {
    start_after(text, in_use, &[])
}

/// Servers that the process before has left in the kernel, by identifier and port.
fn start_after(
    text: &str,
    in_use: &[u16],
    former: &[(u16, u16)],
) -> (Result<Lab, Refused>, Journal) {
    let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let former = former.iter().map(|(id, port)| (ServerId(*id), address(*port))).collect();
    let journal = Journal::default();
    let in_use = Rc::new(RefCell::new(in_use.to_vec()));
    let flows = Rc::new(RefCell::new(0));
    let paper = Paper { journal: journal.clone(), in_use: Rc::clone(&in_use) };
    let unroutable = Rc::new(RefCell::new(0));
    let kernel = PaperKernel {
        journal: journal.clone(),
        flows: Rc::clone(&flows),
        unroutable: Rc::clone(&unroutable),
        former,
    };
    let lab = Reconciler::start(model(text), paper, kernel).map(|reconciler| Lab {
        reconciler,
        journal: journal.clone(),
        in_use,
        flows,
        unroutable,
    });
    (lab, journal)
}

/// A reconciler that has started; what it said is read.
fn start(text: &str) -> Lab {
    let lab = start_beside(text, &[]).0.unwrap();
    lab.journal.read();
    lab
}

impl Lab {
    /// Reloads, and gives what the datapaths were told.
    fn reload(&mut self, text: &str) -> Vec<String> {
        self.reconciler.reload(model(text)).unwrap();
        self.journal.read()
    }

    fn pool(&self, name: &str) -> Arc<live::Pool> {
        Arc::clone(&self.reconciler.pools[name].live)
    }

    /// The ports of a pool's servers, slot by slot.
    fn ports(&self, pool: &str) -> Vec<u16> {
        let view = self.pool(pool).view();
        let port = |id: &u16| {
            view.servers.iter().find(|server| server.id().0 == *id).unwrap().address().port()
        };
        slots(&view.table).iter().map(port).collect()
    }

    fn server(&self, pool: &str, port: u16) -> Arc<live::Server> {
        let view = self.pool(pool).view();
        let found = view.servers.iter().find(|server| server.address().port() == port);
        Arc::clone(found.unwrap())
    }

    fn set(&mut self, pool: &str, port: u16, condition: Condition) -> bool {
        self.reconciler.set_condition(&server_key(pool, port), condition)
    }
}

fn server_key(pool: &str, port: u16) -> ServerKey {
    ServerKey { pool: pool.to_owned(), address: SocketAddr::from(([127, 0, 0, 1], port)) }
}

//! The userspace datapath: worker threads that carry TCP, UDP and HTTP.
//!
//! `control` binds listeners here, opens and closes them; everything else the workers read from
//! [`live`] state. A worker shares nothing with the others but that state. Nothing in
//! here reads the configuration, nor decides which servers are eligible.

mod accept;
mod buffers;
mod close;
mod closing;
mod connect;
mod descriptors;
mod http;
mod listen;
mod notice;
mod origin;
pub(crate) mod proxy_protocol;
mod relay;
mod stream;
mod tcp;
#[cfg(test)]
mod testing;
mod thread;
pub(crate) mod tls;
mod udp;
mod worker;

use std::io;
use std::sync::Arc;
use std::time::Duration;

pub use listen::{BindError, Bound};
pub(crate) use stream::Stream;
pub use thread::Drained;

use crate::access::Lane;
use crate::{live, model};
use listen::Addresses;
use thread::{Command, Handle};

/// The worker threads. Dropping it aborts what they carry; [`drain`](Self::drain) lets it finish.
#[derive(Debug)]
pub struct Proxy {
    workers: Vec<Handle>,
    addresses: Addresses,
}

impl Proxy {
    /// Starts `workers` threads, at least one.
    pub fn start(workers: usize) -> io::Result<Self> {
        Self::start_logging(workers, Vec::new())
    }

    /// Starts `workers` threads, at least one, which tell of requests on `lanes`, one each.
    pub fn start_logging(workers: usize, lanes: Vec<Lane>) -> io::Result<Self> {
        let workers = workers.max(1);
        let descriptors = descriptors::raise_limit();
        // The other half is for connections, which must not starve of spoofed datagrams.
        let flows = descriptors / 2 / workers;
        let lanes = lanes.into_iter().map(Some).chain(std::iter::repeat_with(|| None));
        let start = |(number, lane)| Handle::start(number, flows, lane);
        let workers = (0..workers).zip(lanes).map(start).collect::<io::Result<_>>()?;
        Ok(Self { workers, addresses: Addresses::default() })
    }

    /// Takes the listener's address for every worker. Nothing is accepted before
    /// [`open`](Self::open): clients that connect meanwhile wait.
    pub fn bind(&self, listener: &model::Listener) -> Result<Bound, BindError> {
        listen::bind(listener, self.workers.len(), &self.addresses)
    }

    /// Lets the workers accept. A listener of the same name that is open is closed once this one
    /// accepts.
    pub fn open(&self, bound: Bound, listener: Arc<live::Listener>) {
        for (worker, socket) in self.workers.iter().zip(bound.into_sockets()) {
            worker.send(Command::Open { socket, listener: Arc::clone(&listener) });
        }
    }

    /// Closes a listener: what is queued is accepted, connections finish, UDP flows end.
    pub fn close(&self, name: &str) {
        for worker in &self.workers {
            worker.send(Command::Close { name: name.to_owned() });
        }
    }

    /// Closes every listener, lets connections finish until the deadline, resets the rest, ends the
    /// threads. Dropping the future aborts at once.
    pub async fn drain(self, deadline: Duration) -> Drained {
        for worker in &self.workers {
            worker.send(Command::Drain { deadline });
        }
        let mut all = Drained::default();
        for mut worker in self.workers {
            let drained = worker.ended().await;
            all.finished += drained.finished;
            all.aborted += drained.aborted;
        }
        all
    }
}

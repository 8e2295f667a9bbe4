//! Connecting: from a pool to an open connection to one of its servers.
//!
//! Sits between selection, which `live` does, and the relay. Tries each server at most once, and
//! never more servers than there are.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use deston_common::server::ServerId;
use nix::errno::Errno;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::live::{Pool, Server, Slot, View};

/// A connection to a server.
#[derive(Debug)]
pub(crate) struct Upstream {
    /// Closed before the slot is given back: fields drop in order.
    pub(crate) stream: TcpStream,
    /// The server's place that it takes.
    pub(crate) slot: Slot,
}

/// Why no server was connected to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// No server is up.
    #[error("no server of pool {pool} is up")]
    Empty {
        /// The pool.
        pool: String,
    },
    /// Every server that was not tried in vain has `max_connections`.
    #[error("every server of pool {pool} that can be reached has max_connections open")]
    Full {
        /// The pool.
        pool: String,
    },
    /// All were tried.
    #[error("no server of pool {pool} can be reached; the last was {server}")]
    Unreachable {
        /// The pool.
        pool: String,
        /// The last one tried.
        server: String,
        /// What became of it.
        source: io::Error,
    },
    /// No descriptor or memory for another socket: no server's fault.
    #[error("this host cannot open another connection")]
    Exhausted(#[source] io::Error),
}

/// Connects to the server whose turn it is, or to the next one that can be reached.
pub(crate) async fn connect(pool: &Pool, client: IpAddr) -> Result<Upstream, Refused> {
    let view = pool.view();
    let deadline = view.timeouts.connect;
    let start = pool.enter(&view, client);
    let mut passed = Passed::default();
    while let Some(pick) = pick(&view, start, &passed) {
        let slot = match pick {
            Pick::Claimed(slot) => slot,
            Pick::FromIdle(server) => match timeout(deadline, server.claim_from_idle()).await {
                Ok(Some(slot)) => slot,
                Ok(None) | Err(_) => {
                    passed.full(&server);
                    continue;
                }
            },
        };
        match dial(slot.server().address(), deadline).await {
            Ok(stream) => return Ok(Upstream { stream, slot }),
            Err(error) if is_exhaustion(&error) => return Err(Refused::Exhausted(error)),
            Err(error) => {
                tracing::debug!(server = slot.server().name(), %error, "connecting failed");
                passed.failed(slot.server(), error);
            }
        }
    }
    Err(passed.verdict(pool, &view))
}

/// A server to connect to.
enum Pick {
    Claimed(Slot),
    /// Full, but idle connections hold places of it.
    FromIdle(Arc<Server>),
}

fn pick(view: &View, start: u64, passed: &Passed) -> Option<Pick> {
    let mut pick = None;
    view.choose(start, |server| {
        if passed.contains(server) {
            return false;
        }
        pick = match server.claim() {
            Some(slot) => Some(Pick::Claimed(slot)),
            None if server.may_free_a_slot() => Some(Pick::FromIdle(Arc::clone(server))),
            None => None,
        };
        pick.is_some()
    });
    pick
}

/// Opens a connection within `deadline`.
async fn dial(address: SocketAddr, deadline: Duration) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_nodelay(true)?;
    timeout(deadline, socket.connect(address)).await?
}

/// Whether this host, not a server, is what failed.
pub(super) fn is_exhaustion(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM)
    )
}

/// The servers passed over by one connection; as a rule none.
#[derive(Default)]
struct Passed {
    servers: Vec<ServerId>,
    failure: Option<(Arc<Server>, io::Error)>,
}

impl Passed {
    fn contains(&self, server: &Server) -> bool {
        self.servers.contains(&server.id())
    }

    fn full(&mut self, server: &Server) {
        self.servers.push(server.id());
    }

    fn failed(&mut self, server: &Arc<Server>, error: io::Error) {
        self.servers.push(server.id());
        self.failure = Some((Arc::clone(server), error));
    }

    fn verdict(self, pool: &Pool, view: &View) -> Refused {
        let pool = pool.name().to_owned();
        match self.failure {
            None if view.servers.is_empty() => Refused::Empty { pool },
            Some((server, source)) if self.servers.len() >= view.servers.len() => {
                Refused::Unreachable { pool, server: server.name().to_owned(), source }
            }
            None | Some(_) => Refused::Full { pool },
        }
    }
}

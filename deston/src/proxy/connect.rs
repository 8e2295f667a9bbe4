//! Connecting: from a pool to an open connection to one of its servers.
//!
//! Both layers search here, between selection, which `live` does, and what is sent. Tries each
//! server at most once, and stops at the second that does not answer in time. Where all are full, it
//! waits in the pool's line.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use deston_common::flow::FlowKey;
use deston_common::hash::Seed;
use deston_common::net::Ipv6Be;
use deston_common::server::ServerId;
use nix::errno::Errno;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout, timeout_at};

use super::proxy_protocol::{self, Ends, Header};
use super::stream::Stream;
use super::tls;
use crate::live::{Load, Place, Pool, Server, Slot, View};
use crate::model::{HashKey, Overflow, PoolTimeouts, Retry, ServerProtocol, StickyCookie};

/// Connect attempts that may take their full time; after that the client has waited enough.
const TIMEOUTS: u32 = 2;

/// A connection to a server.
#[derive(Debug)]
pub(crate) struct Upstream {
    /// Closed before the slot is given back: fields drop in order.
    pub(crate) stream: Stream,
    /// The server's slot that it takes.
    pub(crate) slot: Slot,
    /// Whether HTTP/2 is to be spoken on it.
    pub(crate) is_h2: bool,
    /// Whether the server was told of its client, whose it then is alone.
    pub(crate) is_told: bool,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Bytes as the client sends them.
    Raw,
    /// The version of HTTP that the server is spoken to in.
    Http,
    /// HTTP/1.1.
    Http1,
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
    /// No slot came free while it waited.
    #[error("no server of pool {pool} had a free connection in time")]
    Late {
        /// The pool.
        pool: String,
    },
    /// All were tried, or two did not answer in time.
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

/// One connection's, or one request's, way through a pool's servers.
pub(crate) struct Search<'a> {
    pool: &'a Pool,
    view: Arc<View>,
    key: FlowKey<Ipv6Be>,
    client: IpAddr,
    /// The server that the client is to keep: tried before the table is entered.
    kept: Option<Arc<Server>>,
    /// Where it entered the table, if it had to.
    start: Option<u64>,
    /// Servers passed over. Never allocates as long as none is.
    passed: Vec<ServerId>,
    /// Servers whose idle connections were asked for in vain, since it looked anew.
    full: Vec<ServerId>,
    /// Its place among those who wait for a slot.
    place: Option<Place>,
    /// Until when it may wait, if it has begun to.
    patience: Option<Instant>,
    failure: Option<(Arc<Server>, io::Error)>,
    timeouts: u32,
    dialect: Dialect,
}

/// What a search has found.
pub(crate) enum Found<T> {
    /// Something as good as a connection.
    Taken(T),
    /// A connection of its own.
    Fresh(Upstream),
}

/// A server to connect to.
enum Pick<T> {
    Taken(T, Arc<Server>),
    Claimed(Slot),
    /// Full, but idle connections hold slots of it.
    FromIdle(Arc<Server>),
}

/// Connects to the server whose turn it is, or to the next one that can be reached.
pub(crate) async fn connect(
    pool: &Pool,
    client: IpAddr,
    key: &FlowKey<Ipv6Be>,
) -> Result<Upstream, Refused> {
    match Search::new(pool, client, key, Dialect::Raw).next(|_| None::<Infallible>).await? {
        Found::Fresh(upstream) => Ok(upstream),
        Found::Taken(never) => match never {},
    }
}

impl<'a> Search<'a> {
    /// For a connection or request of `client`, whose connection has the tuple `key`. Enters the
    /// pool's table at most once.
    pub(crate) fn new(
        pool: &'a Pool,
        client: IpAddr,
        key: &FlowKey<Ipv6Be>,
        dialect: Dialect,
    ) -> Self {
        let view = pool.view();
        let kept = pool.kept(&view, client);
        Self {
            pool,
            view,
            key: *key,
            client,
            kept,
            start: None,
            passed: Vec::new(),
            full: Vec::new(),
            place: None,
            patience: None,
            failure: None,
            timeouts: 0,
            dialect,
        }
    }

    /// The pool's deadlines, as they were when the search began.
    pub(crate) fn timeouts(&self) -> &PoolTimeouts {
        &self.view.timeouts
    }

    /// What is done if sending fails, as it was set when the search began or went on.
    pub(crate) fn retry(&self) -> &Retry {
        &self.view.treatment.retry
    }

    /// What is hashed of a request, and with which seed.
    pub(crate) fn hash_key(&self) -> Option<(&HashKey, Seed)> {
        Some((self.view.hash_key.as_ref()?, self.view.table.seed))
    }

    /// Enters the table where a request's hash says, not its client's address.
    pub(crate) fn enter_at(&mut self, hash: u64) {
        self.start = Some(hash);
    }

    /// Cookies of the pool, if it has any, and the seed that names servers in them.
    pub(crate) fn cookie(&self) -> Option<(&StickyCookie, Seed)> {
        self.view.cookie.as_ref().map(|(cookie, seed)| (cookie, *seed))
    }

    /// Tries first the server that `find` gives of those that may be chosen.
    pub(crate) fn keep(&mut self, find: impl FnOnce(&[Arc<Server>]) -> Option<Arc<Server>>) {
        self.kept = find(&self.view.servers);
    }

    /// Whether servers are compared by the time of their responses.
    pub(crate) fn weighs_latency(&self) -> bool {
        self.view.load == Load::Latency
    }

    /// Whether responses that are errors count against a server.
    pub(crate) fn counts_5xx(&self) -> bool {
        self.view.treatment.count_5xx
    }

    /// Passes a server over from now on.
    pub(crate) fn pass(&mut self, server: &Server) {
        self.passed.push(server.id());
    }

    /// Passes a server over from now on, if there is another.
    pub(crate) fn prefer_others(&mut self, server: &Server) {
        let is_other =
            |other: &Arc<Server>| other.id() != server.id() && !self.passed.contains(&other.id());
        if self.view.servers.iter().any(is_other) {
            self.kept = None;
            self.pass(server);
        }
    }

    /// For each server from the start: what `take` has of it, else a connection in a free slot,
    /// else one in the slot of an idle connection that gives way, else the next server. When all are
    /// full, waits for a slot; so it does if others wait already, whom it would overtake.
    pub(crate) async fn next<T>(
        &mut self,
        take: impl Fn(&Arc<Server>) -> Option<T>,
    ) -> Result<Found<T>, Refused> {
        // Whoever waits was here before; whoever has waited was called.
        let mut overtakes = !self.pool.line().is_empty() && self.patience.is_none();
        while self.timeouts < TIMEOUTS {
            let deadline = self.view.timeouts.connect;
            let pick = if overtakes { None } else { self.pick(&take) };
            overtakes = false;
            let slot = match pick {
                None => match self.slot_in_time().await? {
                    Some(slot) => slot,
                    None => continue,
                },
                Some(Pick::Taken(taken, server)) => {
                    self.leave();
                    self.pool.remember(&self.view, self.client, &server);
                    return Ok(Found::Taken(taken));
                }
                Some(Pick::Claimed(slot)) => slot,
                // A matter of moments: the deadline is for a worker that hangs.
                Some(Pick::FromIdle(server)) => {
                    match timeout(deadline, server.claim_from_idle()).await {
                        Ok(Some(slot)) => slot,
                        Ok(None) | Err(_) => {
                            self.full.push(server.id());
                            continue;
                        }
                    }
                }
            };
            self.leave();
            let dialing = dial(slot.server(), self.dialect, &self.key);
            match timed_out(timeout(deadline, dialing).await) {
                Ok(Dialed { stream, is_h2, is_told }) => {
                    slot.server().streaks().connected();
                    self.pool.remember(&self.view, self.client, slot.server());
                    return Ok(Found::Fresh(Upstream { stream, slot, is_h2, is_told }));
                }
                Err(error) if is_exhaustion(&error) => return Err(Refused::Exhausted(error)),
                Err(error) => {
                    self.failed(slot.server(), error);
                    if !self.view.treatment.retry.on_connect {
                        break;
                    }
                }
            }
        }
        Err(self.verdict())
    }

    fn pick<T>(&mut self, take: impl Fn(&Arc<Server>) -> Option<T>) -> Option<Pick<T>> {
        let pick = |server: &Arc<Server>| {
            if self.passed.contains(&server.id()) || self.full.contains(&server.id()) {
                return None;
            }
            take(server)
                .map(|taken| Pick::Taken(taken, Arc::clone(server)))
                .or_else(|| server.claim().map(Pick::Claimed))
                .or_else(|| server.may_free_a_slot().then(|| Pick::FromIdle(Arc::clone(server))))
        };
        if let Some(picked) = self.kept.as_ref().and_then(pick) {
            return Some(picked);
        }
        let start = *self.start.get_or_insert_with(|| self.pool.enter(&self.view, &self.key));
        let mut picked = None;
        if let Some(bound) = self.view.bound() {
            self.view.choose(start, |server| {
                picked = if bound.admits(server) { pick(server) } else { None };
                picked.is_some()
            });
        }
        if picked.is_none() {
            self.view.choose(start, |server| {
                picked = pick(server);
                picked.is_some()
            });
        }
        picked
    }

    /// Waits until there may be a slot. Gives one beyond the limits if that is in vain and the pool
    /// is set so.
    async fn slot_in_time(&mut self) -> Result<Option<Slot>, Refused> {
        if self.view.servers.iter().all(|server| self.passed.contains(&server.id())) {
            return Err(self.verdict());
        }
        let pool = self.pool.name().to_owned();
        let refused = if !self.stands() {
            Refused::Full { pool }
        } else if self.is_called().await {
            return Ok(None);
        } else {
            Refused::Late { pool }
        };
        self.place = None;
        match self.view.treatment.overflow {
            Overflow::Reject => Err(refused),
            Overflow::Any => self.slot_beyond().map(Some).ok_or(refused),
        }
    }

    /// Stays in line, or takes the last place. Whether there is one.
    fn stands(&mut self) -> bool {
        if let Some(place) = &self.place {
            place.stay(!self.passed.is_empty());
            return true;
        }
        let queue = self.view.treatment.queue;
        if self.patience.is_none() {
            self.patience = Instant::now().checked_add(queue.timeout);
        }
        self.place = self.pool.line().join(queue.size as usize);
        self.place.is_some()
    }

    /// Waits to be called, as long as it may. Things may be different then.
    async fn is_called(&mut self) -> bool {
        let Some((place, until)) = self.place.as_ref().zip(self.patience) else { return false };
        let called = timeout_at(until, place.called()).await.is_ok();
        self.full.clear();
        self.view = self.pool.view();
        self.kept.take_if(|server| !self.view.contains(server));
        called
    }

    fn leave(&mut self) {
        self.place.take().into_iter().for_each(Place::leave);
    }

    fn slot_beyond(&mut self) -> Option<Slot> {
        let start = *self.start.get_or_insert_with(|| self.pool.enter(&self.view, &self.key));
        let server = self.view.choose(start, |server| !self.passed.contains(&server.id()))?;
        Some(server.claim_beyond_the_limit())
    }

    fn failed(&mut self, server: &Arc<Server>, error: io::Error) {
        tracing::debug!(server = server.name(), %error, "connecting failed");
        server.streaks().refused();
        self.timeouts += u32::from(error.kind() == io::ErrorKind::TimedOut);
        self.pass(server);
        self.failure = Some((Arc::clone(server), error));
    }

    fn verdict(&mut self) -> Refused {
        let pool = self.pool.name().to_owned();
        let none_left = self.timeouts == TIMEOUTS
            || self.passed.len() >= self.view.servers.len()
            || !self.view.treatment.retry.on_connect;
        match self.failure.take() {
            None if self.view.servers.is_empty() => Refused::Empty { pool },
            Some((server, source)) if none_left => {
                Refused::Unreachable { pool, server: server.name().to_owned(), source }
            }
            None | Some(_) => Refused::Full { pool },
        }
    }
}

fn timed_out<T>(done: Result<io::Result<T>, Elapsed>) -> io::Result<T> {
    done.map_err(io::Error::from).flatten()
}

/// An open connection.
struct Dialed {
    stream: Stream,
    is_h2: bool,
    is_told: bool,
}

/// Opens a connection for the client of `key`, whom the server is told of if it is to be; under TLS
/// where it is spoken to so.
async fn dial(server: &Server, dialect: Dialect, key: &FlowKey<Ipv6Be>) -> io::Result<Dialed> {
    let mut stream = open(server.address()).await?;
    let is_told = server.tells_client();
    if dialect == Dialect::Raw && !is_told {
        return Ok(Dialed { stream: Stream::plain(stream), is_h2: false, is_told });
    }
    let speech = server.speech();
    if let Some(version) = speech.proxy_protocol {
        let header = Header::Proxied(Ends::of(key));
        stream.write_all(&proxy_protocol::compose(version, header)).await?;
    }
    let is_told = speech.proxy_protocol.is_some();
    let http1 = dialect == Dialect::Http1;
    let (stream, is_h2) = match &speech.tls {
        Some(tls) if dialect != Dialect::Raw => tls::connect(stream, tls, http1).await?,
        Some(_) | None => {
            let is_h2 = speech.protocol == ServerProtocol::Http2 && dialect == Dialect::Http;
            (Stream::plain(stream), is_h2)
        }
    };
    Ok(Dialed { stream, is_h2, is_told })
}

async fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_nodelay(true)?;
    socket.connect(address).await
}

/// Whether this host, not a server, is what failed.
pub(super) fn is_exhaustion(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM)
    )
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use tokio::net::TcpListener;

    use super::*;
    use crate::live;
    use crate::model::{Protocol, Queue, Sticky, Treatment};
    use crate::proxy::testing::view;

    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// The server that a new connection of the client goes to.
    async fn server_of(pool: &Pool) -> SocketAddr {
        let any = SocketAddr::new(CLIENT, 0);
        let key = live::flow_key(any, any, Protocol::Tcp);
        connect(pool, CLIENT, &key).await.unwrap().slot.server().address()
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_gives_up_when_the_queue_s_time_is_over() {
        let queue = Queue { size: 1, timeout: Duration::from_secs(5) };
        let treatment = Treatment { queue, ..Treatment::NONE };
        let any = SocketAddr::new(CLIENT, 0);
        let pool = Pool::new("p".to_owned(), View { treatment, ..view(&[any]) });
        pool.view().servers.iter().for_each(|server| server.set_limit(1));
        let _taken: Vec<_> = pool.view().servers.iter().filter_map(Server::claim).collect();
        let key = live::flow_key(any, any, Protocol::Tcp);
        let (began, waiting) = (Instant::now(), connect(&pool, CLIENT, &key));
        let (mut waiting, late) = (std::pin::pin!(waiting), Duration::from_secs(5));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        let beyond = connect(&pool, CLIENT, &key).await;
        assert!(matches!(beyond, Err(Refused::Full { .. })) && began.elapsed().is_zero());
        assert!(matches!(waiting.await, Err(Refused::Late { .. })) && began.elapsed() >= late);
        assert!(pool.line().is_empty());
    }

    #[tokio::test]
    async fn small_writes_to_a_server_do_not_wait_for_acknowledgements() {
        let server = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let stream = open(server.local_addr().unwrap()).await.unwrap();
        assert!(stream.nodelay().unwrap());
    }

    #[tokio::test]
    async fn a_client_of_a_sticky_pool_keeps_its_server_for_as_long_as_it_can_be_reached() {
        let listening = [(); 2].map(|()| std::net::TcpListener::bind((CLIENT, 0)).unwrap());
        let addresses = listening.each_ref().map(|socket| socket.local_addr().unwrap());
        let sticky = Some(Sticky { ttl: Duration::from_secs(60) });
        let pool = Pool::new("p".to_owned(), View { sticky, ..view(&addresses) });
        let kept = server_of(&pool).await;
        for _ in 0..5 {
            assert_eq!(server_of(&pool).await, kept);
        }
        let left = listening.into_iter().find(|l| l.local_addr().unwrap() != kept).unwrap();
        let other = left.local_addr().unwrap();
        assert_eq!(server_of(&pool).await, other, "the first one is closed");
        assert_eq!(server_of(&pool).await, other);
    }
}

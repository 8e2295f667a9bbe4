//! Load: connections that keep echoing, and clients that come and go.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::visit::{LIMIT, visit_within};
use super::{Namespace, wait_until};

/// Bytes of one exchange.
const MESSAGE: usize = 64;

/// Connections that stay open and exchange messages, all in one thread of the client.
pub struct Echoes {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

/// How many connections failed, by the number of their server (0: none had answered) and by what
/// they met.
pub type Lost = BTreeMap<(u8, String), usize>;

struct State {
    /// Exchanges of each connection so far.
    rounds: Vec<AtomicU64>,
    /// Number of the server of each connection.
    servers: Vec<AtomicU32>,
    /// What ended connections that should not have ended.
    lost: std::sync::Mutex<Vec<(usize, std::io::Error)>>,
    done: AtomicBool,
    abandoned: AtomicBool,
}

impl State {
    fn server(&self, place: usize) -> u8 {
        self.servers[place].load(Ordering::Relaxed) as u8
    }
}

impl Echoes {
    /// Opens `count` connections to `to`, which exchange a message every `pause`, and waits until
    /// each has been answered.
    #[track_caller]
    pub fn start(client: &Namespace, to: SocketAddr, count: usize, pause: Duration) -> Self {
        let state = Arc::new(State {
            rounds: (0..count).map(|_| AtomicU64::new(0)).collect(),
            servers: (0..count).map(|_| AtomicU32::new(0)).collect(),
            lost: std::sync::Mutex::default(),
            done: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
        });
        let inside = Arc::clone(&state);
        let thread = client.spawn_async(move || async move {
            let mut tasks = JoinSet::new();
            for place in 0..count {
                let state = Arc::clone(&inside);
                tasks.spawn(async move {
                    if let Err(error) = exchange(&state, place, to, pause).await {
                        state.lost.lock().unwrap().push((place, error));
                    }
                });
            }
            while !inside.abandoned.load(Ordering::Relaxed) {
                // Looks up now and then: a peer that is gone keeps its connections waiting.
                if let Ok(None) = timeout(Duration::from_millis(50), tasks.join_next()).await {
                    break;
                }
            }
        });
        let echoes = Self { state, thread: Some(thread) };
        echoes.wait_for_another_round();
        echoes
    }

    /// Waits until every connection has been answered once more, or is lost.
    #[track_caller]
    pub fn wait_for_another_round(&self) {
        self.wait_for_round(|_| true);
    }

    /// The same, of connections to these servers alone.
    #[track_caller]
    pub fn wait_for_another_round_of(&self, servers: &[u8]) {
        self.wait_for_round(|server| servers.contains(&server));
    }

    #[track_caller]
    fn wait_for_round(&self, is_meant: impl Fn(u8) -> bool) {
        let before = self.rounds();
        wait_until("every connection is answered", || {
            let lost: Vec<usize> =
                self.state.lost.lock().unwrap().iter().map(|(place, _)| *place).collect();
            self.rounds().into_iter().zip(&before).enumerate().all(|(place, (now, then))| {
                now > *then || lost.contains(&place) || !is_meant(self.state.server(place))
            })
        });
    }

    /// Connections to the server with a number.
    pub fn at_server(&self, n: u8) -> usize {
        let servers = self.state.servers.iter();
        servers.filter(|server| server.load(Ordering::Relaxed) == u32::from(n)).count()
    }

    /// Exchanges so far.
    pub fn exchanged(&self) -> u64 {
        self.rounds().iter().sum()
    }

    /// Exchanges so far with the server with a number.
    pub fn exchanged_with(&self, n: u8) -> u64 {
        let rounds = self.rounds().into_iter().enumerate();
        rounds.filter(|(place, _)| self.state.server(*place) == n).map(|(_, rounds)| rounds).sum()
    }

    /// Connections that have failed so far.
    pub fn lost(&self) -> Lost {
        let mut lost = Lost::new();
        for (place, error) in self.state.lost.lock().unwrap().iter() {
            *lost.entry((self.state.server(*place), error.to_string())).or_default() += 1;
        }
        lost
    }

    /// Ends the load, and says what was lost: whatever was sent is waited for.
    pub fn stop(mut self) -> Lost {
        self.end();
        self.lost()
    }

    fn rounds(&self) -> Vec<u64> {
        self.state.rounds.iter().map(|rounds| rounds.load(Ordering::Relaxed)).collect()
    }

    fn end(&mut self) {
        self.state.done.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Echoes {
    fn drop(&mut self) {
        self.state.abandoned.store(true, Ordering::Relaxed);
        self.end();
    }
}

async fn exchange(
    state: &State,
    place: usize,
    to: SocketAddr,
    pause: Duration,
) -> std::io::Result<()> {
    let late = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
    let mut stream = timeout(LIMIT, TcpStream::connect(to)).await.map_err(late)??;
    stream.write_all(b"x").await?;
    let mut greeting = [0; 2];
    timeout(LIMIT, stream.read_exact(&mut greeting)).await.map_err(late)??;
    state.servers[place].store(greeting[0].into(), Ordering::Relaxed);
    while !state.done.load(Ordering::Relaxed) {
        let round = state.rounds[place].load(Ordering::Relaxed);
        let mut message = [place as u8; MESSAGE];
        message[..8].copy_from_slice(&round.to_be_bytes());
        stream.write_all(&message).await?;
        let mut answer = [0; MESSAGE];
        timeout(LIMIT, stream.read_exact(&mut answer)).await.map_err(late)??;
        if answer != message {
            return Err(std::io::Error::other("another message came back"));
        }
        state.rounds[place].store(round + 1, Ordering::Relaxed);
        sleep(pause).await;
    }
    Ok(())
}

/// Clients that come one after the other, each with a connection of its own, until stopped.
pub struct Visits {
    done: Arc<AtomicBool>,
    made: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Vec<Visit>>>,
}

/// One client's connection.
#[derive(Clone, Copy, Debug)]
pub struct Visit {
    /// When it began.
    pub began: Instant,
    /// How long it took.
    pub took: Duration,
    /// The number of the server that answered; none: it failed.
    pub server: Option<u8>,
}

impl Visits {
    /// Starts `clients` at once, each pausing between connections; a connection that takes two
    /// seconds has failed.
    pub fn start(client: &Namespace, to: SocketAddr, clients: usize, pause: Duration) -> Self {
        Self::patient(client, to, clients, pause, Duration::from_secs(2))
    }

    /// The same with another limit.
    pub fn patient(
        client: &Namespace,
        to: SocketAddr,
        clients: usize,
        pause: Duration,
        limit: Duration,
    ) -> Self {
        let (done, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (0..clients).map(|_| {
            let (done, made) = (Arc::clone(&done), Arc::clone(&made));
            client.spawn(move || {
                let mut visits = Vec::new();
                while !done.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    let server = visit_within(to, limit);
                    visits.push(Visit { began, took: began.elapsed(), server });
                    made.fetch_add(1, Ordering::Relaxed);
                    super::pause(pause);
                }
                visits
            })
        });
        let threads = threads.collect();
        Self { done, made, threads }
    }

    /// Waits for so many more visits.
    #[track_caller]
    pub fn wait_for(&self, more: u64) {
        let before = self.made.load(Ordering::Relaxed);
        wait_until("clients come and go", || self.made.load(Ordering::Relaxed) >= before + more);
    }

    /// Ends the load, and tells of every visit.
    pub fn stop(self) -> Vec<Visit> {
        self.done.store(true, Ordering::Relaxed);
        self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    }
}

//! Load: connections that keep echoing, and clients that come and go.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::visit::{LIMIT, briefly};
use super::{Namespace, wait_until};

/// Bytes of one exchange.
const MESSAGE: usize = 64;

/// Connections that stay open and exchange messages, all in one thread of the client.
pub struct Echoes {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

struct State {
    /// Exchanges of each connection so far.
    rounds: Vec<AtomicU64>,
    /// Number of the server of each connection.
    servers: Vec<AtomicU32>,
    /// What ended connections that should not have ended.
    lost: std::sync::Mutex<Vec<(usize, std::io::Error)>>,
    done: AtomicBool,
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
            while tasks.join_next().await.is_some() {}
        });
        let echoes = Self { state, thread: Some(thread) };
        echoes.wait_for_another_round();
        echoes
    }

    /// Waits until every connection that is not lost has been answered once more.
    #[track_caller]
    pub fn wait_for_another_round(&self) {
        let before = self.rounds();
        wait_until("every connection is answered", || {
            let lost: Vec<usize> =
                self.state.lost.lock().unwrap().iter().map(|(place, _)| *place).collect();
            let pairs = self.rounds().into_iter().zip(&before).enumerate();
            pairs.into_iter().all(|(place, (now, then))| now > *then || lost.contains(&place))
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

    /// Connections that have failed so far: the numbers of their servers and what they met.
    pub fn lost(&self) -> Vec<(u8, String)> {
        let lost = self.state.lost.lock().unwrap();
        let server = |place: usize| self.state.servers[place].load(Ordering::Relaxed) as u8;
        lost.iter().map(|(place, error)| (server(*place), error.to_string())).collect()
    }

    /// Ends the load; all connections that are left have been answered to the end.
    pub fn stop(mut self) -> Vec<(u8, String)> {
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
    /// Starts `clients` at once, each pausing between connections.
    pub fn start(client: &Namespace, to: SocketAddr, clients: usize, pause: Duration) -> Self {
        let (done, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (0..clients).map(|_| {
            let (done, made) = (Arc::clone(&done), Arc::clone(&made));
            client.spawn(move || {
                let mut visits = Vec::new();
                while !done.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    let server = briefly(to);
                    visits.push(Visit { began, took: began.elapsed(), server });
                    made.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(pause);
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

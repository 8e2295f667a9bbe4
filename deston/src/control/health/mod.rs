//! Active checks: one task for each server that is probed.
//!
//! A probe opens a connection to the server, asks if it is told to, and closes it. It claims no slot
//! of the server's `max_connections`: a full server is not a dead one. Tasks say only when a server's condition
//! changes; what follows from that is the reconciler's.

mod probe;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};

pub use probe::{NetworkProbe, Probe, Subject, Target};

use super::servers::{Condition, ServerKey};
use crate::model::Checks;

/// Transitions that may wait for the reconciler; more make probes wait.
const EVENTS: usize = 256;

/// First probes are spread over this time or the interval, whichever is shorter.
const SPREAD: Duration = Duration::from_secs(1);

/// A server's condition changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The server.
    pub server: ServerKey,
    /// What it is now.
    pub condition: Condition,
    /// What the last probe met.
    pub reason: String,
}

/// The probes of all servers. Dropping it ends them.
#[derive(Debug)]
pub struct Probes<P> {
    probe: P,
    watched: BTreeMap<ServerKey, Watched>,
    tasks: JoinSet<()>,
    /// Names tasks, so that the last words of an ended one are not heard.
    started: u64,
    sender: mpsc::Sender<(u64, Transition)>,
    receiver: mpsc::Receiver<(u64, Transition)>,
}

#[derive(Debug)]
struct Watched {
    subject: Subject,
    task: AbortHandle,
    number: u64,
}

impl<P: Probe> Probes<P> {
    /// Probes nothing yet.
    pub fn new(probe: P) -> Self {
        let (sender, receiver) = mpsc::channel(EVENTS);
        let (watched, tasks) = (BTreeMap::new(), JoinSet::new());
        Self { probe, watched, tasks, started: 0, sender, receiver }
    }

    /// Probes exactly these servers. One that is probed with the same settings goes on undisturbed.
    pub fn follow(&mut self, wanted: impl Iterator<Item = (ServerKey, Subject, Condition)>) {
        let mut before = std::mem::take(&mut self.watched);
        for (server, subject, condition) in wanted {
            let watched = match before.remove(&server) {
                Some(watched) if watched.subject == subject => Some(watched),
                Some(watched) => {
                    watched.task.abort();
                    self.begin(&server, subject, condition)
                }
                None => self.begin(&server, subject, condition),
            };
            self.watched.extend(watched.map(|watched| (server, watched)));
        }
        for watched in before.values() {
            watched.task.abort();
        }
        while self.tasks.try_join_next().is_some() {}
    }

    /// The next transition. Cancel-safe.
    pub async fn next(&mut self) -> Transition {
        loop {
            let Some((number, transition)) = self.receiver.recv().await else {
                // `self.sender` keeps the channel open.
                return std::future::pending().await;
            };
            let watched = self.watched.get(&transition.server);
            if watched.is_some_and(|watched| watched.number == number) {
                return transition;
            }
        }
    }

    fn begin(
        &mut self,
        server: &ServerKey,
        subject: Subject,
        condition: Condition,
    ) -> Option<Watched> {
        let target = Target::of(server.address, &subject)?;
        let Checks { interval, timeout, rise, fall, .. } = *subject.health.checks()?;
        self.started += 1;
        let number = self.started;
        let streak = Streak { condition, rise, fall, against: 0 };
        let watch = Watch { server: server.clone(), target, interval, timeout, streak, number };
        let task = self.tasks.spawn(watch.run(self.probe.clone(), self.sender.clone()));
        Some(Watched { subject, task, number })
    }
}

/// The task of one server.
struct Watch {
    server: ServerKey,
    target: Target,
    interval: Duration,
    timeout: Duration,
    streak: Streak,
    number: u64,
}

impl Watch {
    async fn run(mut self, probe: impl Probe, transitions: mpsc::Sender<(u64, Transition)>) {
        sleep(jitter(self.interval.min(SPREAD))).await;
        loop {
            let next = Instant::now() + self.interval;
            let result = match timeout(self.timeout, probe.probe(&self.target)).await {
                Ok(result) => result,
                Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")),
            };
            if let Some(condition) = self.streak.add(&result) {
                let reason = result.err().map_or("it answers".to_owned(), |e| e.to_string());
                let transition = Transition { server: self.server.clone(), condition, reason };
                if transitions.send((self.number, transition)).await.is_err() {
                    return;
                }
            }
            sleep_until(next).await;
        }
    }
}

/// Results in a row.
#[derive(Clone, Copy, Debug)]
struct Streak {
    condition: Condition,
    rise: u32,
    fall: u32,
    /// Results in a row that speak against the condition.
    against: u32,
}

impl Streak {
    /// The new condition, if this result changes it.
    fn add(&mut self, result: &io::Result<()>) -> Option<Condition> {
        let (limit, other) = match (self.condition, result) {
            (Condition::Up, Ok(())) | (Condition::Down, Err(_)) => {
                self.against = 0;
                return None;
            }
            (Condition::Up, Err(_)) => (self.fall, Condition::Down),
            (Condition::Down, Ok(())) => (self.rise, Condition::Up),
        };
        self.against += 1;
        if self.against < limit {
            return None;
        }
        self.against = 0;
        self.condition = other;
        Some(other)
    }
}

/// A random duration below `most`.
fn jitter(most: Duration) -> Duration {
    let random = RandomState::new().hash_one(()) as u32;
    most.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

//! The control plane: what is configured, what is up, and who is told.
//!
//! Runs in the main thread, on its own runtime, beside the workers. It alone changes the model and
//! the live state that workers and the kernel read; signals and probes come in here, changes go
//! out. It carries no traffic and nothing on the path of a packet or request waits for it.

mod carrier;
mod choice;
mod flow_log;
mod health;
mod hold;
mod kernel;
mod outliers;
mod ports;
mod reconciler;
mod servers;
mod summary;
mod tables;
mod userspace;

use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use futures_util::future::maybe_done;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

pub use carrier::{Carrier, NoCarrier};
pub use choice::{FirstChoice, first_choice};
pub use health::{NetworkProbe, Probe, Probes, Subject, Target, Transition};
pub use hold::{Beside, Held};
pub use kernel::{KernelDatapath, NotTaken};
pub use ports::host_ports;
pub use reconciler::{Failure, Reconciler, Refused};
pub use servers::{Condition, NoIdentifier, ServerKey};
pub use summary::{Counts, Summary};
pub use userspace::UserspaceDatapath;

use crate::access::{AccessLog, Started};
use crate::config::{self, Report};
use crate::datapath::{self, Datapath, DatapathError, Failing};
use crate::model::{self, Model, OnStop};
use crate::proxy::Proxy;

/// How often it is looked at whether servers fail: none is ejected much later than it deserves.
const JUDGE: Duration = Duration::from_secs(1);

/// How often it is asked whether removed servers have finished.
const SWEEP: Duration = Duration::from_secs(5);

/// What an operator asks of a running Deston.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Stop: gracefully the first time, at once the second.
    Stop,
    /// Read the configuration again.
    Reload,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Connections finished or met their deadline.
    Drained,
    /// A second signal came before that.
    Forced,
}

/// Why nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The worker threads, or the access log's.
    #[error("cannot start the workers: {0}")]
    Workers(#[from] io::Error),
    /// Listeners, datapaths.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// A running Deston.
pub struct Control {
    path: PathBuf,
    reconciler: Reconciler<Proxy, Datapath>,
    probes: Probes<NetworkProbe>,
    /// Servers that fail their clients, by what the kernel sees.
    failing: mpsc::Receiver<Failing>,
    /// Reads the file in a thread of its own, since looking names up may take long; at most one.
    loading: JoinSet<Result<Model, Report>>,
    /// Whether the file may have changed since `loading` began.
    stale: bool,
    /// What is asked and answered; ends last.
    access_log: Option<AccessLog>,
}

impl Control {
    /// Starts workers and listeners. `path` is what a reload will read.
    pub fn start(path: &Path, model: Model) -> Result<Self, StartError> {
        let workers = model.runtime.workers;
        let (access_log, lanes, lines) = match AccessLog::start(&model.log, workers, io::stdout())?
        {
            Some(Started { writer, lanes, lines }) => (Some(writer), lanes, lines),
            None => (None, Vec::new(), None),
        };
        let proxy = Proxy::start_logging(workers, lanes)?;
        let flow_log = flow_log::writer(lines, model.log.sample);
        let (datapath, failing) = Datapath::new(model.kernel.clone(), flow_log);
        let reconciler = Reconciler::start(model, proxy, datapath)?;
        let mut probes = Probes::new(NetworkProbe);
        probes.follow(reconciler.probed());
        warn(&reconciler);
        let (path, loading) = (path.to_owned(), JoinSet::new());
        Ok(Self { path, reconciler, probes, failing, loading, stale: false, access_log })
    }

    /// Serves until it is told to stop, and then until connections have finished.
    pub async fn run(mut self, mut signals: mpsc::Receiver<Signal>) -> Ending {
        tracing::info!(workers = self.reconciler.model().runtime.workers, "ready");
        let mut judging = interval(JUDGE);
        judging.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                signal = signals.recv() => match signal {
                    Some(Signal::Reload) => self.load(),
                    Some(Signal::Stop) | None => break,
                },
                Some(loaded) = self.loading.join_next() => match loaded {
                    Ok(loaded) => self.loaded(loaded),
                    Err(error) => tracing::error!(%error, "reading the configuration failed"),
                },
                transition = self.probes.next() => self.note(&transition),
                Some(failing) = self.failing.recv() => self.reconciler.suspect(failing),
                now = judging.tick() => {
                    self.reconciler.judge(now);
                    if let Some(log) = &mut self.access_log {
                        log.tell_lost();
                    }
                }
                _ = sweep.tick() => self.reconciler.sweep(),
            }
        }
        self.stop(signals).await
    }

    fn load(&mut self) {
        if !self.loading.is_empty() {
            self.stale = true;
            return;
        }
        let path = self.path.clone();
        self.loading.spawn_blocking(move || config::load(&path));
    }

    fn loaded(&mut self, loaded: Result<Model, Report>) {
        self.reload(loaded);
        if std::mem::take(&mut self.stale) {
            self.load();
        }
    }

    fn reload(&mut self, loaded: Result<Model, Report>) {
        let model = match loaded {
            Ok(model) => model,
            Err(report) => {
                for line in report.lines() {
                    tracing::error!("{line}");
                }
                let errors = report.count();
                tracing::error!(
                    errors,
                    "not reloaded: the configuration is invalid; nothing was changed"
                );
                return;
            }
        };
        match self.reconciler.reload(model) {
            Ok(summary) => {
                tracing::info!(
                    listeners = %summary.listeners,
                    pools = %summary.pools,
                    servers = %summary.servers,
                    need_restart = summary.need_restart,
                    "reloaded"
                );
                warn(&self.reconciler);
            }
            Err(refused) => {
                for failure in &refused.failures {
                    tracing::error!("{failure}");
                }
                tracing::error!("not reloaded: nothing was changed");
            }
        }
        self.probes.follow(self.reconciler.probed());
    }

    fn note(&mut self, transition: &Transition) {
        let Transition { server: key, condition, reason } = transition;
        if !self.reconciler.set_condition(key, *condition) {
            return;
        }
        let (pool, server) = (key.pool.as_str(), key.address);
        let (up, of) = self.reconciler.up(pool);
        match condition {
            Condition::Up => tracing::info!(pool, %server, up, of, "server is up"),
            Condition::Down => tracing::warn!(pool, %server, reason, up, of, "server is down"),
        }
        if up == 0 {
            tracing::error!(
                pool,
                "no server is reachable: nobody is served until one answers its probes; check \
                 that the servers run and that this host can connect to them"
            );
        }
    }

    async fn stop(self, mut signals: mpsc::Receiver<Signal>) -> Ending {
        let deadline = self.reconciler.model().runtime.drain_timeout;
        let kernel = &self.reconciler.model().kernel;
        // What is not pinned ends with the process.
        let on_stop = if kernel.pin { kernel.on_stop } else { OnStop::Detach };
        tracing::info!(
            ?deadline,
            "stopping: connections may finish; a second signal ends them at once"
        );
        let (proxy, datapath) = self.reconciler.into_datapaths();
        let hurry = datapath.hurry();
        // The kernel's flows may finish before the proxy's, and before a second signal.
        let kernel =
            maybe_done(tokio::task::spawn_blocking(move || finish(datapath, deadline, on_stop)));
        let mut kernel = pin!(kernel);
        let draining = async { tokio::join!(proxy.drain(deadline), kernel.as_mut()).0 };
        let second = async {
            loop {
                match signals.recv().await {
                    Some(Signal::Stop) => return,
                    Some(Signal::Reload) => {}
                    None => std::future::pending().await,
                }
            }
        };
        tokio::select! {
            drained = draining => {
                told(kernel.take_output());
                tracing::info!(finished = drained.finished, aborted = drained.aborted, "stopped");
                Ending::Drained
            }
            () = second => {
                hurry.up();
                kernel.as_mut().await;
                told(kernel.take_output());
                tracing::warn!("stopped at once; open connections were cut");
                Ending::Forced
            }
        }
    }
}

/// Warns of what is valid and yet not as it should be.
fn warn(reconciler: &Reconciler<Proxy, Datapath>) {
    let notes = model::notes(reconciler.model(), host_ports().as_ref());
    let concerns = |note: &model::Note| {
        note.of_kernel_listener().is_none_or(|name| reconciler.is_in_kernel(name))
    };
    for note in notes.iter().filter(|note| note.is_warning() && concerns(note)) {
        tracing::warn!("{note}");
    }
}

/// Ends the kernel datapath, and says what the kernel has counted: lets its flows finish and detaches
/// it, or leaves it at work. Blocks.
fn finish(
    mut datapath: Datapath,
    deadline: Duration,
    on_stop: OnStop,
) -> Result<(), DatapathError> {
    let open = match on_stop {
        OnStop::Detach => datapath.drain(deadline)?,
        OnStop::Keep => 0,
    };
    let Some(report) = datapath.report()? else { return Ok(()) };
    tracing::info!("{}", counted(&report));
    datapath.stop(on_stop)?;
    match on_stop {
        OnStop::Detach => tracing::info!(open_flows = open, "the kernel datapath is detached"),
        OnStop::Keep => {
            tracing::info!("the kernel datapath goes on; `deston detach` takes it away");
        }
    }
    Ok(())
}

/// Says what went wrong with the end of the kernel datapath, if something did.
fn told(finished: Option<Result<Result<(), DatapathError>, tokio::task::JoinError>>) {
    match finished {
        None | Some(Ok(Ok(()))) => {}
        Some(Ok(Err(error))) => tracing::error!(%error, "the kernel datapath did not stop cleanly"),
        Some(Err(error)) => tracing::error!(%error, "the kernel datapath did not stop cleanly"),
    }
}

/// The kernel's counters, on one line: packets of each outcome that occurred, flows of each server,
/// and the SNAT ports in use towards it.
fn counted(report: &datapath::Report) -> String {
    let mut line = "the kernel counted packets:".to_owned();
    for (outcome, packets) in report.outcomes.iter().filter(|(_, packets)| *packets > 0) {
        line += &format!(" {}={packets}", outcome.name());
    }
    line += "; flows:";
    for (server, load) in &report.servers {
        line += &format!(" {server}={}", load.opened);
    }
    if !report.ports.is_empty() {
        line += "; SNAT ports:";
    }
    for (server, ports) in &report.ports {
        line += &format!(" {server}={}/{}", ports.used, ports.available);
    }
    line
}

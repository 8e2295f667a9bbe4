//! The handle that `control` holds: the datapath runs on a thread of its own.
//!
//! Asking the host about routes takes time, and a sweep of all flows takes longer: that goes on
//! beside health checks and reloads, which wait for it only where they ask for something meanwhile,
//! and for one sweep at most. The thread starts when the kernel is first asked for and ends with
//! the handle, which detaches everything.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc as answers;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use deston_common::limits::MAX_SERVERS;
use deston_common::server::{ServerId, ServerState};
use deston_common::table::Table;
use tokio::sync::{Notify, mpsc as requests};

use super::balancer::{Balancer, Chosen, DatapathError, Report};
use super::drain::Drain;
use super::flow_log::OnEnded;
use super::kernel;
use super::plan::{Reason, Role};
use super::suspects::Failing;
use crate::model::{self, Layer, Listener, OnStop};

/// Requests are answered one by one and their sender waits, so there is never more than one.
const QUEUE: usize = 1;

/// The kernel datapath.
pub struct Datapath {
    settings: model::Kernel,
    failing: requests::Sender<Failing>,
    /// Until the thread starts.
    on_ended: Option<OnEnded>,
    hurry: Arc<Notify>,
    running: Option<Running>,
}

/// Ends a drain at once.
#[derive(Debug)]
pub struct Hurry(Arc<Notify>);

impl Hurry {
    /// Does it.
    pub fn up(self) {
        self.0.notify_one();
    }
}

struct Running {
    requests: requests::Sender<Request>,
    thread: JoinHandle<()>,
}

struct Request {
    command: Command,
    answer: Answerer,
}

type Answerer = answers::SyncSender<Result<Answer, DatapathError>>;

enum Command {
    Carry(Arc<Listener>, Vec<SocketAddr>, Role),
    Reach(Arc<Listener>, Vec<SocketAddr>),
    PutServer(Box<(model::Pool, model::Server)>, ServerId, ServerState),
    DrainServer(ServerId, Duration),
    ForgetServer(ServerId),
    OpenFlows(ServerId),
    PutTable(Box<model::Pool>, Box<Table>),
    ForgetPool(String),
    Open(Arc<Listener>),
    Close(Arc<Listener>),
    Settle,
    Adopt,
    Remembered(String, SocketAddr),
    TakeOver,
    Drain(Duration),
    Stop(OnStop),
    Report,
}

enum Answer {
    Done,
    Chosen(Chosen),
    Flows(u64),
    Servers(Vec<(ServerId, SocketAddr)>),
    Server(Option<ServerId>),
    Report(Option<Report>),
}

impl Datapath {
    /// A datapath that has touched nothing yet, and what tells of servers that fail their clients.
    /// It tells of ended flows, if that is asked for.
    pub fn new(
        settings: model::Kernel,
        on_ended: Option<OnEnded>,
    ) -> (Self, requests::Receiver<Failing>) {
        let (failing, heard) = requests::channel(MAX_SERVERS as usize);
        let hurry = Arc::new(Notify::new());
        (Self { settings, failing, on_ended, hurry, running: None }, heard)
    }

    /// Whether and where the kernel can carry a layer 4 listener. If so, the programs are loaded and
    /// attached to its interfaces, which changes nothing for any packet until a listener is opened.
    /// They stay attached until [`settle`](Self::settle), or for as long as a listener needs them.
    pub fn carry(
        &mut self,
        listener: &Listener,
        servers: &[SocketAddr],
    ) -> Result<Chosen, DatapathError> {
        let Layer::L4(l4) = &listener.layer else { return Err(Reason::NotLayer4.into()) };
        let role = Role::Balance(l4.forwarding);
        self.choose(Command::Carry(Arc::new(listener.clone()), servers.to_vec(), role))
    }

    /// The same for the guard of a listener that userspace serves.
    pub fn guard(&mut self, listener: &Listener) -> Result<Chosen, DatapathError> {
        self.choose(Command::Carry(Arc::new(listener.clone()), Vec::new(), Role::Guard))
    }

    /// Makes ready for servers that are new to a listener that the kernel carries.
    pub fn reach(
        &mut self,
        listener: &Listener,
        servers: &[SocketAddr],
    ) -> Result<(), DatapathError> {
        self.tell(Command::Reach(Arc::new(listener.clone()), servers.to_vec()))
    }

    /// Writes a server of a pool, and keeps the way to it known from here on.
    pub fn put_server(
        &mut self,
        pool: &model::Pool,
        id: ServerId,
        server: &model::Server,
        state: ServerState,
    ) -> Result<(), DatapathError> {
        self.tell(Command::PutServer(Box::new((pool.clone(), server.clone())), id, state))
    }

    /// Takes a server out: it gets no new flow, and old ones that last longer than `within` are
    /// ended.
    pub fn drain_server(&mut self, id: ServerId, within: Duration) -> Result<(), DatapathError> {
        self.tell(Command::DrainServer(id, within))
    }

    /// Forgets a server that has no flow and that no table names.
    pub fn forget_server(&mut self, id: ServerId) -> Result<(), DatapathError> {
        self.tell(Command::ForgetServer(id))
    }

    /// Flows that name a server.
    pub fn open_flows(&self, id: ServerId) -> Result<u64, DatapathError> {
        self.count(Command::OpenFlows(id))
    }

    /// Swaps a pool's table, or changes its settings: a packet sees the old ones or the new ones.
    pub fn put_table(&mut self, pool: &model::Pool, table: &Table) -> Result<(), DatapathError> {
        self.tell(Command::PutTable(Box::new(pool.clone()), Box::new(*table)))
    }

    /// Forgets a pool that no open listener is served by.
    pub fn forget_pool(&mut self, pool: &str) -> Result<(), DatapathError> {
        self.tell(Command::ForgetPool(pool.to_owned()))
    }

    /// Opens a listener that can be carried, or changes its settings; its pool's servers and table
    /// must stand already.
    pub fn open(&mut self, listener: &Listener) -> Result<(), DatapathError> {
        self.tell(Command::Open(Arc::new(listener.clone())))
    }

    /// Closes a listener: it gets no new flow, and its old ones go on.
    pub fn close(&mut self, listener: &Listener) -> Result<(), DatapathError> {
        self.tell(Command::Close(Arc::new(listener.clone())))
    }

    /// Ends the preparations of [`carry`](Self::carry), applied or not: interfaces that nothing needs
    /// are detached.
    pub fn settle(&mut self) -> Result<(), DatapathError> {
        self.ask(Command::Settle).map(drop)
    }

    /// Closes every listener and waits until no TCP flow is open, at most for `deadline`; returns
    /// how many were. Blocks.
    pub fn drain(&mut self, deadline: Duration) -> Result<u64, DatapathError> {
        self.count(Command::Drain(deadline))
    }

    /// Ends a drain that is under way, as if its deadline had come.
    pub fn hurry(&self) -> Hurry {
        Hurry(Arc::clone(&self.hurry))
    }

    /// Ends the datapath: detaches it, or leaves it at work for the next process.
    pub fn stop(&mut self, on_stop: OnStop) -> Result<(), DatapathError> {
        self.ask(Command::Stop(on_stop)).map(drop)
    }

    /// The servers that the process before has left in the kernel, if it has left anything; all of
    /// it stays in force until [`take_over`](Self::take_over).
    pub fn adopt(&mut self) -> Result<Vec<(ServerId, SocketAddr)>, DatapathError> {
        // Without the privilege to look, there is none to adopt it either.
        let instances = kernel::instances().unwrap_or_default();
        if !instances.contains(&self.settings.instance) {
            return Ok(Vec::new());
        }
        self.begin()?;
        let answer = self.ask(Command::Adopt)?;
        Ok(if let Answer::Servers(servers) = answer { servers } else { Vec::new() })
    }

    /// The identifier that a server had in the process before.
    pub fn remembered(
        &self,
        pool: &str,
        address: SocketAddr,
    ) -> Result<Option<ServerId>, DatapathError> {
        let answer = self.ask(Command::Remembered(pool.to_owned(), address))?;
        Ok(if let Answer::Server(server) = answer { server } else { None })
    }

    /// Ends the adoption: what is not configured again is closed, and detached where nothing needs
    /// it.
    pub fn take_over(&mut self) -> Result<(), DatapathError> {
        self.ask(Command::TakeOver).map(drop)
    }

    /// What the kernel has counted; `None` if nothing was ever loaded.
    pub fn report(&self) -> Result<Option<Report>, DatapathError> {
        let answer = self.ask(Command::Report)?;
        Ok(if let Answer::Report(report) = answer { report } else { None })
    }

    fn count(&self, command: Command) -> Result<u64, DatapathError> {
        let answer = self.ask(command)?;
        Ok(if let Answer::Flows(flows) = answer { flows } else { 0 })
    }

    fn choose(&mut self, command: Command) -> Result<Chosen, DatapathError> {
        self.begin()?;
        let answer = self.ask(command)?;
        if let Answer::Chosen(chosen) = answer { Ok(chosen) } else { Err(DatapathError::Gone) }
    }

    /// Starts the thread if it does not run, and tells it.
    fn tell(&mut self, command: Command) -> Result<(), DatapathError> {
        self.begin()?;
        self.ask(command).map(drop)
    }

    fn begin(&mut self) -> Result<(), DatapathError> {
        if self.running.is_none() {
            let (settings, failing) = (self.settings.clone(), self.failing.clone());
            self.running =
                Some(start(settings, failing, self.on_ended.take(), Arc::clone(&self.hurry))?);
        }
        Ok(())
    }

    fn ask(&self, command: Command) -> Result<Answer, DatapathError> {
        let Some(running) = &self.running else { return Ok(Answer::Done) };
        let (answer, answered) = answers::sync_channel(1);
        let request = Request { command, answer };
        running.requests.try_send(request).map_err(|_| DatapathError::Gone)?;
        answered.recv().map_err(|_| DatapathError::Gone)?
    }
}

impl Drop for Datapath {
    fn drop(&mut self) {
        if let Some(Running { requests, thread }) = self.running.take() {
            // The thread ends when nobody can ask any more.
            drop(requests);
            if thread.join().is_err() {
                tracing::error!("the datapath thread had panicked");
            }
        }
    }
}

/// Starts the thread and waits until it is ready to be asked.
fn start(
    settings: model::Kernel,
    failing: requests::Sender<Failing>,
    on_ended: Option<OnEnded>,
    hurry: Arc<Notify>,
) -> Result<Running, DatapathError> {
    let (requests, incoming) = requests::channel(QUEUE);
    let (ready, started) = answers::sync_channel(1);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(DatapathError::Thread)?;
    let thread = thread::Builder::new()
        .name("deston-datapath".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                match Balancer::start(settings, failing, on_ended) {
                    Ok(balancer) => {
                        let _ = ready.send(Ok(()));
                        serve(balancer, incoming, &hurry).await;
                    }
                    Err(error) => drop(ready.send(Err(error))),
                }
            });
        })
        .map_err(DatapathError::Thread)?;
    started.recv().map_err(|_| DatapathError::Gone)??;
    Ok(Running { requests, thread })
}

/// Answers requests, and keeps up what is in the kernel, also while flows drain.
async fn serve(mut balancer: Balancer, mut incoming: requests::Receiver<Request>, hurry: &Notify) {
    let mut draining: Option<(Drain, Answerer)> = None;
    loop {
        tokio::select! {
            // Somebody waits for a request; upkeep waits for nobody.
            biased;
            request = incoming.recv() => match request {
                Some(Request { command: Command::Drain(limit), answer }) => {
                    match Drain::begin(&mut balancer, limit) {
                        Ok(drain) => draining = Some((drain, answer)),
                        Err(error) => drop(answer.send(Err(error))),
                    }
                }
                Some(Request { command, answer }) => {
                    // The asker may have given up, which changes nothing.
                    let _ = answer.send(obey(&mut balancer, command).await);
                }
                None => return balancer.abandon(),
            },
            // It may come before the drain that it is meant for, and waits for that.
            () = hurry.notified(), if draining.is_some() => {
                draining.iter_mut().for_each(|(drain, _)| drain.hurry());
            }
            () = due(&mut draining) => {
                let looked = draining.as_mut().map(|(drain, _)| drain.look(&balancer));
                let done = looked.and_then(Result::transpose);
                if let Some((done, (_, answer))) = done.and_then(|done| Some((done, draining.take()?))) {
                    let _ = answer.send(done.map(Answer::Flows));
                }
            }
            due = balancer.due() => {
                if let Err(error) = balancer.upkeep(due).await {
                    tracing::warn!(%error, "upkeep of the kernel datapath failed; it is tried again");
                }
            }
        }
    }
}

/// When to look after a drain; never, if there is none.
async fn due(draining: &mut Option<(Drain, Answerer)>) {
    match draining {
        Some((drain, _)) => drain.due().await,
        None => std::future::pending().await,
    }
}

async fn obey(balancer: &mut Balancer, command: Command) -> Result<Answer, DatapathError> {
    match command {
        Command::Carry(listener, servers, role) => {
            return balancer.carry(&listener, &servers, role).await.map(Answer::Chosen);
        }
        Command::Reach(listener, servers) => balancer.reach(&listener, &servers).await?,
        Command::PutServer(of, id, state) => {
            balancer.put_server(&of.0, id, &of.1, state).await?;
        }
        Command::DrainServer(id, within) => balancer.drain_server(id, within)?,
        Command::ForgetServer(id) => balancer.forget_server(id)?,
        Command::OpenFlows(id) => return Ok(Answer::Flows(balancer.open_flows(id)?)),
        Command::PutTable(pool, table) => balancer.put_table(&pool, &table)?,
        Command::ForgetPool(pool) => balancer.forget_pool(&pool)?,
        Command::Open(listener) => balancer.open(&listener).await?,
        Command::Close(listener) => balancer.close(&listener)?,
        Command::Settle => balancer.settle()?,
        Command::Adopt => return balancer.adopted().map(Answer::Servers),
        Command::Remembered(pool, address) => {
            return Ok(Answer::Server(balancer.remembered(&pool, address)));
        }
        Command::TakeOver => balancer.take_over()?,
        Command::Stop(on_stop) => balancer.stop(on_stop)?,
        // Answered when it is over, by `serve`.
        Command::Drain(_) => {}
        Command::Report => return Ok(Answer::Report(balancer.report()?)),
    }
    Ok(Answer::Done)
}

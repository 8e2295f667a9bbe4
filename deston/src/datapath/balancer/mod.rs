//! The kernel datapath as a whole: verbs on listeners, pools and servers by name.
//!
//! Write order, so that no packet meets a half-written listener: servers, then the pool's table,
//! then what [`contents`](super::contents) orders; removal in reverse. A removed listener stays,
//! closed, until its last flow has ended; a removed server stays in SERVERS while flows name it.

mod adopt;
mod carry;
mod known;
mod listeners;
mod servers;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use deston_common::conntrack::State;
use deston_common::flow::FlowEntry;
use deston_common::limits::{MAX_LISTENERS, MAX_POOLS};
use deston_common::net::TCP;
use deston_common::outcome::Outcome;
use deston_common::server::{Load, ServerId};
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

pub use carry::Chosen;
pub(super) use known::{Known, Open, Pools, l4, protocol};

use super::contents::{Contents, Facts, wanted};
use super::flow_log::{FlowLog, OnEnded};
use super::former::Former;
use super::host::{Host, HostError, Network};
use super::kernel::{AttachError, Attached, Hook, Kernel, KernelError};
use super::plan::{self, Plan, Reason, Role};
use super::ports::{PortUse, Warnings};
use super::refusals::Refusals;
use super::suspects::{Failing, Suspects};
use crate::model::{self, Listener};

/// How often the counts of servers are read, and what is overdue is ended.
const SECOND: Duration = Duration::from_secs(1);

/// How often idle flows are looked for, and next hops asked for again.
const SWEEP: Duration = Duration::from_secs(5);

/// How long the listeners of one reload wait for next hops: a neighbour that is there answers within
/// milliseconds.
pub(super) const PATIENCE: Duration = Duration::from_millis(300);

/// Why the kernel datapath cannot do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// The listener cannot be carried.
    #[error(transparent)]
    Reason(#[from] Reason),
    /// The kernel refused a program or a map operation.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// An interface refused the program.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The host could not be asked.
    #[error(transparent)]
    Host(#[from] HostError),
    /// More pools than the kernel has room for.
    #[error("more than {MAX_POOLS} pools")]
    TooManyPools,
    /// More listeners than the kernel has room for, with those that finish.
    #[error("more than {MAX_LISTENERS} listeners, with those that finish their flows")]
    TooManyListeners,
    /// Nothing was planned for the listener.
    #[error("nothing is ready for listener {0}")]
    NotReady(String),
    /// Somebody has detached it by force.
    #[error(
        "this instance was taken out of the kernel (`deston detach --force`): start deston again to \
         have it back"
    )]
    TakenAway,
    /// The datapath's thread could not be started.
    #[error("starting the datapath's thread: {0}")]
    Thread(io::Error),
    /// The datapath's thread has ended.
    #[error("the datapath's thread has ended")]
    Gone,
}

/// The kernel datapath of this process; dropped, it detaches.
pub(super) struct Balancer {
    pub(super) settings: model::Kernel,
    pub(super) host: Host,
    /// The host as it was last looked at.
    pub(super) network: Network,
    pub(super) second: Interval,
    pub(super) sweep: Interval,
    /// Loaded once a listener can be carried.
    kernel: Option<Kernel>,
    /// Nothing is loaded again.
    is_stopped: bool,
    /// Somebody has detached it by force, which nothing undoes but a new start.
    pub(super) is_taken_away: bool,
    /// What its maps hold.
    contents: Contents,
    pub(super) attached: Vec<Attached>,
    /// Interfaces that have taken no program since traffic moved to them.
    pub(super) refused: BTreeSet<(u32, Hook)>,
    /// What was made ready since the last reload was settled.
    pub(super) planned: Vec<Planned>,
    /// How long listeners that are opened may wait for next hops, until the reload is settled.
    pub(super) patience: Duration,
    pools: Pools,
    pub(super) servers: BTreeMap<ServerId, Known>,
    pub(super) listeners: Vec<Open>,
    /// What the process before has left.
    pub(super) former: Option<Former>,
    /// Whether all of that is still in force.
    pub(super) is_adopting: bool,
    pub(super) refusals: Refusals,
    suspects: Suspects,
    pub(super) port_warnings: Warnings,
    /// Of each server by name, as of the last sweep.
    pub(super) port_use: BTreeMap<String, PortUse>,
    /// Lists have changed: until then it is looked for flows that they deny.
    pub(super) recheck: Option<Instant>,
    /// Whom it tells of servers that fail.
    failing: mpsc::Sender<Failing>,
    /// Whom it tells of ended flows, until the programs are loaded.
    on_ended: Option<OnEnded>,
    flow_log: Option<FlowLog>,
}

/// What was made ready for a listener.
pub(super) struct Planned {
    listener: Arc<Listener>,
    role: Role,
    pub(super) plan: Plan,
}

/// What the kernel has counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Packets of each outcome.
    pub outcomes: Vec<(Outcome, u64)>,
    /// Flows of each server, by name.
    pub servers: Vec<(String, Load)>,
    /// SNAT ports towards each server, by name, as of the last sweep.
    pub ports: Vec<(String, PortUse)>,
}

impl Balancer {
    /// Connects to the host; loads and attaches nothing.
    pub(super) fn start(
        settings: model::Kernel,
        failing: mpsc::Sender<Failing>,
        on_ended: Option<OnEnded>,
    ) -> Result<Self, DatapathError> {
        let every = |period| {
            let mut tick = interval(period);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            tick
        };
        Ok(Self {
            settings,
            host: Host::connect()?,
            network: Network::default(),
            second: every(SECOND),
            sweep: every(SWEEP),
            kernel: None,
            is_stopped: false,
            is_taken_away: false,
            contents: Contents::default(),
            attached: Vec::new(),
            refused: BTreeSet::new(),
            planned: Vec::new(),
            patience: PATIENCE,
            pools: Pools::default(),
            servers: BTreeMap::new(),
            listeners: Vec::new(),
            former: None,
            is_adopting: false,
            refusals: Refusals::default(),
            suspects: Suspects::default(),
            port_warnings: Warnings::default(),
            port_use: BTreeMap::new(),
            recheck: None,
            failing,
            on_ended,
            flow_log: None,
        })
    }

    /// Writes what the maps lack, and removes what they have too much of.
    pub(super) fn fill(&mut self) -> Result<(), DatapathError> {
        let facts = Facts {
            listeners: &self.listeners,
            servers: &self.servers,
            pools: &self.pools,
            network: &self.network,
            attached: &self.attached.iter().map(Attached::index).collect(),
            flood_gate: self.settings.flood_gate,
            csum_ipv6: plan::has_csum_ipv6(),
            flow_log: self.flow_log.is_some(),
            former: self.former.as_ref(),
        };
        let Some(kernel) = &mut self.kernel else { return Ok(()) };
        Ok(self.contents.become_in(&wanted(&facts), kernel)?)
    }

    /// TCP flows whose server's socket is open.
    pub(super) fn open_tcp_flows(&self) -> Result<u64, DatapathError> {
        let Some(kernel) = &self.kernel else { return Ok(0) };
        let is_open =
            |flow: &FlowEntry<_>| flow.key.protocol == TCP && flow.state & State::RELEASED == 0;
        Ok(kernel.flows().filter(is_open).count() as u64)
    }

    /// Places that flows hold at all servers together, TCP and UDP.
    pub(super) fn places(&self) -> Result<u64, DatapathError> {
        let Some(kernel) = &self.kernel else { return Ok(0) };
        let mut places = 0;
        for id in self.servers.keys() {
            places += kernel.load_of(*id)?.in_use;
        }
        Ok(places)
    }

    /// `None` if nothing was ever loaded.
    pub(super) fn report(&self) -> Result<Option<Report>, DatapathError> {
        let Some(kernel) = &self.kernel else { return Ok(None) };
        let outcomes = Outcome::ALL.into_iter().zip(kernel.outcomes()?).collect();
        let servers = self
            .servers
            .iter()
            .map(|(id, known)| Ok((known.name.clone(), kernel.load_of(*id)?)))
            .collect::<Result<_, KernelError>>()?;
        let ports = self.port_use.iter().map(|(name, ports)| (name.clone(), *ports)).collect();
        Ok(Some(Report { outcomes, servers, ports }))
    }

    /// The programs, loaded if they are not yet.
    pub(super) fn kernel(&mut self) -> Result<&mut Kernel, DatapathError> {
        if self.kernel.is_none() && !self.is_stopped {
            let mut kernel = Kernel::start(&self.settings)?;
            if let Some(on_ended) = self.on_ended.take() {
                self.flow_log = Some(FlowLog::start(&mut kernel, on_ended)?);
            }
            if kernel.is_adopted() {
                self.adopt(&kernel)?;
            }
            self.kernel = Some(kernel);
        }
        self.kernel.as_mut().ok_or(DatapathError::Gone)
    }

    /// The programs, if they are loaded.
    pub(super) fn loaded(&self) -> Option<&Kernel> {
        self.kernel.as_ref()
    }
}

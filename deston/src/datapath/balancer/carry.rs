//! Making ready: what a listener needs is planned, loaded and attached, before any packet is
//! touched.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{Balancer, DatapathError, Planned};
use crate::datapath::former::Former;
use crate::datapath::host::native_xdp;
use crate::datapath::kernel::{AttachError, Hook};
use crate::datapath::plan::{self, Question, Reason, Role, Survey, Wanted};
use crate::model::{Listener, Ports};

/// Where the kernel carries a listener.
#[derive(Debug)]
pub struct Chosen {
    /// The hook.
    pub hook: Hook,
    /// Why not at XDP, where `auto` has not taken it.
    pub why_not_xdp: Option<Reason>,
}

impl Balancer {
    /// Finds out whether and where the kernel can carry a listener, loads the programs and attaches
    /// them.
    pub(in crate::datapath) async fn carry(
        &mut self,
        listener: &Arc<Listener>,
        servers: &[SocketAddr],
        role: Role,
    ) -> Result<Chosen, DatapathError> {
        let wanted = Wanted::by(listener)?;
        let survey = self.survey(listener, servers).await?;
        let obstacle = match self.attach_for(listener, &survey, role, wanted) {
            // What the driver says of itself is not always so: `auto` goes on to the next hook.
            Err(DatapathError::Attach(
                error @ (AttachError::Taken(_) | AttachError::NotNative(_) | AttachError::Mtu(_)),
            )) if wanted == Wanted::Best => Reason::Attach(error),
            other => return other,
        };
        let chosen = self.attach_for(listener, &survey, role, Wanted::Only(Hook::Tc))?;
        Ok(Chosen { why_not_xdp: Some(obstacle), ..chosen })
    }

    /// Makes ready for servers that are new to a listener that is carried: at the hook it has.
    pub(in crate::datapath) async fn reach(
        &mut self,
        listener: &Arc<Listener>,
        servers: &[SocketAddr],
    ) -> Result<(), DatapathError> {
        let open = self.listeners.iter().find(|open| open.is(listener));
        let not_ready = || DatapathError::NotReady(listener.name.clone());
        let (role, wanted) =
            open.map(|open| (open.role, Wanted::Only(open.hook))).ok_or_else(not_ready)?;
        let survey = self.survey(listener, servers).await?;
        self.attach_for(listener, &survey, role, wanted).map(drop)
    }

    async fn survey(
        &mut self,
        listener: &Listener,
        servers: &[SocketAddr],
    ) -> Result<Survey, DatapathError> {
        let servers = servers.iter().map(|server| server.ip().to_canonical());
        let survey = plan::survey(&self.host, listener.address.ip(), servers).await?;
        self.network = survey.network.clone();
        Ok(survey)
    }

    /// Plans, attaches to the plan's interfaces and keeps it until `settle`. On an error, what this
    /// call attached is detached.
    fn attach_for(
        &mut self,
        listener: &Arc<Listener>,
        survey: &Survey,
        role: Role,
        wanted: Wanted,
    ) -> Result<Chosen, DatapathError> {
        let question = Question {
            address: listener.address.ip(),
            interfaces: listener.interfaces(),
            any_port: listener.ports() == Ports::Any,
            role,
            wanted,
            mode: self.settings.xdp_mode,
        };
        let mut plan = plan::plan(&question, survey, |link| native_xdp(link.index))?;
        // After the plan: what no privilege would mend is the better thing to know.
        plan::check_system()?;
        let before = self.attached.len();
        for link in plan.links() {
            if let Err(error) = self.attach_to(link, plan.hook) {
                for attached in self.attached.split_off(before) {
                    self.kernel()?.detach(attached)?;
                }
                return Err(error);
            }
        }
        let chosen = Chosen { hook: plan.hook, why_not_xdp: plan.why_not_xdp.take() };
        self.planned.push(Planned { listener: Arc::clone(listener), role, plan });
        Ok(chosen)
    }

    /// The hooks at which packets of a pool's servers must be seen: those of its listeners, open or
    /// made ready.
    pub(in crate::datapath) fn hooks_of(&self, pool: &str) -> Vec<Hook> {
        let open = self.listeners.iter().filter(|open| open.listener.pool == pool);
        let planned = self.planned.iter().filter(|planned| planned.listener.pool == pool);
        let hooks = open.map(|open| open.hook).chain(planned.map(|planned| planned.plan.hook));
        let mut hooks: Vec<Hook> = hooks.collect();
        if pool.is_empty() {
            // Nobody knows whose servers these were.
            hooks.extend(self.former.iter().flat_map(Former::hooks));
            hooks.extend(self.listeners.iter().map(|open| open.hook));
        }
        hooks.sort_unstable();
        hooks.dedup();
        hooks
    }
}

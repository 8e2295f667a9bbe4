//! Beginning where the process before ended, and ending so that the next one can.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use deston_common::server::ServerId;

use super::{Balancer, DatapathError, Known};
use crate::datapath::former::{self, Former};
use crate::datapath::kernel::Kernel;
use crate::datapath::upkeep::now;
use crate::model::OnStop;

impl Balancer {
    /// Takes note of what is in the maps already.
    pub(super) fn adopt(&mut self, kernel: &Kernel) -> Result<(), DatapathError> {
        let former = Former::read(kernel)?;
        for (id, entry) in former::servers(kernel)? {
            let address = SocketAddr::new(entry.address.into(), entry.port.to_host());
            let mut known = Known {
                name: address.to_string(),
                address,
                pool: String::new(),
                entry,
                interfaces: BTreeSet::new(),
                sources: BTreeSet::new(),
                ends: None,
            };
            known.note_way();
            self.servers.insert(id, known);
        }
        tracing::info!(
            listeners = former.contents.listeners.len(),
            servers = self.servers.len(),
            "adopted what the process before left in the kernel"
        );
        self.contents = former.contents.clone();
        self.former = Some(former);
        self.is_adopting = true;
        Ok(())
    }

    /// Loads the programs, and gives the servers that the process before left in the maps.
    pub(in crate::datapath) fn adopted(
        &mut self,
    ) -> Result<Vec<(ServerId, SocketAddr)>, DatapathError> {
        self.kernel()?;
        let former = self.servers.iter().filter(|(_, known)| known.is_former());
        Ok(former.map(|(id, known)| (*id, known.address)).collect())
    }

    /// Ends the adoption: what is not configured again takes no new flow, and is detached where
    /// nothing needs it.
    pub(in crate::datapath) fn take_over(&mut self) -> Result<(), DatapathError> {
        if let Some(former) = &mut self.former {
            former.close();
        }
        self.is_adopting = false;
        self.fill()?;
        if let Some(kernel) = &mut self.kernel {
            kernel.take_over()?;
        }
        self.detach_unneeded()
    }

    /// Detaches, or leaves everything at work for the next process.
    pub(in crate::datapath) fn stop(&mut self, on_stop: OnStop) -> Result<(), DatapathError> {
        self.is_stopped = true;
        let mut attached = std::mem::take(&mut self.attached);
        let Some(mut kernel) = self.kernel.take() else { return Ok(()) };
        if let (Some(flow_log), OnStop::Detach) = (self.flow_log.take(), on_stop) {
            // Flows go with the maps: each is ended first, so that the log has it.
            for attached in attached.drain(..) {
                kernel.detach(attached)?;
            }
            flow_log.stopping();
            kernel.expire(now(), |_| true)?;
        }
        Ok(kernel.stop(attached, on_stop)?)
    }

    /// Ends without having been told to stop. What was adopted and not yet taken over goes on as the
    /// process before left it.
    pub(in crate::datapath) fn abandon(&mut self) {
        let on_stop = if self.is_adopting { OnStop::Keep } else { OnStop::Detach };
        if let Err(error) = self.stop(on_stop) {
            tracing::error!(%error, "the kernel datapath did not stop cleanly");
        }
    }
}

//! Taking away everything of an instance.

use super::attach::Attached;
use super::link::LinkName;
use super::pin::{self, Instance, PinError};
use super::pinned::remove_link;
use super::{Kernel, KernelError};
use crate::model::OnStop;

/// What was taken away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// What was detached, such as `xdp of eth0`.
    pub links: Vec<String>,
    /// Maps that were pinned.
    pub maps: usize,
}

impl Kernel {
    /// Ends the datapath as `[kernel] on_stop` says. `keep` is for what is pinned: it goes on
    /// forwarding.
    pub fn stop(mut self, attached: Vec<Attached>, on_stop: OnStop) -> Result<(), KernelError> {
        if on_stop == OnStop::Keep && self.instance.is_some() || self.is_taken_away() {
            return Ok(());
        }
        for attached in attached {
            self.detach(attached)?;
        }
        if let Some(instance) = self.instance.take() {
            remove(instance)?;
        }
        Ok(())
    }

    /// Whether somebody has taken away what this process has pinned, and with it all that is
    /// attached ([`remove_instance`] with `force`).
    pub fn is_taken_away(&self) -> bool {
        self.instance.as_ref().is_some_and(|instance| !instance.is_ours())
    }
}

/// Takes away all that an instance has in the kernel, whether or not a process of it ever ends:
/// what is attached is detached, and the maps are forgotten with all flows. `None` if there is no
/// such instance. With `force`, also while a process holds it.
pub fn remove_instance(name: &str, force: bool) -> Result<Option<Removed>, PinError> {
    // A name that is none, such as `..`, is not among them.
    if !pin::instances()?.iter().any(|there| there == name) {
        return Ok(None);
    }
    match Instance::existing(name) {
        Ok(None) => Ok(None),
        Ok(Some(instance)) => remove(instance).map(Some),
        Err(PinError::Held(_)) if force => remove(Instance::of_another(name)).map(Some),
        Err(error) => Err(error),
    }
}

/// Takes away all of an instance that is ours.
pub(super) fn remove(instance: Instance) -> Result<Removed, PinError> {
    let mut removed = Removed::default();
    for home in instance.homes()? {
        let links = home.join("links");
        for file in pin::entries(&links)? {
            if let Ok(name) = file.parse::<LinkName>() {
                remove_link(name, &links.join(&file))?;
                removed.links.push(described(name));
            }
        }
        removed.maps += pin::entries(&home.join("maps"))?.len();
    }
    instance.remove()?;
    Ok(removed)
}

fn described(link: LinkName) -> String {
    let (kind, index) = (link.kind.name(), link.index);
    match nix::net::if_::if_indextoname(index) {
        Ok(interface) if link.is_here() => format!("{kind} of {}", interface.to_string_lossy()),
        _ => format!("{kind} of interface {index}, of another network namespace or gone"),
    }
}

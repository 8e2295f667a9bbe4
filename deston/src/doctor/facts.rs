//! Everything that the checks judge by, gathered once.

use std::sync::Arc;

use super::{bpffs, firewall, forwarding, jit, kernel, modules, orphans, privileges, reverse_path};
use crate::control::host_ports;
use crate::datapath::{Examined, HostError, Interface, Site, examine};
use crate::model::{DatapathChoice, Forwarding, HostPorts, L4, Layer, Listener, Model};

/// What is configured, and what the host is like.
#[derive(Debug)]
pub struct Facts {
    pub(super) model: Model,
    pub(super) site: Site,
    pub(super) kernel: kernel::Kernel,
    /// Whether programs are translated, where that is seen.
    pub(super) jit: Option<bool>,
    pub(super) modules: [modules::Module; 2],
    pub(super) privileges: privileges::Privileges,
    pub(super) bpffs: bpffs::Bpffs,
    /// Other instances whose process is gone.
    pub(super) orphans: Vec<String>,
    pub(super) forwards: forwarding::Forwards,
    /// Interfaces whose reverse paths are looked at strictly, by name.
    pub(super) strict: Vec<String>,
    pub(super) ports: Option<HostPorts>,
    /// Whether the host has packet filters.
    pub(super) firewall: bool,
}

impl Facts {
    /// Looks at the host, as far as `model` is concerned. Changes nothing.
    pub async fn gather(model: Model) -> Result<Self, HostError> {
        let site = examine(&model).await?;
        let names = site.interfaces.values().map(|interface| interface.name.clone());
        let kernel = kernel::gather();
        Ok(Self {
            jit: jit::gather(),
            modules: modules::gather(&kernel.release),
            kernel,
            privileges: privileges::gather(),
            bpffs: bpffs::gather(),
            orphans: orphans::gather(&model.kernel.instance),
            forwards: forwarding::gather(),
            strict: reverse_path::gather(names),
            ports: host_ports(),
            firewall: firewall::gather(),
            site,
            model,
        })
    }

    /// Listeners that the kernel may carry, not only guard, with their layer 4 settings.
    pub(super) fn listeners(&self) -> impl Iterator<Item = (&Examined, &L4)> {
        self.site.listeners.iter().filter_map(|examined| match &examined.listener.layer {
            Layer::L4(l4) => Some((examined, l4)),
            Layer::L7(_) => None,
        })
    }

    /// Listeners whose packets the kernel would send on.
    pub(super) fn carried(&self) -> impl Iterator<Item = &Examined> {
        self.listeners().map(|(examined, _)| examined)
    }

    /// Listeners with a forwarding.
    pub(super) fn with(&self, wanted: Forwarding) -> impl Iterator<Item = &Examined> {
        self.listeners()
            .filter(move |(_, l4)| l4.forwarding == wanted)
            .map(|(examined, _)| examined)
    }

    /// The interface of an index.
    pub(super) fn interface(&self, index: u32) -> Option<&Interface> {
        self.site.interfaces.get(&index)
    }

    /// The name of an interface.
    pub(super) fn name(&self, index: u32) -> &str {
        self.interface(index).map_or("?", |interface| &interface.name)
    }
}

/// Whether userspace serves a listener that the kernel cannot carry.
pub(super) fn is_optional(listener: &Arc<Listener>) -> bool {
    listener.datapath() == DatapathChoice::Auto && listener.needs_kernel().is_none()
}

//! Which datapath carries a listener.

use super::kernel::KernelDatapath;
use crate::datapath::{Chosen, DatapathError, Hook};
use crate::model::{DatapathChoice, KernelOnly, Layer, Listener, Pool, Server, UserspaceOnly};

/// What carries a listener's traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// The worker threads of this process.
    Userspace,
    /// The kernel's programs at a hook.
    Kernel(Hook),
}

impl Carrier {
    /// What it is called in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Userspace => "userspace",
            Self::Kernel(Hook::Xdp) => "xdp",
            Self::Kernel(Hook::Tc) => "tc",
        }
    }
}

/// The kernel must carry a listener and cannot.
#[derive(Debug, thiserror::Error)]
pub enum NoCarrier {
    /// It was asked for by name, or carries the listener already, and cannot go on.
    #[error(
        "listener {listener}: datapath \"{asked}\" cannot be had: {source}; write \"auto\" or \
         \"userspace\" to be served without it (a listener that runs in the kernel moves only by a \
         restart)"
    )]
    Asked {
        /// The listener.
        listener: String,
        /// Its datapath.
        asked: DatapathChoice,
        /// Why not.
        source: Box<DatapathError>,
    },
    /// It is carried by the kernel, which cannot do what it asks from now on.
    #[error("listener {listener} runs in the kernel, and {needs}: it moves only by a restart")]
    Moved {
        /// The listener.
        listener: String,
        /// What only userspace can do.
        needs: UserspaceOnly,
    },
    /// Userspace cannot do what the listener asks.
    #[error(
        "listener {listener}: {needs} needs the kernel datapath, which cannot be had: {source}"
    )]
    Needed {
        /// The listener.
        listener: String,
        /// What only the kernel can do.
        needs: KernelOnly,
        /// Why not.
        source: Box<DatapathError>,
    },
}

/// Whether a listener that the kernel carries can stay there.
pub(super) fn stays(listener: &Listener, pool: &[Server]) -> Result<(), NoCarrier> {
    match listener.needs_userspace(pool) {
        None => Ok(()),
        Some(needs) => Err(NoCarrier::Moved { listener: listener.name.clone(), needs }),
    }
}

/// Decides what carries a listener, and logs why it is not the faster one.
pub(super) fn choose(
    listener: &Listener,
    pool: &Pool,
    kernel: &mut impl KernelDatapath,
) -> Result<Carrier, NoCarrier> {
    let choice = match &listener.layer {
        Layer::L4(l4) => l4.datapath,
        Layer::L7(_) => return Ok(Carrier::Userspace),
    };
    if choice == DatapathChoice::Userspace {
        return Ok(Carrier::Userspace);
    }
    if let Some(reason) = listener.needs_userspace(&pool.servers) {
        tracing::info!(
            listener = listener.name,
            datapath = "userspace",
            why_not_kernel = %reason,
            "datapath chosen"
        );
        return Ok(Carrier::Userspace);
    }
    match (kernel.carry(listener, &pool.servers), choice) {
        (Ok(Chosen { hook, why_not_xdp }), _) => {
            let carrier = Carrier::Kernel(hook);
            let (listener, datapath) = (&listener.name, carrier.name());
            match why_not_xdp {
                Some(reason) => {
                    tracing::info!(listener, datapath, why_not_xdp = %reason, "datapath chosen");
                }
                None => tracing::info!(listener, datapath, "datapath chosen"),
            }
            Ok(carrier)
        }
        (Err(reason), DatapathChoice::Auto) if listener.needs_kernel().is_none() => {
            tracing::info!(
                listener = listener.name,
                datapath = "userspace",
                why_not_kernel = %reason,
                "datapath chosen"
            );
            Ok(Carrier::Userspace)
        }
        (Err(reason), _) => Err(refused(listener, reason)),
    }
}

/// Makes the kernel ready for servers that are new to a listener it carries, or says why it cannot.
pub(super) fn extend(
    listener: &Listener,
    servers: &[Server],
    kernel: &mut impl KernelDatapath,
) -> Result<(), NoCarrier> {
    kernel.reach(listener, servers).map_err(|reason| refused(listener, reason))
}

/// Who lets clients of a listener of userspace in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guarded {
    /// The kernel's programs first.
    InKernel,
    /// Userspace alone.
    InUserspace,
}

/// Whether the guard of a listener of userspace has something to do that the kernel could do: it
/// would count the connections of trusted proxies, which the rate limit spares.
pub(super) fn is_for_kernel(listener: &Listener) -> bool {
    let spares = listener.guard.rate_limit.is_some() && !listener.origin.trusted_proxies.is_empty();
    !listener.guard.is_open() && !spares
}

/// Makes the kernel ready to guard a listener of userspace, if there is something to guard and the
/// kernel can. Only where it was asked for by name is it an error if not.
pub(super) fn guard(
    listener: &Listener,
    kernel: &mut impl KernelDatapath,
) -> Result<Guarded, NoCarrier> {
    let choice = listener.datapath();
    if !is_for_kernel(listener) || choice == DatapathChoice::Userspace {
        return Ok(Guarded::InUserspace);
    }
    match (kernel.guard(listener), choice) {
        (Ok(Chosen { hook, .. }), _) => {
            let hook = Carrier::Kernel(hook).name();
            tracing::info!(listener = listener.name, hook, "guarded in the kernel");
            Ok(Guarded::InKernel)
        }
        (Err(reason), DatapathChoice::Xdp | DatapathChoice::Tc) => Err(refused(listener, reason)),
        (Err(reason), DatapathChoice::Auto | DatapathChoice::Userspace) => {
            tracing::debug!(listener = listener.name, %reason, "not guarded in the kernel");
            Ok(Guarded::InUserspace)
        }
    }
}

fn refused(listener: &Listener, reason: DatapathError) -> NoCarrier {
    let (name, source) = (listener.name.clone(), reason.into());
    match listener.needs_kernel() {
        Some(needs) => NoCarrier::Needed { listener: name, needs, source },
        None => NoCarrier::Asked { listener: name, asked: listener.datapath(), source },
    }
}

//! Which datapath carries a listener.

use super::kernel::KernelDatapath;
use crate::datapath::{Asked, DatapathError};
use crate::model::{DatapathChoice, KernelOnly, Layer, Listener, Pool, Server};

/// What carries a listener's traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// The worker threads of this process.
    Userspace,
    /// The kernel's programs.
    Kernel,
}

impl Carrier {
    /// What it is called in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Userspace => "userspace",
            Self::Kernel => "xdp",
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
    /// Guards of layer 7 listeners run in userspace alone.
    #[error(
        "listener {listener}: a guard in the kernel, `datapath = \"{asked}\"` of layer 7, is not \
         available in this version; write \"auto\" or \"userspace\" to have it in userspace"
    )]
    GuardNotYet {
        /// The listener.
        listener: String,
        /// Its datapath.
        asked: DatapathChoice,
    },
}

/// Decides what carries a listener, and logs why it is not the faster one.
pub(super) fn choose(
    listener: &Listener,
    pool: &Pool,
    kernel: &mut impl KernelDatapath,
) -> Result<Carrier, NoCarrier> {
    let is_l7 = matches!(listener.layer, Layer::L7(_));
    match listener.datapath() {
        DatapathChoice::Userspace => Ok(Carrier::Userspace),
        asked @ (DatapathChoice::Xdp | DatapathChoice::Tc) if is_l7 => {
            Err(NoCarrier::GuardNotYet { listener: listener.name.clone(), asked })
        }
        DatapathChoice::Auto if is_l7 => Ok(Carrier::Userspace),
        DatapathChoice::Auto => match kernel.carry(listener, &pool.servers, Asked::Auto) {
            Ok(()) => {
                tracing::info!(listener = listener.name, datapath = "xdp", "datapath chosen");
                Ok(Carrier::Kernel)
            }
            Err(reason) => {
                if let Some(needs) = listener.needs_kernel() {
                    let listener = listener.name.clone();
                    return Err(NoCarrier::Needed { listener, needs, source: reason.into() });
                }
                tracing::info!(
                    listener = listener.name,
                    datapath = "userspace",
                    why_not_xdp = %reason,
                    "datapath chosen"
                );
                Ok(Carrier::Userspace)
            }
        },
        DatapathChoice::Xdp | DatapathChoice::Tc => {
            insist(listener, &pool.servers, kernel)?;
            Ok(Carrier::Kernel)
        }
    }
}

/// Makes the kernel ready to carry a listener with some servers, or says why it cannot.
pub(super) fn insist(
    listener: &Listener,
    servers: &[Server],
    kernel: &mut impl KernelDatapath,
) -> Result<(), NoCarrier> {
    kernel.carry(listener, servers, Asked::Explicitly).map_err(|source| {
        let (asked, source) = (listener.datapath(), source.into());
        let name = listener.name.clone();
        match listener.needs_kernel() {
            Some(needs) => NoCarrier::Needed { listener: name, needs, source },
            None => NoCarrier::Asked { listener: name, asked, source },
        }
    })
}

//! Which datapath carries a listener.

use super::kernel::Kernel;
use crate::datapath::Asked;
use crate::model::{DatapathChoice, Layer, Listener, Pool, Server};

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

/// The kernel was asked for by name, or carries the listener already, and cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "listener {listener}: datapath \"xdp\" cannot be had: {reason}; write \"auto\" or \"userspace\" \
     to be served without it (a listener that runs in the kernel moves only by a restart)"
)]
pub struct NoCarrier {
    listener: String,
    reason: String,
}

/// Decides what carries a listener, and logs why it is not the faster one.
pub(super) fn choose(
    listener: &Listener,
    pool: &Pool,
    kernel: &mut impl Kernel,
) -> Result<Carrier, NoCarrier> {
    let choice = match &listener.layer {
        Layer::L4(l4) => l4.datapath,
        Layer::L7(_) => return Ok(Carrier::Userspace),
    };
    match choice {
        DatapathChoice::Userspace => Ok(Carrier::Userspace),
        DatapathChoice::Auto => match kernel.carry(listener, &pool.servers, Asked::Auto) {
            Ok(()) => {
                tracing::info!(listener = listener.name, datapath = "xdp", "datapath chosen");
                Ok(Carrier::Kernel)
            }
            Err(reason) => {
                tracing::info!(
                    listener = listener.name,
                    datapath = "userspace",
                    why_not_xdp = reason,
                    "datapath chosen"
                );
                Ok(Carrier::Userspace)
            }
        },
        DatapathChoice::Xdp => {
            insist(listener, &pool.servers, kernel)?;
            Ok(Carrier::Kernel)
        }
    }
}

/// Makes the kernel ready to carry a listener with some servers, or says why it cannot.
pub(super) fn insist(
    listener: &Listener,
    servers: &[Server],
    kernel: &mut impl Kernel,
) -> Result<(), NoCarrier> {
    kernel
        .carry(listener, servers, Asked::Explicitly)
        .map_err(|reason| NoCarrier { listener: listener.name.clone(), reason })
}

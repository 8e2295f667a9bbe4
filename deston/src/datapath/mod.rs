//! The kernel datapath: loading our programs, filling their maps, following the host's routes.
//!
//! The only place that knows aya. It offers verbs of the domain to `control` (put a server, swap a
//! table, open a listener) and knows neither the configuration nor the proxy.

mod balancer;
mod contents;
mod drain;
mod former;
mod handle;
mod host;
mod interfaces;
mod kernel;
mod plan;
mod refusals;
mod suspects;
mod upkeep;

pub use balancer::{Chosen, DatapathError, Report};
pub use handle::{Datapath, Hurry};
pub use host::HostError;
#[cfg(feature = "testing")]
pub use kernel::{Action, Ran};
pub use kernel::{
    AttachError, Attached, Event, Events, Hook, Kernel, KernelError, PinError, Removed, Sizes,
    Swept, instances, remove_instance,
};
pub use plan::Reason;
pub use suspects::Failing;

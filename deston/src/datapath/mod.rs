//! The kernel datapath: loading our programs, filling their maps, following the host's routes.
//!
//! The only place that knows aya. It offers verbs of the domain to `control` (put a server, swap a
//! table, open a listener) and knows neither the configuration nor the proxy.

mod balancer;
mod drain;
mod expiry;
mod handle;
mod host;
mod interfaces;
mod kernel;
mod plan;
mod refusals;
#[cfg(feature = "testing")]
mod run;
mod upkeep;

pub use balancer::{DatapathError, Report};
pub use expiry::Swept;
pub use handle::Datapath;
pub use host::HostError;
pub use kernel::{AttachError, Attached, Kernel, KernelError};
pub use plan::{Asked, Reason};
#[cfg(feature = "testing")]
pub use run::{Action, Ran};

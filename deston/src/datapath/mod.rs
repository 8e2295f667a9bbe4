//! The kernel datapath: loading our programs, filling their maps, following the host's routes.
//!
//! The only place that knows aya. It offers verbs of the domain to `control` (put a server, swap a
//! table, open a listener) and knows neither the configuration nor the proxy.

mod balancer;
mod expiry;
mod host;
mod kernel;
mod plan;
mod run;

pub use balancer::{Balancer, DatapathError, ServerReport};
pub use expiry::Swept;
pub use host::HostError;
pub use kernel::{AttachError, Attached, Kernel, KernelError};
pub use plan::{Asked, Plan, Reason};
pub use run::{Action, Ran};

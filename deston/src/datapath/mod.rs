//! The kernel datapath: loading our programs, filling their maps, following the host's routes.
//!
//! The only place that knows aya. It offers verbs of the domain to `control` (put a server, swap a
//! table, open a listener) and knows neither the configuration nor the proxy.

mod expiry;
mod kernel;
mod run;

pub use expiry::Swept;
pub use kernel::{AttachError, Attached, Kernel, KernelError};
pub use run::{Action, Ran};

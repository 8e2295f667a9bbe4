//! The kernel datapath: loading our programs, filling their maps, following the host's routes.
//!
//! The only place that knows aya. It offers verbs of the domain to `control` (put a server, swap a
//! table, open a listener) and knows neither the configuration nor the proxy.

mod balancer;
mod contents;
mod drain;
mod examine;
mod flow_log;
mod former;
mod handle;
mod host;
mod interfaces;
mod kernel;
mod plan;
mod ports;
mod refusals;
mod suspects;
mod sweep;
mod upkeep;

pub use balancer::{Chosen, DatapathError, Report};
pub use examine::{
    Examined, Interface, NativeXdp, Out, Peer, Program, Reach, ServerWay, Site, examine,
};
pub use flow_log::OnEnded;
pub use handle::{Datapath, Hurry};
pub use host::HostError;
#[cfg(feature = "testing")]
pub use kernel::{Action, Ran, linked_programs};
pub use kernel::{
    AttachError, Attached, EndedFlows, Event, Hook, Kernel, KernelError, Maps, NoMaps, PinError,
    Removed, Sizes, Swept, TCX_KERNEL, Trace, TraceError, has_bpf, instances, orphans,
    remove_instance,
};
pub use plan::{OLDEST_KERNEL, Reason, kernel_version};
pub use ports::{PortUse, port_use};
pub use suspects::Failing;

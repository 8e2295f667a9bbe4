//! The loaded programs and typed handles to their maps.
//!
//! Callers speak of `IpAddr` and of widened entries; which map of a pair that means is decided here.

mod adopt;
mod attach;
mod detach;
mod error;
mod events;
mod expiry;
mod family;
mod flow_map;
mod flows;
mod layout;
mod link;
mod listeners;
mod maps;
mod names;
mod open;
mod pin;
mod pinned;
mod read;
mod servers;
mod stages;
mod sys;
#[cfg(feature = "testing")]
mod testing;
mod trace;

pub use attach::{Attached, Hook, TCX_KERNEL};
pub use detach::{Removed, remove_instance};
pub use error::{AttachError, KernelError};
pub use events::{EndedFlows, Event};
pub use expiry::Swept;
pub use maps::Maps;
pub use open::{NoMaps, has_bpf};
pub(super) use open::{has_xdp_link, program_name};
pub use pin::{PinError, instances, orphans};
#[cfg(feature = "testing")]
pub use testing::{Action, Ran, linked_programs};
pub use trace::{Trace, TraceError};

use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};

use aya::Ebpf;
#[cfg(feature = "testing")]
use aya::maps::{MapData, RingBuf};
use aya::programs::{SchedClassifier, Xdp};
use deston_common::limits::{DEFAULT_FLOWS, DEFAULT_HALF_OPEN};

use self::events::Endings;
use self::link::LinkName;
use self::names::Names;
use self::pin::Instance;
use self::pinned::Deferred;
use self::stages::Stages;

/// The programs, built by `cargo xtask ebpf` and checked in, so that users need no BPF toolchain.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../bpf/deston.bpf.o");

/// The balancer at the XDP hook.
pub(super) const XDP: &str = "deston_xdp";
/// The balancer at the TC ingress hook.
const TC: &str = "deston_tc";
/// Ends idle flows of IPv4; never attached.
const EXPIRE4: &str = "deston_expire4";
/// Ends idle flows of IPv6; never attached.
const EXPIRE6: &str = "deston_expire6";

/// Room for flows, of each address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Promoted flows (`[kernel] flows`).
    pub flows: u32,
    /// Half-open flows (`[kernel] half_open`).
    pub half_open: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { flows: DEFAULT_FLOWS, half_open: DEFAULT_HALF_OPEN }
    }
}

/// The programs and maps of this process. What is pinned outlives it, and so does what is attached
/// then; the rest goes when it is dropped.
pub struct Kernel {
    ebpf: Ebpf,
    maps: Maps,
    /// Until a reader takes it.
    endings: Option<Endings>,
    #[cfg(feature = "testing")]
    traces: RingBuf<MapData>,
    names: Names,
    /// Where maps and links are pinned, if they are.
    instance: Option<Instance>,
    is_adopted: bool,
    /// Pinned links that are in use.
    claimed: BTreeSet<LinkName>,
    /// Links to programs of another layout that are replaced by `take_over`.
    deferred: Vec<Deferred>,
    stages: Stages,
}

/// What can be done with maps alone can be done with a kernel: it is its maps, and the programs at
/// work on them.
impl Deref for Kernel {
    type Target = Maps;

    fn deref(&self) -> &Maps {
        &self.maps
    }
}

impl DerefMut for Kernel {
    fn deref_mut(&mut self) -> &mut Maps {
        &mut self.maps
    }
}

fn xdp<'a>(ebpf: &'a Ebpf, name: &'static str) -> Result<&'a Xdp, KernelError> {
    let program = ebpf.program(name).ok_or(KernelError::Missing(name))?;
    program.try_into().map_err(error::program(name))
}

fn xdp_mut<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Xdp, KernelError> {
    let program = ebpf.program_mut(name).ok_or(KernelError::Missing(name))?;
    program.try_into().map_err(error::program(name))
}

#[cfg(feature = "testing")]
fn tc<'a>(ebpf: &'a Ebpf, name: &'static str) -> Result<&'a SchedClassifier, KernelError> {
    let program = ebpf.program(name).ok_or(KernelError::Missing(name))?;
    program.try_into().map_err(error::program(name))
}

fn tc_mut<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut SchedClassifier, KernelError> {
    let program = ebpf.program_mut(name).ok_or(KernelError::Missing(name))?;
    program.try_into().map_err(error::program(name))
}

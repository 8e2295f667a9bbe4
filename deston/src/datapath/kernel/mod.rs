//! The loaded programs and typed handles to their maps.
//!
//! Callers speak of `IpAddr` and of widened entries; which map of a pair that means is decided here.

mod attach;
mod error;
mod events;
mod expiry;
mod family;
mod flows;
mod listeners;
mod maps;
mod servers;
#[cfg(feature = "testing")]
mod testing;

pub use attach::{Attached, Hook};
pub use error::{AttachError, KernelError};
pub use events::Event;
pub use expiry::Swept;
#[cfg(feature = "testing")]
pub use testing::{Action, Ran};

use aya::maps::{MapData, RingBuf};
use aya::programs::{SchedClassifier, Xdp};
use aya::{Ebpf, EbpfLoader};
use deston_common::limits::{DEFAULT_FLOWS, DEFAULT_HALF_OPEN};
use deston_common::net::{Ipv4Be, Ipv6Be};

use self::maps::{Pairs, Shared};

/// The programs, built by `cargo xtask ebpf` and checked in, so that users need no BPF toolchain.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../bpf/deston.bpf.o");

/// The balancer at the XDP hook.
const XDP: &str = "deston_xdp";
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

/// The kernel datapath of this process. Dropping it detaches and forgets everything.
pub struct Kernel {
    ebpf: Ebpf,
    v4: Pairs<Ipv4Be>,
    v6: Pairs<Ipv6Be>,
    shared: Shared,
    events: RingBuf<MapData>,
}

impl Kernel {
    /// Loads the programs, with room for so many flows. Needs CAP_BPF, CAP_NET_ADMIN and, for the
    /// clock and map pointers, CAP_PERFMON; root has them.
    pub fn load(sizes: Sizes) -> Result<Self, KernelError> {
        let mut loader = EbpfLoader::new();
        for name in ["FLOWS4", "FLOWS6", "REPLIES4", "REPLIES6"] {
            loader.map_max_entries(name, sizes.flows);
        }
        for name in ["HALF_FLOWS4", "HALF_FLOWS6", "HALF_REPLIES4", "HALF_REPLIES6"] {
            loader.map_max_entries(name, sizes.half_open);
        }
        let mut ebpf = loader.load(OBJECT)?;
        for name in [XDP, EXPIRE4, EXPIRE6] {
            xdp_mut(&mut ebpf, name)?.load().map_err(error::program(name))?;
        }
        tc_mut(&mut ebpf, TC)?.load().map_err(error::program(TC))?;
        Ok(Self {
            v4: Pairs::take_v4(&mut ebpf)?,
            v6: Pairs::take_v6(&mut ebpf)?,
            shared: Shared::take(&mut ebpf)?,
            events: maps::take(&mut ebpf, "EVENTS")?,
            ebpf,
        })
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

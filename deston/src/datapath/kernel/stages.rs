//! The later stages of the pipeline: programs that the attached ones go on in by tail calls.
//!
//! The kernel empties an array of programs when no process holds it and nothing pins it, so where
//! links outlive the process, these arrays do too. Each load has arrays of its own: a program never
//! goes on in a stage of another build. Those of the build before are unpinned by
//! [`Kernel::take_over`], when nothing is attached any more that uses them.

use std::path::Path;

use aya::Ebpf;
use aya::maps::{Map, MapError, ProgramArray};

use super::error::{self, map};
use super::pin;
use super::{Kernel, KernelError, tc_mut, xdp_mut};

/// The programs of the XDP hook, in the order of the places in their array.
pub(super) const XDP_STAGES: [&str; 8] = [
    "xdp_slow4",
    "xdp_slow6",
    "xdp_begin4",
    "xdp_begin6",
    "xdp_icmp4",
    "xdp_icmp6",
    "xdp_answer4",
    "xdp_answer6",
];
/// The programs of the TC hook.
pub(super) const TC_STAGES: [&str; 8] = [
    "tc_slow4",
    "tc_slow6",
    "tc_begin4",
    "tc_begin6",
    "tc_icmp4",
    "tc_icmp6",
    "tc_answer4",
    "tc_answer6",
];

/// The arrays of one load, by name.
pub(super) struct Stages([(&'static str, Map); 2]);

const XDP_ARRAY: &str = "STAGES_XDP";
const TC_ARRAY: &str = "STAGES_TC";

impl Stages {
    /// Loads the programs and fills the arrays.
    pub(super) fn load(ebpf: &mut Ebpf) -> Result<Self, KernelError> {
        let mut take = |name| ebpf.take_map(name).ok_or(KernelError::Missing(name));
        let (mut xdp, mut tc) = (take(XDP_ARRAY)?, take(TC_ARRAY)?);
        let mut array = ProgramArray::try_from(&mut xdp).map_err(map(XDP_ARRAY))?;
        for (place, name) in (0..).zip(XDP_STAGES) {
            let program = xdp_mut(ebpf, name)?;
            program.load().map_err(error::program(name))?;
            let fd = program.fd().map_err(error::program(name))?;
            array.set(place, fd, 0).map_err(map(XDP_ARRAY))?;
        }
        let mut array = ProgramArray::try_from(&mut tc).map_err(map(TC_ARRAY))?;
        for (place, name) in (0..).zip(TC_STAGES) {
            let program = tc_mut(ebpf, name)?;
            program.load().map_err(error::program(name))?;
            let fd = program.fd().map_err(error::program(name))?;
            array.set(place, fd, 0).map_err(map(TC_ARRAY))?;
        }
        Ok(Self([(XDP_ARRAY, xdp), (TC_ARRAY, tc)]))
    }

    /// Pins the arrays in a directory, each under a name of its own.
    pub(super) fn pin(&self, directory: &Path) -> Result<(), KernelError> {
        for ((name, array), file) in self.0.iter().zip(self.files()?) {
            let failed = |error| MapError::PinError { name: Some((*name).to_owned()), error };
            array.pin(directory.join(file)).map_err(failed).map_err(map(name))?;
        }
        Ok(())
    }

    /// The arrays' names as pins: the kernel gives no number twice.
    fn files(&self) -> Result<Vec<String>, KernelError> {
        let file = |(name, array): &(&'static str, Map)| {
            let Map::ProgramArray(data) = array else { return Err(KernelError::Missing(name)) };
            let info = data.info().map_err(map(name))?;
            Ok(format!("{name}-{}", info.id()))
        };
        self.0.iter().map(file).collect()
    }
}

impl Kernel {
    /// Forgets the arrays of other builds.
    pub(super) fn forget_other_stages(&self) -> Result<(), KernelError> {
        let Some(instance) = &self.instance else { return Ok(()) };
        let own = self.stages.files()?;
        for file in pin::entries(&instance.stages())? {
            if !own.contains(&file) {
                pin::unpin(&instance.stages().join(file))?;
            }
        }
        Ok(())
    }
}

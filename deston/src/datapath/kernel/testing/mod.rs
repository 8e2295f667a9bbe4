//! What specs and measurements ask of the programs (feature `testing`): runs on one packet, attached
//! or not (the kernel's BPF_PROG_TEST_RUN), what the verifier said, and every map to write and read.

mod maps;

use std::sync::OnceLock;
use std::time::Duration;

use aya::programs::{
    ProgramInfo, SchedClassifier, TcAttachType, TestRun, TestRunOptions, TestRunResult,
};

use super::error::program;
use super::link::Kind;
use super::stages::{TC_STAGES, XDP_STAGES};
use super::{AttachError, Attached, EXPIRE4, EXPIRE6, Hook, Kernel, KernelError, TC, XDP, tc, xdp};

/// The embedded object, or the one in the file that DESTON_BPF_OBJECT names: so specs are shown to
/// notice a fault in the programs (`cargo xtask mutants`).
pub(super) fn object() -> &'static [u8] {
    static NAMED: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    let named = NAMED.get_or_init(|| {
        let file = std::env::var_os("DESTON_BPF_OBJECT")?;
        std::fs::read(file).ok()
    });
    named.as_deref().unwrap_or(super::OBJECT)
}

/// Room beyond the packet for what the programs put before it or answer with.
const ROOM: usize = 1_536;

/// What the kernel would do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Drop it.
    Drop,
    /// Hand it on: to the next program, or to the network stack.
    Pass,
    /// Send it out by an interface.
    Redirect,
    /// Send it out by the interface it came in by (XDP alone).
    Transmit,
    /// Anything else: the programs never ask for it.
    Other(u32),
}

/// One run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// What became of the packet.
    pub action: Action,
    /// The packet as it left the program.
    pub packet: Vec<u8>,
    /// Mean time of one run.
    pub duration: Duration,
}

impl Kernel {
    /// The programs by name, the balancers first.
    pub const PROGRAMS: [&'static str; 20] = {
        let mut programs = [XDP; 20];
        let mut place = 0;
        while place < 8 {
            programs[4 + place] = XDP_STAGES[place];
            programs[12 + place] = TC_STAGES[place];
            place += 1;
        }
        (programs[1], programs[2], programs[3]) = (TC, EXPIRE4, EXPIRE6);
        programs
    };

    /// Instructions the verifier walked to accept a program (since Linux 5.16).
    pub fn verified_instructions(&self, name: &'static str) -> Result<Option<u32>, KernelError> {
        Ok(self.info(name)?.verified_instruction_count())
    }

    /// Bytes of machine code that the kernel made of a program.
    pub fn machine_code(&self, name: &'static str) -> Result<u32, KernelError> {
        Ok(self.info(name)?.size_jitted())
    }

    /// The kernel's number of a program.
    pub fn program_id(&self, name: &'static str) -> Result<u32, KernelError> {
        Ok(self.info(name)?.id())
    }

    /// The kernel's numbers of all maps that the programs use.
    pub fn map_ids(&self) -> Result<Vec<u32>, KernelError> {
        let mut ids = std::collections::BTreeSet::new();
        for name in Self::PROGRAMS {
            let used = self.info(name)?.map_ids().map_err(program(name))?;
            ids.extend(used.unwrap_or_default());
        }
        Ok(ids.into_iter().collect())
    }

    fn info(&self, name: &'static str) -> Result<ProgramInfo, KernelError> {
        let info = if name == TC || TC_STAGES.contains(&name) {
            tc(&self.ebpf, name)?.info()
        } else {
            xdp(&self.ebpf, name)?.info()
        };
        info.map_err(program(name))
    }

    /// Attaches at TC as Linux before 6.6 does: by a filter.
    pub fn attach_filter(&mut self, interface: &str) -> Result<Attached, AttachError> {
        self.attach_as(interface, Kind::Filter)
    }

    /// Runs the balancer at a hook on `packet`.
    pub fn run(&self, hook: Hook, packet: &[u8]) -> Result<Ran, KernelError> {
        self.run_repeatedly(hook, packet, 1)
    }

    /// Runs the balancer at a hook on `packet`, `repeat` times on its own output.
    pub fn run_repeatedly(
        &self,
        hook: Hook,
        packet: &[u8],
        repeat: u32,
    ) -> Result<Ran, KernelError> {
        self.run_with(hook, packet, TestRunOptions { repeat, ..TestRunOptions::new() })
    }

    /// Runs the balancer at a hook on a packet that came with a context: a `struct xdp_md` or
    /// `struct __sk_buff` (linux/bpf.h) as the kernel takes it, which tells the interface it came in
    /// by and, at TC, the size of its segments.
    pub fn run_in_context(
        &self,
        hook: Hook,
        packet: &[u8],
        context: &[u8],
    ) -> Result<Ran, KernelError> {
        let options = TestRunOptions { ctx_in: Some(context), ..TestRunOptions::new() };
        self.run_with(hook, packet, options)
    }

    fn run_with(
        &self,
        hook: Hook,
        packet: &[u8],
        options: TestRunOptions<'_>,
    ) -> Result<Ran, KernelError> {
        let mut out = vec![0; packet.len() + ROOM];
        let options = TestRunOptions { data_in: Some(packet), data_out: Some(&mut out), ..options };
        let TestRunResult { return_value, duration, data_size_out, .. } = match hook {
            Hook::Xdp => xdp(&self.ebpf, XDP)?.test_run(options).map_err(program(XDP)),
            Hook::Tc => tc(&self.ebpf, TC)?.test_run(options).map_err(program(TC)),
        }?;
        out.truncate(data_size_out as usize);
        Ok(Ran { action: action(hook, return_value), packet: out, duration })
    }
}

/// The numbers of the programs that TC links put at an interface's ingress (Linux 6.6 and later).
pub fn linked_programs(interface: &str) -> Result<Vec<u32>, KernelError> {
    let (_, programs) =
        SchedClassifier::query_tcx(interface, TcAttachType::Ingress).map_err(program(TC))?;
    Ok(programs.iter().map(ProgramInfo::id).collect())
}

/// The numbers of `enum xdp_action` (linux/bpf.h) and TC_ACT_* (linux/pkt_cls.h).
fn action(hook: Hook, verdict: u32) -> Action {
    /// TC_ACT_UNSPEC, TCX_NEXT: the next program decides.
    const NEXT: u32 = u32::MAX;
    match (hook, verdict) {
        (Hook::Xdp, 1) | (Hook::Tc, 2) => Action::Drop,
        (Hook::Xdp, 2) | (Hook::Tc, 0 | NEXT) => Action::Pass,
        (Hook::Xdp, 3) => Action::Transmit,
        (Hook::Xdp, 4) | (Hook::Tc, 7) => Action::Redirect,
        (Hook::Xdp | Hook::Tc, other) => Action::Other(other),
    }
}

//! What specs and measurements ask of the programs (feature `testing`): runs on one packet, attached
//! or not (the kernel's BPF_PROG_TEST_RUN), what the verifier said, the cursors.

use std::time::Duration;

use aya::programs::{TestRun, TestRunOptions};

use super::kernel::{BALANCE, EXPIRE, Kernel, KernelError, map, program};

/// What the kernel would do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Drop it.
    Drop,
    /// Hand it to the network stack.
    Pass,
    /// Send it out by an interface.
    Redirect,
    /// Anything else: the program never asks for it.
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
    /// Instructions the verifier walked to accept the balancer (since Linux 5.16).
    pub fn verified_instructions(&self) -> Result<Option<u32>, KernelError> {
        let info = program(&self.ebpf, BALANCE)?
            .info()
            .map_err(|source| KernelError::Program { name: BALANCE, source })?;
        Ok(info.verified_instruction_count())
    }

    /// The kernel's number of the balancer program.
    pub fn program_id(&self) -> Result<u32, KernelError> {
        let info = program(&self.ebpf, BALANCE)?
            .info()
            .map_err(|source| KernelError::Program { name: BALANCE, source })?;
        Ok(info.id())
    }

    /// The kernel's numbers of all maps that the programs use.
    pub fn map_ids(&self) -> Result<Vec<u32>, KernelError> {
        let mut ids = std::collections::BTreeSet::new();
        for name in [BALANCE, EXPIRE] {
            let used = program(&self.ebpf, name)?
                .info()
                .and_then(|info| info.map_ids())
                .map_err(|source| KernelError::Program { name, source })?;
            ids.extend(used.unwrap_or_default());
        }
        Ok(ids.into_iter().collect())
    }

    /// The pools that a table was written for, now or earlier.
    pub fn pools_with_table(&self) -> impl Iterator<Item = u32> + Clone + '_ {
        self.pools_with_table.iter().copied()
    }

    /// Runs the balancer on `packet`, `repeat` times on its own output.
    pub fn run(&self, packet: &[u8], repeat: u32) -> Result<Ran, KernelError> {
        let mut out = vec![0; packet.len() + 64];
        let options = TestRunOptions {
            data_in: Some(packet),
            data_out: Some(&mut out),
            repeat,
            ..TestRunOptions::new()
        };
        let result = program(&self.ebpf, BALANCE)?
            .test_run(options)
            .map_err(|source| KernelError::Program { name: BALANCE, source })?;
        out.truncate(result.data_size_out as usize);
        // The numbers of enum xdp_action (linux/bpf.h).
        let action = match result.return_value {
            1 => Action::Drop,
            2 => Action::Pass,
            4 => Action::Redirect,
            other => Action::Other(other),
        };
        Ok(Ran { action, packet: out, duration: result.duration })
    }

    /// A pool's cursor: how many flows have entered its table.
    pub fn cursor(&self, pool: u32) -> Result<u64, KernelError> {
        self.cursors.get(&pool, 0).map_err(map("CURSORS"))
    }

    /// Sets a pool's cursor.
    pub fn put_cursor(&mut self, pool: u32, cursor: u64) -> Result<(), KernelError> {
        self.cursors.set(pool, cursor, 0).map_err(map("CURSORS"))
    }
}

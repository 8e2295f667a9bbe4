//! One virtual machine, from its start until it switches itself off.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::kernels::{Kernel, Series};
use crate::process::Running;
use crate::{command, wait};

/// A spec has this long; then it is killed and has failed.
const SPEC_SECONDS: u32 = 300;

/// What the kernel is told. Emulation is dear, so it leaves out what proves nothing here: guards
/// against speculation, memory cleared in advance, addresses at random; and it hurries where a map's
/// writer waits for readers on other processors, of which there are none.
const KERNEL: &str = "console=ttyS0 quiet panic=-1 rdinit=/init mitigations=off init_on_alloc=0 \
                      nokaslr rcupdate.rcu_expedited=1";

/// A machine at work; dropping it ends it.
pub(super) struct Machine {
    series: Series,
    running: Running,
    console: File,
    said: Vec<u8>,
    shown: usize,
    started: Instant,
    took: Option<Duration>,
}

impl Machine {
    /// Boots a kernel; what it says goes to a file in `folder` too.
    pub(super) fn start(kernel: &Kernel, initramfs: &Path, folder: &Path) -> Result<Self> {
        let log = folder.join(format!("{}.log", kernel.series));
        let mut qemu = command::of(
            "qemu-system-x86_64",
            ["-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio"],
        );
        qemu.args(["-no-reboot", "-machine", "pc", "-accel", "tcg", "-cpu", "max"])
            .args(["-smp", "1", "-m", "2048", "-append"])
            .arg(format!("{KERNEL} SPEC_SECONDS={SPEC_SECONDS}"))
            .arg("-kernel")
            .arg(&kernel.image)
            .arg("-initrd")
            .arg(initramfs);
        let running = Running::start(&mut qemu, &log)?;
        let console = File::open(&log).with_context(|| format!("opening {}", log.display()))?;
        Ok(Self {
            series: kernel.series,
            running,
            console,
            said: Vec::new(),
            shown: 0,
            started: wait::now(),
            took: None,
        })
    }

    pub(super) fn series(&self) -> Series {
        self.series
    }

    /// All that the machine has written to its console.
    pub(super) fn said(&self) -> &[u8] {
        &self.said
    }

    /// How long it ran, once it has ended.
    pub(super) fn took(&self) -> Option<Duration> {
        self.took
    }

    /// Shows what the machine has said since the last look, and answers how long it ran once it has
    /// ended.
    pub(super) fn look(&mut self) -> Result<Option<Duration>> {
        if self.took.is_none() {
            // Asked first, so that nothing is said after the last reading.
            let ended = self.running.ended()?;
            self.console.read_to_end(&mut self.said)?;
            self.shown += show(self.series, self.said.get(self.shown..).unwrap_or_default());
            if let Some(status) = ended {
                println!("{:<4} | the machine ended with {status}", self.series.to_string());
                self.took = Some(self.started.elapsed());
            }
        }
        Ok(self.took)
    }
}

/// Prints whole lines, and returns their length.
fn show(series: Series, text: &[u8]) -> usize {
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    for line in String::from_utf8_lossy(text.get(..whole).unwrap_or_default()).lines() {
        println!("{:<4} | {}", series.to_string(), line.trim_end());
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_shown_once_it_is_whole() {
        assert_eq!(show(Series::Old, b"test a ... "), 0);
        assert_eq!(show(Series::Old, b"test a ... ok\r\ntest"), 15);
    }
}

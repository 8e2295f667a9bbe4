//! Programs that run beside xtask, each stopped when its guard goes out of scope.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Error, Result, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{command, wait};

/// A server has this long to open its port, and to end when told.
const LIMIT: Duration = Duration::from_secs(10);

/// A running program; dropping it ends it.
pub(crate) struct Running {
    child: Child,
    line: String,
    log: PathBuf,
}

impl Running {
    /// Starts a program whose output goes to the file `log`.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let line = command::line(command);
        let file = File::create(log).with_context(|| format!("creating {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("starting `{line}`"))?;
        Ok(Self { child, line, log: log.to_path_buf() })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the program has written so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// An error with what the program wrote, unless the user ended it all.
    pub(crate) fn explain(&self, error: Error) -> Error {
        if wait::check_interrupt().is_err() {
            return error;
        }
        anyhow!("{error:#}\n`{}` wrote:\n{}", self.line, self.log().trim_end())
    }

    /// Fails if the program has ended; [`Self::explain`] adds its own words.
    pub(crate) fn must_run(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("`{}` ended with {status}", self.line);
        }
        Ok(())
    }

    /// How the program ended, if it has.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits until the program accepts connections on an address of this namespace.
    pub(crate) fn accepts(&mut self, address: SocketAddr) -> Result<()> {
        wait::until(&format!("`{}` to open {address}", self.line), LIMIT, || {
            self.must_run()?;
            Ok(TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok())
        })
        .map(drop)
        .map_err(|error| self.explain(error))
    }

    /// Tells the program to end, waits for it, and returns what it wrote meanwhile.
    pub(crate) fn stop(mut self) -> Result<String> {
        let before = self.log().len();
        let end = self.end();
        end.map_err(|error| self.explain(error))?;
        Ok(self.log().get(before..).unwrap_or_default().to_owned())
    }

    fn end(&mut self) -> Result<()> {
        self.must_run()?;
        self.signal(Signal::SIGTERM);
        let what = format!("`{}` to end", self.line);
        let status = wait::until(&what, LIMIT, || Ok(self.child.try_wait()?))?;
        anyhow::ensure!(status.success(), "`{}` ended with {status}", self.line);
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        let Ok(pid) = i32::try_from(self.child.id()) else { return };
        // The child is waited for by this value alone, so its number cannot be another process's.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        self.signal(Signal::SIGTERM);
        // Also after an interrupt, a program gets its chance to clean up.
        if !wait::ends(&mut self.child, Duration::from_secs(3)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_program_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let running = Running::start(&mut command::of("sleep", ["60"]), &log).unwrap();
        let proc = PathBuf::from(format!("/proc/{}", running.pid()));
        assert!(proc.exists());
        drop(running);
        assert!(!proc.exists());
    }

    #[test]
    fn a_program_that_ended_early_is_reported_with_its_words() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut command = command::of("sh", ["-c", "echo no such thing >&2; exit 3"]);
        let mut running = Running::start(&mut command, &log).unwrap();
        let error = running.accepts(([127, 0, 0, 1], 9).into()).unwrap_err();
        assert!(format!("{error:#}").contains("no such thing"), "{error:#}");
    }
}

//! The `deston` program, run as a user runs it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Namespace;

/// How long anything may take before a spec gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running `deston`, killed when dropped.
pub struct Deston {
    child: Child,
    config: PathBuf,
    log: Receiver<String>,
    seen: Vec<String>,
}

impl Deston {
    /// Starts `deston run` with `config` inside a namespace.
    pub fn start(namespace: &Namespace, config: &str) -> Self {
        let path = config_path(namespace);
        write(&path, config);
        let mut command = namespace.command(&binary());
        command.args(["run", "--config"]).arg(&path);
        Self::spawn(command, path)
    }

    /// Starts it where the host's file systems are seen, so that what it pins outlives it.
    pub fn start_pinned(namespace: &Namespace, config: &str) -> Self {
        let path = config_path(namespace);
        write(&path, config);
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", namespace.name())).arg(binary());
        command.args(["run", "--config"]).arg(&path);
        let mut deston = Self::spawn(command, path);
        deston.wait_for_log("ready");
        deston
    }

    /// Starts it without any privilege.
    pub fn start_as_nobody(namespace: &Namespace, config: &str) -> Self {
        let path = config_path(namespace);
        write(&path, config);
        let mut command = namespace.command("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.arg(binary()).args(["run", "--config"]).arg(&path);
        Self::spawn(command, path)
    }

    /// Starts `deston run` with `config` on this host, for loopback alone, and waits until it
    /// serves. None if somebody has taken one of its ports.
    pub fn local(config: &str) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique = NEXT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("deston-{}-local{unique}.toml", std::process::id()));
        write(&path, config);
        let mut command = Command::new(binary());
        command.args(["run", "--config"]).arg(&path);
        let mut deston = Self::spawn(command, path);
        let line = deston.wait_for_one_of(&["ready", " is in use by "]);
        line.contains("ready").then_some(deston)
    }

    /// Starts it and waits until it serves.
    pub fn serving(namespace: &Namespace, config: &str) -> Self {
        let mut deston = Self::start(namespace, config);
        deston.wait_for_log("ready");
        deston
    }

    fn spawn(mut command: Command, config: PathBuf) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("deston starts");
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (lines, log) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if lines.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, config, log, seen: Vec::new() }
    }

    /// Waits for a log line that contains `text`, and returns it. Lines before it are consumed.
    #[track_caller]
    pub fn wait_for_log(&mut self, text: &str) -> String {
        self.wait_for_one_of(&[text])
    }

    #[track_caller]
    fn wait_for_one_of(&mut self, texts: &[&str]) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.log.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if texts.iter().any(|text| line.contains(text)) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("no {texts:?} in the log:\n{}", self.seen.join("\n"))
                }
            }
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The state letter in /proc: `R`, `S`, `T` ...
    pub fn state(&self) -> char {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let after_name = stat.rsplit_once(')').unwrap().1;
        after_name.trim_start().chars().next().unwrap()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid() as i32), signal).unwrap();
    }

    /// Stops the process as SIGSTOP does, and waits until /proc says so.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
        wait_until("the process is stopped", || self.state() == 'T');
    }

    /// Replaces the configuration file and asks for a reload.
    pub fn reload(&self, config: &str) {
        write(&self.config, config);
        self.signal(Signal::SIGHUP);
    }

    /// Waits for the process to end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("deston has ended", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Everything logged that has not been waited for, to the end of the process.
    pub fn rest_of_log(&mut self) -> String {
        let rest: Vec<String> = self.log.iter().collect();
        self.seen.extend(rest);
        self.seen.join("\n")
    }
}

impl Drop for Deston {
    fn drop(&mut self) {
        // SIGKILL also ends a stopped process.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.config);
    }
}

/// Lets time pass. For load that is to be spread over time, and between looks at what tells nobody
/// when it changes: the state of another process, of an interface, of a server in another thread.
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Looks until `done`; panics when patience is over.
#[track_caller]
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "gave up waiting: {what}");
        pause(Duration::from_millis(5));
    }
}

/// The program under test: `cargo xtask test` builds it and names it.
fn binary() -> String {
    std::env::var("DESTON_BIN").unwrap_or_else(|_| {
        let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/debug/deston");
        assert!(
            std::path::Path::new(built).exists(),
            "no deston binary: run `cargo build`, or the tests by `cargo xtask test`"
        );
        built.to_owned()
    })
}

fn config_path(namespace: &Namespace) -> PathBuf {
    std::env::temp_dir().join(format!("{}.toml", namespace.name()))
}

/// Writes beside and renames, so that nobody reads half a file.
fn write(path: &PathBuf, text: &str) {
    let beside = path.with_extension("new");
    let mut file = std::fs::File::create(&beside).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    std::fs::rename(beside, path).unwrap();
}

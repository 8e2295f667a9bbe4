//! The `deston` program, run as a user runs it.
//!
//! Each has an instance of its own in the kernel, which goes with it, whatever became of the
//! process.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use deston::datapath::{Maps, remove_instance};
use deston_common::outcome::Outcome;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{EndedFlow, ListedFlow, Namespace};

/// How long anything may take before a spec gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running `deston`, killed when dropped.
pub struct Deston {
    child: Child,
    line: Line,
    instance: String,
    log: Receiver<String>,
    seen: Vec<String>,
    flow_log: Receiver<String>,
}

/// How it is started.
#[derive(Clone)]
struct Line {
    /// Program and arguments up to the program under test.
    before: Vec<String>,
    config: PathBuf,
}

impl Line {
    fn inside(namespace: &Namespace, before: &[&str]) -> Self {
        let enter = ["nsenter".to_owned(), format!("--net={}", namespace.path())];
        let before = enter.into_iter().chain(before.iter().map(|word| (*word).to_owned()));
        let config = std::env::temp_dir().join(format!("{}.toml", namespace.name()));
        Self { before: before.collect(), config }
    }

    fn command(&self, verb: &[&str]) -> Command {
        let words: Vec<String> = self.before.iter().cloned().chain([binary()]).collect();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(verb);
        command
    }

    fn run(&self) -> Command {
        let mut command = self.command(&["run", "--config"]);
        command.arg(&self.config);
        command
    }
}

impl Deston {
    /// Starts `deston run` with `config` inside a namespace.
    pub fn start(namespace: &Namespace, config: &str) -> Self {
        Self::with_line(Line::inside(namespace, &[]), namespace.name(), config)
    }

    /// Starts it without any privilege.
    pub fn start_as_nobody(namespace: &Namespace, config: &str) -> Self {
        let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
        Self::with_line(Line::inside(namespace, &nobody), namespace.name(), config)
    }

    /// Starts `deston run` with `config` on this host, for loopback alone, and waits until it
    /// serves. None if somebody has taken one of its ports.
    pub fn local(config: &str) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("deston-{}-local{unique}", std::process::id());
        let path = std::env::temp_dir().join(format!("{name}.toml"));
        let mut deston = Self::with_line(Line { before: Vec::new(), config: path }, &name, config);
        let line = deston.wait_for_one_of(&["ready", " is in use by "]);
        line.contains("ready").then_some(deston)
    }

    /// Starts it and waits until it serves.
    #[track_caller]
    pub fn serving(namespace: &Namespace, config: &str) -> Self {
        let mut deston = Self::start(namespace, config);
        deston.wait_for_log("ready");
        deston
    }

    fn with_line(line: Line, instance: &str, config: &str) -> Self {
        write(&line.config, &with_instance(config, instance));
        let (child, [log, flow_log]) = spawn(line.run());
        Self { child, line, instance: instance.to_owned(), log, seen: Vec::new(), flow_log }
    }

    /// Ends the process as `kill -9` does; what it has in the kernel stays.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.child.wait().expect("the process can be waited for");
    }

    /// Starts it once more, as it was started, and waits until it serves.
    #[track_caller]
    pub fn start_again(&mut self) {
        (self.child, [self.log, self.flow_log]) = spawn(self.line.run());
        self.wait_for_log("ready");
    }

    /// Starts it again with another configuration, and waits until it serves.
    #[track_caller]
    pub fn start_again_with(&mut self, config: &str) {
        write(&self.line.config, &with_instance(config, &self.instance));
        self.start_again();
    }

    /// Another command of the program, in the same place, for the same instance where it takes one.
    pub fn command(&self, verb: &[&str]) -> Output {
        self.line.command(verb).output().expect("deston starts")
    }

    /// What `deston doctor --json` says of its configuration.
    pub fn doctor(&self) -> String {
        let mut command = self.line.command(&["doctor", "--json", "--config"]);
        let output = command.arg(&self.line.config).output().expect("deston starts");
        String::from_utf8(output.stdout).unwrap()
    }

    /// `deston detach` for its instance.
    pub fn detach(&self) -> Output {
        self.command(&["detach", "--instance", &self.instance])
    }

    /// Packets of an outcome that the kernel has counted.
    pub fn counted(&self, outcome: Outcome) -> u64 {
        let maps = Maps::of_instance(&self.instance).expect("the counters are pinned");
        maps.outcomes().unwrap()[outcome as usize]
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

    /// Waits for the next line of the flow log.
    #[track_caller]
    pub fn wait_for_ended_flow(&mut self) -> EndedFlow {
        match self.flow_log.recv_timeout(PATIENCE) {
            Ok(line) => EndedFlow::of(&line),
            Err(error) => panic!("no flow has ended: {error}"),
        }
    }

    /// The flow log's lines that have not been waited for, to the end of the process.
    pub fn rest_of_flow_log(&mut self) -> Vec<EndedFlow> {
        self.flow_log.iter().map(|line| EndedFlow::of(&line)).collect()
    }

    /// What `deston flows --json` lists of its instance; `more` are arguments.
    #[track_caller]
    pub fn flows(&self, more: &[&str]) -> Vec<ListedFlow> {
        let output =
            self.command(&[&["flows", "--json", "--instance", &self.instance], more].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let told = String::from_utf8(output.stdout).unwrap();
        told.lines().map(ListedFlow::of).collect()
    }

    /// Its instance in the kernel.
    pub fn instance(&self) -> &str {
        &self.instance
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
        write(&self.line.config, &with_instance(config, &self.instance));
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
        let _ = std::fs::remove_file(&self.line.config);
        // None is left where it stopped as it was told.
        let _ = remove_instance(&self.instance, true);
    }
}

/// Starts a command, and reads what it writes: its own log, and the flow log.
fn spawn(mut command: Command) -> (Child, [Receiver<String>; 2]) {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("deston starts");
    let log = lines(child.stderr.take().unwrap());
    let flow_log = lines(child.stdout.take().unwrap());
    (child, [log, flow_log])
}

/// The lines of a pipe, which is read to its end whoever wants them: nobody has to wait for room.
fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (lines, read) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let _ = lines.send(line);
        }
    });
    read
}

/// A configuration whose process has its own instance in the kernel.
fn with_instance(config: &str, instance: &str) -> String {
    let key = format!("[kernel]\ninstance = \"{instance}\"\n");
    match config.split_once("[kernel]\n") {
        Some((before, after)) => format!("{before}{key}{after}"),
        None => format!("{config}\n{key}"),
    }
}

/// Lets time pass. For load that is to be spread over time, and between looks at what tells nobody
/// when it changes: the state of another process, of an interface, of a server in another thread.
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Looks until `done`; panics when patience is over.
#[track_caller]
pub fn wait_until(what: &str, done: impl FnMut() -> bool) {
    wait_long_until(PATIENCE, what, done);
}

/// The same with another patience.
#[track_caller]
pub fn wait_long_until(patience: Duration, what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
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

/// Writes beside and renames, so that nobody reads half a file.
fn write(path: &PathBuf, text: &str) {
    let beside = path.with_extension("new");
    let mut file = std::fs::File::create(&beside).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    std::fs::rename(beside, path).unwrap();
}

//! Network namespaces.

use std::fs::File;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use nix::sched::{CloneFlags, setns};

/// A network namespace of the test's own; dropped, it is deleted with all its links.
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// A new namespace with the loopback up.
    pub fn new(role: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("deston-{}-{unique}-{role}", std::process::id());
        ip(&["netns", "add", &name]);
        let namespace = Self { name };
        namespace.run(&["ip", "link", "set", "lo", "up"]);
        // The host's default may be an algorithm that is not meant for links without delay.
        namespace.run(&["sysctl", "-qw", "net.ipv4.tcp_congestion_control=reno"]);
        namespace
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Joins this namespace to `other` by a veth pair, up and with an address at each end.
    pub fn link(&self, device: &str, address: &str, other: &Self, peer: &str, peer_address: &str) {
        ip(&[
            "link",
            "add",
            device,
            "netns",
            &self.name,
            "type",
            "veth",
            "peer",
            "name",
            peer,
            "netns",
            &other.name,
        ]);
        for (namespace, device, address) in [(self, device, address), (other, peer, peer_address)] {
            namespace.run(&["ip", "address", "add", address, "dev", device]);
            namespace.run(&["ip", "link", "set", device, "up"]);
        }
    }

    /// Adds an address that can be used at once.
    pub fn add_address(&self, device: &str, address: &str) {
        // Duplicate address detection would take a second.
        self.run(&["ip", "address", "add", address, "dev", device, "nodad"]);
    }

    /// A command that will run inside.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs a command inside, which must succeed, and returns what it printed.
    pub fn run(&self, line: &[&str]) -> String {
        let mut command = self.command(line[0]);
        command.args(&line[1..]);
        let output = command.output().unwrap_or_else(|error| panic!("{line:?}: {error}"));
        checked(line, output)
    }

    /// Runs `inside` on a thread in this namespace.
    pub fn within<T: Send + 'static>(&self, inside: impl FnOnce() -> T + Send + 'static) -> T {
        self.spawn(inside).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Starts a thread in this namespace.
    pub fn spawn<T: Send + 'static>(
        &self,
        inside: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let path = format!("/run/netns/{}", self.name);
        thread::spawn(move || {
            let namespace = File::open(&path).unwrap();
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            inside()
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Nothing to be done if it is gone already.
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("iproute2 is installed");
    checked(arguments, output);
}

fn checked(line: &[&str], output: Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

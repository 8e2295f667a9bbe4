//! Network namespaces.

use std::fs::File;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

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
        let namespace = Self { name };
        make(&namespace.path());
        namespace.batch(&["link set lo up"]);
        // The host's default may be an algorithm that is not meant for links without delay.
        namespace.set("net/ipv4/tcp_congestion_control", "reno");
        namespace.set("net/ipv4/conf/all/rp_filter", "0");
        namespace.set("net/ipv4/conf/default/rp_filter", "0");
        // While its link-local address is looked for, a host asks for no neighbour, and the kernel
        // asks again for a next hop that did not answer after five seconds.
        namespace.set("net/ipv6/conf/all/accept_dad", "0");
        namespace.set("net/ipv6/conf/default/accept_dad", "0");
        namespace
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it.
    pub fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    /// Joins this namespace to `other` by a veth pair, up and with an address at each end.
    pub fn link(&self, device: &str, address: &str, other: &Self, peer: &str, peer_address: &str) {
        self.link_all(device, &[address], other, peer, &[peer_address]);
    }

    /// The same with any addresses.
    pub fn link_all<S: AsRef<str>>(
        &self,
        device: &str,
        addresses: &[S],
        other: &Self,
        peer: &str,
        peer_addresses: &[S],
    ) {
        let ends = ["name", peer, "netns", &other.name];
        let line = ["link", "add", device, "netns", &self.name, "type", "veth", "peer"];
        checked(&line, Command::new("ip").args(line).args(ends).output());
        for (namespace, device, addresses) in
            [(self, device, addresses), (other, peer, peer_addresses)]
        {
            let mut lines: Vec<String> =
                addresses.iter().map(|address| address_line(device, address.as_ref())).collect();
            lines.push(format!("link set {device} up"));
            namespace.batch(&lines);
        }
    }

    /// Gives a device one more address, which is in use at once.
    pub fn address(&self, device: &str, address: &str) {
        self.batch(&[address_line(device, address)]);
    }

    /// Lines of `ip`, all of which must succeed.
    pub fn batch<S: AsRef<str>>(&self, lines: &[S]) {
        let mut command = Command::new("ip");
        command.args(["-n", &self.name, "-batch", "-"]).stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("iproute2 is installed");
        let lines: Vec<&str> = lines.iter().map(AsRef::as_ref).collect();
        child.stdin.take().unwrap().write_all(lines.join("\n").as_bytes()).unwrap();
        checked(&lines, child.wait_with_output());
    }

    /// Sets a key under /proc/sys.
    pub fn set(&self, key: &str, value: &str) {
        let (path, value) = (format!("/proc/sys/{key}"), value.to_owned());
        self.within(move || std::fs::write(&path, value).unwrap_or_else(|e| panic!("{path}: {e}")));
    }

    /// Sets features of a device.
    pub fn tune(&self, device: &str, features: &[&str]) {
        self.run(&[&["ethtool", "-K", device], features].concat());
    }

    /// A command that will run inside, and sees the file systems of the test.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path())).arg(program);
        command
    }

    /// Runs a command inside, which must succeed, and returns what it printed.
    pub fn run(&self, line: &[&str]) -> String {
        let mut command = self.command(line[0]);
        command.args(&line[1..]);
        checked(line, command.output())
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
        let path = self.path();
        thread::spawn(move || {
            let namespace = File::open(&path).unwrap();
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            inside()
        })
    }

    /// Starts a thread in this namespace with a runtime for one task and those that it starts.
    pub fn spawn_async<T: Send + 'static, F: Future<Output = T>>(
        &self,
        inside: impl FnOnce() -> F + Send + 'static,
    ) -> thread::JoinHandle<T> {
        self.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(inside())
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Nothing to be done if it is gone already.
        let _ = umount2(self.path().as_str(), MntFlags::MNT_DETACH);
        let _ = std::fs::remove_file(self.path());
    }
}

/// Makes a namespace and its file, as `ip netns add` does.
fn make(path: &str) {
    std::fs::create_dir_all("/run/netns").unwrap();
    File::create(path).unwrap();
    let path = path.to_owned();
    let made = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let own = Some("/proc/thread-self/ns/net");
        mount(own, path.as_str(), None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    });
    made.join().expect("a network namespace can be made");
}

fn address_line(device: &str, address: &str) -> String {
    let no_detection = if address.contains(':') { "nodad" } else { "" };
    format!("address add {address} dev {device} {no_detection}")
}

fn checked(line: &[&str], output: std::io::Result<Output>) -> String {
    let output = output.unwrap_or_else(|error| panic!("{line:?}: {error}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

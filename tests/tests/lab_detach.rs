//! `deston detach`: an instance is taken out of the kernel without its process.

use std::process::{Command, Output};

use deston::datapath::{Attached, Hook, Kernel, instances, remove_instance};
use deston::model::{self, XdpMode};
use deston_common::outcome::Outcome;
use deston_tests::instance::Instance;
use deston_tests::lab::visit::{NO_HEALTH, config, visit_soon};
use deston_tests::lab::{Deston, Lab as HostLab, Namespace, TcpServer};
use deston_tests::require_kernel;
use nix::sys::signal::Signal;

/// A namespace with a link, and an instance that is attached to it.
struct Lab {
    balancer: Namespace,
    _far: Namespace,
    instance: Instance,
}

impl Lab {
    fn new() -> Self {
        let balancer = Namespace::new("b");
        let far = Namespace::new("f");
        balancer.link("b0", "192.0.2.1/24", &far, "f0", "192.0.2.2/24");
        Self { balancer, _far: far, instance: Instance::default() }
    }

    /// A datapath at both hooks.
    fn attached(&self) -> (Kernel, Vec<Attached>) {
        let settings = self.instance.settings();
        self.balancer.within(move || {
            let mut kernel = Kernel::start(&settings).unwrap();
            let attach = |hook| kernel.attach("b0", hook, XdpMode::Native).unwrap();
            let attached = [Hook::Xdp, Hook::Tc].map(attach).into();
            (kernel, attached)
        })
    }

    /// Runs `deston detach` in the namespace, where the host's file systems are seen.
    fn detach(&self, more: &[&str]) -> Output {
        let binary = std::env::var_os("DESTON_BIN").expect("run by `cargo xtask test`");
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.balancer.name())).arg(binary);
        command.args(["detach", "--instance", self.instance.name()]).args(more).output().unwrap()
    }

    fn has_xdp(&self) -> bool {
        self.balancer.run(&["ip", "-d", "link", "show", "dev", "b0"]).contains("prog/xdp")
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn what_a_killed_process_left_is_removed_and_named() {
    require_kernel!();
    let lab = Lab::new();
    drop(lab.attached());
    assert!(lab.has_xdp());
    let output = lab.detach(&[]);
    let told = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(told.contains("detached: xdp of b0"), "{told}");
    assert!(told.contains("detached: tcx of b0") || told.contains("detached: clsact of b0"));
    assert!(told.contains(&format!("instance `{}`: removed", lab.instance.name())), "{told}");
    assert!(!lab.has_xdp());

    // Once more there is none of that name, and whoever meant another is told which there are.
    let other = Instance::default();
    drop(other.start());
    let output = lab.detach(&[]);
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr);
    assert!(told.contains("nothing is there (there are: "), "{told}");
    assert!(told.contains(other.name()), "{told}");
}

#[test]
fn what_a_process_holds_is_left_alone_but_by_force() {
    require_kernel!();
    let lab = Lab::new();
    let held = lab.attached();
    let output = lab.detach(&[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("--force"), "{}", text(&output.stderr));
    assert!(lab.has_xdp());

    let output = lab.detach(&["--force"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(!lab.has_xdp());
    drop(held);
}

#[test]
fn a_process_that_is_forced_out_says_so_and_serves_in_userspace() {
    require_kernel!();
    let lab = HostLab::new(1);
    let server = TcpServer::start(lab.server(1), 1, 0);
    let text = config("", NO_HEALTH, &[(server.address(), "")]).replace("\"xdp\"", "\"auto\"");
    let mut deston = Deston::serving(&lab.balancer, &text);
    assert_eq!(visit_soon(&lab), 1);
    assert!(deston.counted(Outcome::Forwarded) > 0, "the kernel carries it");
    let name = deston.instance().to_owned();
    let removed = lab.balancer.within(move || remove_instance(&name, true)).unwrap();
    assert!(removed.is_some_and(|removed| removed.links.len() == 2));
    let line = deston.wait_for_log("was taken out of the kernel");
    assert!(line.contains("WARN"), "{line}");
    // By its socket, whose connections come from the balancer's own stack.
    assert_eq!(visit_soon(&lab), 1);

    // What another process has under that name meanwhile is left alone when this one ends.
    let settings =
        model::Kernel { instance: deston.instance().to_owned(), ..Instance::default().settings() };
    let other = Kernel::start(&settings).unwrap();
    deston.signal(Signal::SIGTERM);
    assert_eq!(deston.wait().code(), Some(0));
    assert!(!other.is_taken_away());
    assert!(instances().unwrap().contains(&settings.instance));
}

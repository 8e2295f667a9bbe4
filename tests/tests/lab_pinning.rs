//! What outlives a process: pinned maps and links, and how the next process takes them over.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Stdio;

use deston::datapath::{AttachError, Attached, Hook, Kernel, linked_programs, remove_instance};
use deston::model::{self, OnStop, XdpMode};
use deston_common::flow::{FlowEntry, FlowKey};
use deston_common::net::{Be16, Ipv6Be, TCP};
use deston_tests::instance::Instance;
use deston_tests::lab::Namespace;
use deston_tests::require_kernel;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// An instance, and a link to attach to.
struct Lab {
    instance: Instance,
    near: Namespace,
    far: Namespace,
}

/// The device of the balancer.
const DEVICE: &str = "b0";
/// Its address, and that of the far end.
const NEAR: &str = "192.0.2.1";
const FAR: &str = "192.0.2.2";

impl Lab {
    fn new() -> Self {
        let near = Namespace::new("near");
        let far = Namespace::new("far");
        near.link(DEVICE, &format!("{NEAR}/24"), &far, "f0", &format!("{FAR}/24"));
        Self { instance: Instance::default(), near, far }
    }

    /// Starts a process's datapath.
    fn start(&self) -> Kernel {
        self.instance.start()
    }

    /// Does something with the datapath in the balancer's namespace.
    fn within<T: Send + 'static>(
        &self,
        mut kernel: Kernel,
        inside: impl FnOnce(&mut Kernel) -> T + Send + 'static,
    ) -> (Kernel, T) {
        self.near.within(move || {
            let done = inside(&mut kernel);
            (kernel, done)
        })
    }

    fn attached(&self, kernel: Kernel, hook: Hook) -> (Kernel, Attached) {
        let (kernel, attached) = self.attach(kernel, hook);
        (kernel, attached.unwrap())
    }

    fn attach(&self, kernel: Kernel, hook: Hook) -> (Kernel, Result<Attached, AttachError>) {
        self.within(kernel, move |kernel| kernel.attach(DEVICE, hook, XdpMode::Native))
    }

    /// What is pinned in a folder of the instance.
    fn pins(&self, folder: &str) -> Vec<String> {
        let root = PathBuf::from("/sys/fs/bpf/deston").join(self.instance.name());
        let mut found = Vec::new();
        for home in std::fs::read_dir(root).into_iter().flatten().flatten() {
            let pins = std::fs::read_dir(home.path().join(folder));
            found.extend(
                pins.into_iter()
                    .flatten()
                    .flatten()
                    .map(|pin| pin.file_name().into_string().unwrap()),
            );
        }
        found
    }

    /// Whether packets reach the far end and come back: they meet the programs on the way.
    fn pings(&self) {
        self.near.run(&["ping", "-q", "-c", "1", "-W", "2", FAR]);
    }

    /// The numbers of the programs at a hook of the device.
    fn programs(&self, hook: Hook) -> Vec<u32> {
        match hook {
            Hook::Xdp => numbers(&self.near.run(&["ip", "-d", "link", "show", "dev", DEVICE])),
            Hook::Tc => {
                // Before Linux 6.6 there are filters instead of links.
                let links = self.near.within(|| linked_programs(DEVICE));
                links.unwrap_or_else(|_| self.filters())
            }
        }
    }

    /// The numbers of the programs of TC filters.
    fn filters(&self) -> Vec<u32> {
        numbers(&self.near.run(&["tc", "filter", "show", "dev", DEVICE, "ingress"]))
    }
}

/// What stands behind the word `id`.
fn numbers(text: &str) -> Vec<u32> {
    let mut words = text.split_whitespace().skip_while(|word| *word != "id");
    words.nth(1).into_iter().filter_map(|id| id.parse().ok()).collect()
}

/// The numbers of a process's programs, by hook.
fn own_programs(kernel: &Kernel) -> [Vec<u32>; 2] {
    let [xdp, tc, ..] = Kernel::PROGRAMS;
    [xdp, tc].map(|name| vec![kernel.program_id(name).unwrap()])
}

fn flow() -> FlowEntry<Ipv6Be> {
    let side = |address: &str, port| {
        (Ipv6Be::from(address.parse::<IpAddr>().unwrap()), Be16::from_host(port))
    };
    let key = FlowKey::new(side("192.0.2.2", 40_000), side("192.0.2.1", 80), TCP);
    FlowEntry { key, reply: key.reversed(), bytes: 7, ..FlowEntry::default() }
}

#[test]
fn programs_stay_at_their_hooks_without_a_process_and_are_replaced_by_the_next() {
    require_kernel!();
    let lab = Lab::new();
    let (kernel, xdp) = lab.attached(lab.start(), Hook::Xdp);
    let (kernel, tc) = lab.attached(kernel, Hook::Tc);
    let before = own_programs(&kernel);
    lab.pings();
    let counted: u64 = kernel.outcomes().unwrap().iter().sum();
    // As a process that is killed leaves them.
    drop((kernel, xdp, tc));
    assert_eq!([lab.programs(Hook::Xdp), lab.programs(Hook::Tc)], before);
    lab.pings();

    let (kernel, _xdp) = lab.attached(lab.start(), Hook::Xdp);
    let (mut kernel, _tc) = lab.attached(kernel, Hook::Tc);
    kernel.take_over().unwrap();
    let after = own_programs(&kernel);
    assert!(after[0] != before[0] && after[1] != before[1], "{before:?} {after:?}");
    assert_eq!([lab.programs(Hook::Xdp), lab.programs(Hook::Tc)], after);
    assert_eq!(lab.pins("links").len(), 2);
    // What was counted without a process is counted.
    assert!(kernel.outcomes().unwrap().iter().sum::<u64>() > counted);
}

#[test]
fn the_way_is_never_empty_while_processes_come_and_go() {
    require_kernel!();
    let lab = Lab::new();
    let (kernel, xdp) = lab.attached(lab.start(), Hook::Xdp);
    let (kernel, tc) = lab.attached(kernel, Hook::Tc);
    let before: u64 = kernel.outcomes().unwrap().iter().sum();
    drop((kernel, xdp, tc));
    let mut ping = lab.far.command("ping");
    let ping = ping.args(["-q", "-i", "0.002", NEAR]).stdout(Stdio::piped()).spawn().unwrap();
    for _ in 0..3 {
        let (kernel, _) = lab.attached(lab.start(), Hook::Xdp);
        let (mut kernel, _) = lab.attached(kernel, Hook::Tc);
        kernel.take_over().unwrap();
    }
    kill(Pid::from_raw(ping.id() as i32), Signal::SIGINT).unwrap();
    let output = ping.wait_with_output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let statistics = told.lines().find(|line| line.contains("packets transmitted")).unwrap();
    let sent: u64 = statistics.split_whitespace().next().unwrap().parse().unwrap();
    assert!(sent >= 100 && statistics.contains(" 0% packet loss"), "{statistics}");
    let kernel = lab.start();
    let after: u64 = kernel.outcomes().unwrap().iter().sum();
    // Every packet met both programs.
    assert!(after - before >= 2 * sent, "{} meetings: {statistics}", after - before);
}

#[test]
fn what_the_next_process_does_not_need_is_detached() {
    require_kernel!();
    let lab = Lab::new();
    let (kernel, _) = lab.attached(lab.start(), Hook::Xdp);
    let (kernel, _) = lab.attached(kernel, Hook::Tc);
    drop(kernel);
    let (mut kernel, _) = lab.attached(lab.start(), Hook::Tc);
    assert_eq!(lab.pins("links").len(), 2);
    kernel.take_over().unwrap();
    assert_eq!(lab.pins("links").len(), 1);
    assert!(lab.programs(Hook::Xdp).is_empty());
}

#[test]
fn an_interface_that_was_made_anew_is_attached_to_anew() {
    require_kernel!();
    let lab = Lab::new();
    let (kernel, _) = lab.attached(lab.start(), Hook::Xdp);
    drop(kernel);
    // The same name and number.
    let shown = lab.near.run(&["ip", "-o", "link", "show", DEVICE]);
    let index = shown.split(':').next().unwrap().to_owned();
    lab.near.run(&["ip", "link", "del", DEVICE]);
    lab.near.run(&[
        "ip",
        "link",
        "add",
        DEVICE,
        "index",
        index.trim(),
        "type",
        "veth",
        "peer",
        "name",
        "b1",
    ]);
    let (mut kernel, _) = lab.attached(lab.start(), Hook::Xdp);
    kernel.take_over().unwrap();
    assert_eq!(lab.programs(Hook::Xdp).len(), 1);
    assert_eq!(lab.pins("links").len(), 1);
}

#[test]
fn programs_of_another_layout_work_until_the_new_maps_are_filled() {
    require_kernel!();
    let lab = Lab::new();
    let (kernel, _) = lab.attached(lab.start(), Hook::Xdp);
    let (mut kernel, _) = lab.attached(kernel, Hook::Tc);
    kernel.put_flow(&flow()).unwrap();
    let before = own_programs(&kernel);
    drop(kernel);
    let home = PathBuf::from("/sys/fs/bpf/deston").join(lab.instance.name());
    let name = std::fs::read_dir(&home).unwrap().next().unwrap().unwrap().file_name();
    std::fs::rename(home.join(name), home.join("v0")).unwrap();

    let (kernel, _) = lab.attached(lab.start(), Hook::Xdp);
    let (kernel, tc) = lab.attached(kernel, Hook::Tc);
    assert!(!kernel.is_adopted());
    assert_eq!(kernel.flows().count(), 0);
    assert_eq!([lab.programs(Hook::Xdp), lab.programs(Hook::Tc)], before);
    let (kernel, ()) = lab.within(kernel, |kernel| kernel.take_over().unwrap());
    let after = own_programs(&kernel);
    assert_eq!([lab.programs(Hook::Xdp), lab.programs(Hook::Tc)], after);
    assert!(!home.join("v0").exists());
    assert_eq!(lab.pins("links").len(), 2);

    let (_kernel, ()) = lab.within(kernel, |kernel| kernel.detach(tc).unwrap());
    assert!(lab.programs(Hook::Tc).is_empty());
}

#[test]
fn a_filter_at_tc_stays_and_is_replaced_as_a_link_is() {
    require_kernel!();
    let lab = Lab::new();
    let attach = |kernel| lab.within(kernel, |kernel| kernel.attach_filter(DEVICE).unwrap());
    let (kernel, _) = attach(lab.start());
    let [_, before] = own_programs(&kernel);
    drop(kernel);
    assert_eq!(lab.filters(), before);

    let (kernel, attached) = attach(lab.start());
    let [_, after] = own_programs(&kernel);
    assert_eq!(lab.filters(), after);
    let (kernel, ()) = lab.within(kernel, |kernel| kernel.take_over().unwrap());
    assert_eq!(lab.filters(), after);
    let (kernel, ()) = lab.within(kernel, |kernel| kernel.detach(attached).unwrap());
    assert!(lab.filters().is_empty());

    // Without pins it is taken away with what attached it, or is there for the next one.
    let (kernel, attached) = attach(kernel);
    drop((kernel, attached));
    let name = lab.instance.name().to_owned();
    let removed = lab.near.within(move || remove_instance(&name, false)).unwrap().unwrap();
    assert_eq!(removed.links, [format!("clsact of {DEVICE}")]);
    assert!(lab.filters().is_empty());
    let unpinned = model::Kernel { pin: false, ..lab.instance.settings() };
    let (kernel, attached) = attach(Kernel::start(&unpinned).unwrap());
    let [_, own] = own_programs(&kernel);
    assert_eq!(lab.filters(), own);
    std::mem::forget(attached);
    let (kernel, attached) = attach(Kernel::start(&unpinned).unwrap());
    let [_, own] = own_programs(&kernel);
    assert_eq!(lab.filters(), own);
    lab.near.within(move || drop(attached));
    assert!(lab.filters().is_empty());
}

#[test]
fn another_mode_takes_the_place_of_the_old_one() {
    require_kernel!();
    let lab = Lab::new();
    let (kernel, _) = lab.attached(lab.start(), Hook::Xdp);
    drop(kernel);
    let (_kernel, attached) =
        lab.within(lab.start(), |kernel| kernel.attach(DEVICE, Hook::Xdp, XdpMode::Generic));
    attached.unwrap();
    assert_eq!(lab.programs(Hook::Xdp).len(), 1);
    let links = lab.pins("links");
    assert!(links.len() == 1 && links[0].starts_with("xdpgeneric-"), "{links:?}");
}

#[test]
fn maps_of_another_size_are_kept_while_programs_use_them() {
    require_kernel!();
    let lab = Lab::new();
    let (mut kernel, _) = lab.attached(lab.start(), Hook::Tc);
    kernel.put_flow(&flow()).unwrap();
    drop(kernel);
    let larger = model::Kernel { flows: 2_048, ..lab.instance.settings() };
    let (mut kernel, _) = lab.attached(Kernel::start(&larger).unwrap(), Hook::Tc);
    kernel.take_over().unwrap();
    assert_eq!(kernel.flows().count(), 1);
    drop(kernel);

    // Nothing is attached: there is nothing to lose but flows that nobody carries.
    let (kernel, attached) = lab.attached(Kernel::start(&larger).unwrap(), Hook::Tc);
    let (mut kernel, ()) = lab.within(kernel, move |kernel| kernel.detach(attached).unwrap());
    kernel.put_number("a", 1).unwrap();
    drop(kernel);
    let kernel = Kernel::start(&larger).unwrap();
    assert_eq!(kernel.number("a"), None);
    assert_eq!(kernel.flows().count(), 0);
}

#[test]
fn stopping_takes_everything_away_or_leaves_everything() {
    require_kernel!();
    let lab = Lab::new();
    let (kernel, xdp) = lab.attached(lab.start(), Hook::Xdp);
    let (kernel, tc) = lab.attached(kernel, Hook::Tc);
    lab.near.within(move || kernel.stop(vec![xdp, tc], OnStop::Keep)).unwrap();
    assert_eq!(lab.pins("links").len(), 2);
    assert_eq!(lab.programs(Hook::Xdp).len(), 1);

    let (kernel, xdp) = lab.attached(lab.start(), Hook::Xdp);
    let (kernel, tc) = lab.attached(kernel, Hook::Tc);
    lab.near.within(move || kernel.stop(vec![xdp, tc], OnStop::Detach)).unwrap();
    assert_eq!(lab.pins("maps"), Vec::<String>::new());
    assert!(lab.programs(Hook::Xdp).is_empty());
    assert!(lab.programs(Hook::Tc).is_empty());
}

#[test]
fn an_instance_is_removed_without_its_process_and_by_force_with_it() {
    require_kernel!();
    let lab = Lab::new();
    assert_eq!(remove_instance(lab.instance.name(), false).unwrap(), None);
    let (kernel, _xdp) = lab.attached(lab.start(), Hook::Xdp);
    drop(kernel);
    let removed = remove_instance(lab.instance.name(), false).unwrap().unwrap();
    assert_eq!(removed.links.len(), 1);
    assert!(removed.maps > 20, "{removed:?}");

    let (kernel, _xdp) = lab.attached(lab.start(), Hook::Xdp);
    assert!(remove_instance(lab.instance.name(), true).unwrap().is_some());
    assert!(lab.programs(Hook::Xdp).is_empty());
    drop(kernel);
}

#[test]
fn a_start_without_pins_takes_away_those_of_its_instance() {
    require_kernel!();
    let lab = Lab::new();
    let (kernel, _) = lab.attached(lab.start(), Hook::Xdp);
    drop(kernel);
    let unpinned = model::Kernel { pin: false, ..lab.instance.settings() };
    let (kernel, attached) = lab.attached(Kernel::start(&unpinned).unwrap(), Hook::Xdp);
    assert!(!kernel.is_adopted());
    assert!(lab.pins("maps").is_empty());
    assert_eq!(lab.programs(Hook::Xdp).len(), 1);
    drop(attached);
    assert!(lab.programs(Hook::Xdp).is_empty());
}

#[test]
fn another_program_at_the_xdp_hook_is_an_error_and_at_tc_it_is_not() {
    require_kernel!();
    let lab = Lab::new();
    let other = Instance::default();
    let (kernel, _) = lab.attached(Kernel::start(&other.settings()).unwrap(), Hook::Xdp);
    let (_kernel, _) = lab.attached(kernel, Hook::Tc);
    let (kernel, refused) = lab.attach(lab.start(), Hook::Xdp);
    assert!(matches!(refused, Err(AttachError::Taken(name)) if name == DEVICE));
    let (_, attached) = lab.attach(kernel, Hook::Tc);
    assert_eq!(attached.unwrap().hook(), Hook::Tc);
}

#[test]
fn interfaces_that_are_not_there_or_not_native_are_told_apart() {
    require_kernel!();
    let lab = Lab::new();
    let (kernel, refused) =
        lab.within(lab.start(), |kernel| kernel.attach("nosuch0", Hook::Tc, XdpMode::Native));
    assert!(matches!(refused, Err(AttachError::NoInterface(name)) if name == "nosuch0"));
    let (_kernel, refused) =
        lab.within(kernel, |kernel| kernel.attach("lo", Hook::Xdp, XdpMode::Native));
    assert!(matches!(refused, Err(AttachError::NotNative(name)) if name == "lo"));
}

//! `deston doctor`: for each kind of finding the fault is made, the printed command is run, and the
//! finding is gone.
//!
//! No namespace can make four of them, whose judgements have unit tests: an old kernel, a NIC with
//! large receive offload or one that takes tags off VLANs that this kernel may not have, and a user
//! without a place for pins, whom no command helps.

use std::path::PathBuf;
use std::process::{Command, Output};

use aya::Ebpf;
use aya::programs::Xdp;
use deston_tests::lab::visit::{NO_HEALTH, PORT};
use deston_tests::lab::{BALANCER, CLIENT, Lab, Namespace, server_address};
use deston_tests::require_lab;

/// The programs, one of which stands for somebody else's.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../deston/bpf/deston.bpf.o");

/// A configuration file, gone when dropped.
struct File(PathBuf);

impl File {
    fn new(host: &Namespace, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("{}-doctor.toml", host.name()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn binary() -> String {
    std::env::var("DESTON_BIN").expect("run by `cargo xtask test`")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A listener at XDP with keys, and servers.
fn config(address: &str, keys: &str, servers: &[(String, u16)]) -> String {
    let mut text = format!(
        "[load_balancer]\naddress = \"{address}\"\nport = {PORT}\ndatapath = \"xdp\"\n{keys}\n\
         {NO_HEALTH}\n"
    );
    for (address, port) in servers {
        text += &format!("[[server]]\naddress = \"{address}\"\nport = {port}\n");
    }
    text
}

/// What is found of a kind: the lines' whole text and their command.
fn found(output: &Output, kind: &str) -> Vec<(String, Option<String>)> {
    let told = text(&output.stdout);
    let lines = told.lines().filter(|line| line.contains(&format!("\"kind\":\"{kind}\"")));
    let command = |line: &str| {
        let (_, rest) = line.split_once("\"command\":\"")?;
        rest.split_once('"').map(|(command, _)| command.to_owned())
    };
    lines.map(|line| (line.to_owned(), command(line))).collect()
}

fn doctor(host: &Namespace, file: &File) -> Output {
    let mut command = host.command(&binary());
    command.args(["doctor", "--json", "--config"]).arg(&file.0).output().unwrap()
}

/// A kind that a command in the balancer's namespace mends.
struct Case {
    kind: &'static str,
    keys: &'static str,
    /// Where the listener is.
    address: String,
    /// Servers beside the lab's own.
    more: &'static [&'static str],
    /// Makes the fault.
    make: fn(&Lab),
    is_fault: bool,
}

fn case(kind: &'static str, make: fn(&Lab)) -> Case {
    let address = BALANCER.to_string();
    Case { kind, keys: "", address, more: &[], make, is_fault: false }
}

fn cases() -> Vec<Case> {
    vec![
        Case { more: &["192.0.2.77"], is_fault: true, ..case("route", |_| {}) },
        Case {
            address: "198.51.100.77".to_owned(),
            is_fault: true,
            ..case("carrier", |lab| {
                lab.balancer.batch(&[format!("route add default via {CLIENT} dev clients")]);
            })
        },
        Case {
            is_fault: true,
            ..case("foreign_program", |lab| {
                let path = format!("/sys/fs/bpf/{}", lab.balancer.name());
                let mut ebpf = Ebpf::load(OBJECT).unwrap();
                let program: &mut Xdp =
                    ebpf.program_mut("deston_expire4").unwrap().try_into().unwrap();
                program.load().unwrap();
                program.pin(&path).unwrap();
                lab.balancer.run(&["ip", "link", "set", "dev", "clients", "xdp", "pinned", &path]);
                std::fs::remove_file(&path).unwrap();
            })
        },
        Case {
            keys: "interfaces = [\"near\"]",
            is_fault: true,
            ..case("veth", |lab| {
                lab.balancer.batch(&[
                    "link add near type veth peer name far",
                    "link set near up",
                    "link set far up",
                ]);
                lab.balancer.tune("far", &["tx", "on", "gro", "off"]);
            })
        },
        case("mtu", |lab| lab.balancer.batch(&["link set server1 mtu 1400"])),
        case("neighbour", |lab| lab.balancer.batch(&["neigh flush dev server1"])),
        Case {
            keys: "forwarding = \"dnat\"",
            ..case("forwarding", |lab| lab.balancer.set("net/ipv4/ip_forward", "0"))
        },
        Case {
            keys: "interfaces = [\"clients\"]",
            ..case("reverse_path", |lab| {
                let via = server_address(1);
                lab.balancer.batch(&[format!("route add default via {via} dev server1")]);
                lab.balancer.set("net/ipv4/conf/clients/rp_filter", "1");
            })
        },
        Case { keys: "snat_ports = \"30000-40000\"", ..case("ports", |_| {}) },
    ]
}

#[test]
fn the_printed_command_mends_what_was_found() {
    require_lab!();
    let cases = cases();
    assert_eq!(cases.len(), 9);
    for case in cases {
        let lab = Lab::new(1);
        (case.make)(&lab);
        let mut servers = vec![(server_address(1).to_string(), 3_000)];
        servers.extend(case.more.iter().map(|address| ((*address).to_owned(), 3_000)));
        let file = File::new(&lab.balancer, &config(&case.address, case.keys, &servers));
        let before = doctor(&lab.balancer, &file);
        let findings = found(&before, case.kind);
        let kind = case.kind;
        let commands: Vec<String> =
            findings.iter().filter_map(|(_, command)| command.clone()).collect();
        assert!(!commands.is_empty(), "{kind}: {}{}", text(&before.stdout), text(&before.stderr));
        assert_eq!(before.status.code() == Some(1), case.is_fault, "{kind}");
        for command in &commands {
            lab.balancer.run(&["sh", "-c", command]);
        }
        let after = found(&doctor(&lab.balancer, &file), kind);
        let left: Vec<_> = after.iter().filter(|(_, command)| command.is_some()).collect();
        assert!(left.is_empty(), "{kind}: {commands:?} left {left:?}");
    }
}

#[test]
fn a_mounted_bpf_file_system_ends_its_finding() {
    require_lab!();
    let lab = Lab::new(1);
    let servers = [(server_address(1).to_string(), 3_000)];
    let file = File::new(&lab.balancer, &config(&BALANCER.to_string(), "", &servers));
    // Three steps in one mount namespace, which goes with the shell. Whether others see what is
    // mounted there is another finding, and needs a look at the first process, which not all allow.
    let script = "umount -l /sys/fs/bpf; \"$0\" doctor --json --config \"$1\"; \
                  mount -t bpf bpf /sys/fs/bpf; echo mended; \"$0\" doctor --json --config \"$1\"; :";
    let mut command = lab.balancer.command("unshare");
    command.args(["--mount", "sh", "-c", script, &binary()]).arg(&file.0);
    let told = text(&command.output().unwrap().stdout);
    let (before, after) = told.split_once("mended").expect(&told);
    assert!(before.contains("\"command\":\"mount -t bpf bpf /sys/fs/bpf\""), "{before}");
    assert!(!after.contains("no BPF file system"), "{after}");
}

#[test]
fn capabilities_of_the_file_end_their_finding() {
    require_lab!();
    let lab = Lab::new(1);
    let servers = [(server_address(1).to_string(), 3_000)];
    let file = File::new(&lab.balancer, &config(&BALANCER.to_string(), "", &servers));
    // The command changes the file it names: a copy.
    let copy = File(std::env::temp_dir().join(format!("{}-copy", lab.balancer.name())));
    std::fs::copy(binary(), &copy.0).unwrap();
    let as_nobody = || {
        let mut command = lab.balancer.command("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&copy.0);
        command.args(["doctor", "--json", "--config"]).arg(&file.0).output().unwrap()
    };
    let before = as_nobody();
    assert_eq!(before.status.code(), Some(1));
    let findings = found(&before, "privileges");
    let command = findings[0].1.as_ref().expect("a command");
    assert!(command.ends_with(copy.0.to_str().unwrap()), "{command}");
    let run = Command::new("sh").args(["-c", command]).status().unwrap();
    assert!(run.success());
    assert_eq!(found(&as_nobody(), "privileges"), []);
}

#[test]
fn rules_that_are_passed_by_are_told_until_the_listener_has_a_guard() {
    require_lab!();
    let lab = Lab::new(1);
    let servers = [(server_address(1).to_string(), 3_000)];
    let address = BALANCER.to_string();
    let file = File::new(&lab.balancer, &config(&address, "", &servers));
    assert_eq!(found(&doctor(&lab.balancer, &file), "firewall"), []);
    lab.balancer.run(&["nft", "add table ip t; add chain ip t c"]);
    let told = doctor(&lab.balancer, &file);
    assert_eq!(found(&told, "firewall").len(), 1, "{}", text(&told.stdout));
    assert_eq!(told.status.code(), Some(0), "a note is no fault");

    let file =
        File::new(&lab.balancer, &config(&address, "allow = [\"198.51.100.0/24\"]", &servers));
    assert_eq!(found(&doctor(&lab.balancer, &file), "firewall"), []);
}

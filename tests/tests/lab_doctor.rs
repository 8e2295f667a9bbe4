//! `deston doctor`: for each kind of finding the fault is made, the printed command is run, and the
//! finding is gone.
//!
//! No namespace can make some of them, whose judgements have unit tests: an old kernel, one without its
//! modules or its JIT, which all namespaces share, a NIC that merges packets or takes tags off, VLANs
//! that this kernel may not have, and a user without a place for pins, whom no command helps.

use std::path::PathBuf;
use std::process::{Command, Output};

use deston_tests::kernel::Family;
use deston_tests::lab::visit::{NO_HEALTH, PORT};
use deston_tests::lab::{
    BALANCER, CLIENT, Lab, Namespace, listener_of, put_another_program, server_address, server_of,
};
use deston_tests::require_lab;

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

/// What stands between backticks in a line of JSON.
fn quoted(line: &str) -> impl Iterator<Item = String> {
    line.split('`').skip(1).step_by(2).map(|words| words.replace("\\\"", "\""))
}

/// A kind that a command in the balancer's namespace mends.
struct Case {
    kind: &'static str,
    family: Family,
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
    case_of(Family::V4, kind, make)
}

fn case_of(family: Family, kind: &'static str, make: fn(&Lab)) -> Case {
    let address = listener_of(family, PORT).ip().to_string();
    Case { kind, family, keys: "", address, more: &[], make, is_fault: false }
}

fn forget_neighbours(lab: &Lab) {
    lab.balancer.batch(&["neigh flush dev server1"]);
}

fn cases() -> Vec<Case> {
    vec![
        Case { more: &["192.0.2.77"], is_fault: true, ..case("route", |_| {}) },
        Case { more: &["2001:db8:77::77"], is_fault: true, ..case_of(Family::V6, "route", |_| {}) },
        Case {
            address: "198.51.100.77".to_owned(),
            is_fault: true,
            ..case("carrier", |lab| {
                lab.balancer.batch(&[format!("route add default via {CLIENT} dev clients")]);
            })
        },
        Case {
            is_fault: true,
            ..case("foreign_program", |lab| put_another_program(lab, "clients"))
        },
        Case {
            // Layer 7, of which the kernel has the guard.
            keys: "layer = \"L7\"\ndeny = [\"192.0.2.0/24\"]",
            is_fault: true,
            ..case("foreign_program", |lab| put_another_program(lab, "clients"))
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
        case("neighbour", forget_neighbours),
        case_of(Family::V6, "neighbour", forget_neighbours),
        Case {
            keys: "forwarding = \"dnat\"",
            ..case("forwarding", |lab| lab.balancer.set("net/ipv4/ip_forward", "0"))
        },
        Case {
            keys: "forwarding = \"dnat\"",
            ..case_of(Family::V6, "forwarding", |lab| {
                lab.balancer.set("net/ipv6/conf/all/forwarding", "0");
            })
        },
        Case { keys: "snat_ips = [\"203.0.113.29\"]", ..case("snat_address", |_| {}) },
        Case {
            keys: "snat_ips = [\"2001:db8:5:1::29\"]",
            ..case_of(Family::V6, "snat_address", |_| {})
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
    assert_eq!(cases.len(), 15);
    for case in cases {
        let lab = Lab::new(1);
        (case.make)(&lab);
        let mut servers = vec![(server_of(case.family, 1).to_string(), 3_000)];
        servers.extend(case.more.iter().map(|address| ((*address).to_owned(), 3_000)));
        let file = File::new(&lab.balancer, &config(&case.address, case.keys, &servers));
        let before = doctor(&lab.balancer, &file);
        let findings = found(&before, case.kind);
        let kind = format!("{} {:?}", case.kind, case.family);
        let commands: Vec<String> =
            findings.iter().filter_map(|(_, command)| command.clone()).collect();
        assert!(!commands.is_empty(), "{kind}: {}{}", text(&before.stdout), text(&before.stderr));
        assert_eq!(before.status.code() == Some(1), case.is_fault, "{kind}");
        for command in &commands {
            lab.balancer.run(&["sh", "-c", command]);
        }
        let after = found(&doctor(&lab.balancer, &file), case.kind);
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
    let findings = found(&told, "firewall");
    assert_eq!(findings.len(), 1, "{}", text(&told.stdout));
    assert_eq!(told.status.code(), Some(0), "a note is no fault");

    let line = quoted(&findings[0].0).find(|line| line.starts_with("allow = ")).unwrap();
    let file = File::new(&lab.balancer, &config(&address, &line, &servers));
    let told = doctor(&lab.balancer, &file);
    assert_eq!(told.status.code(), Some(0), "{}{}", text(&told.stdout), text(&told.stderr));
    assert_eq!(found(&told, "firewall"), []);
}

#[test]
fn what_has_no_native_xdp_works_at_tc() {
    require_lab!();
    let lab = Lab::new(1);
    // The bridge driver runs no XDP programs.
    lab.balancer.batch(&["link add bridge type bridge", "link set bridge up"]);
    let servers = [(server_address(1).to_string(), 3_000)];
    let xdp = config(&BALANCER.to_string(), "interfaces = [\"bridge\"]", &servers);
    let told = doctor(&lab.balancer, &File::new(&lab.balancer, &xdp));
    assert_eq!(told.status.code(), Some(1));
    let findings = found(&told, "carrier");
    let [(line, None)] = &findings[..] else { panic!("{findings:?}") };
    assert!(line.contains("bridge has no native XDP"), "{line}");

    let advised = quoted(line).find(|words| words.starts_with("datapath = ")).expect(line);
    let tc = xdp.replace("datapath = \"xdp\"", &advised);
    assert_ne!(tc, xdp);
    let told = doctor(&lab.balancer, &File::new(&lab.balancer, &tc));
    assert_eq!(told.status.code(), Some(0), "{}{}", text(&told.stdout), text(&told.stderr));
    assert_eq!(found(&told, "carrier"), []);
}

#[test]
fn a_guard_of_layer_7_is_told_of_where_the_kernel_may_have_it() {
    require_lab!();
    let lab = Lab::new(1);
    let servers = [(server_address(1).to_string(), 3_000)];
    let carrier = |address: &str, keys: &str| {
        let text = config(address, &format!("layer = \"L7\"\n{keys}"), &servers);
        let auto = text.replace("datapath = \"xdp\"", "datapath = \"auto\"");
        found(&doctor(&lab.balancer, &File::new(&lab.balancer, &auto)), "carrier")
    };
    let (here, guard) = (BALANCER.to_string(), "deny = [\"192.0.2.0/24\"]");
    let told = carrier(&here, guard);
    let [(line, None)] = &told[..] else { panic!("{told:?}") };
    assert!(line.contains("is guarded at TC, and not at XDP: clients is a veth"), "{line}");
    assert_eq!(carrier(&here, ""), [], "there is nothing to guard");
    assert_eq!(carrier("127.0.0.1", guard), [], "userspace guards it, and nothing is to mend");
}

//! What another process is told of the kernel datapath: `deston flows`, `counters`, `trace`, and the
//! flow log where the process stops.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStderr, Output, Stdio};

use deston::datapath::Maps;
use deston_common::globals::flags::TRACE;
use deston_tests::lab::visit::{NO_HEALTH, PORT, config, echo, greeted, visit_soon};
use deston_tests::lab::{CLIENT, Deston, Lab, Namespace, TcpServer, listener, wait_until};
use deston_tests::require_lab;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A lab that serves.
struct Serving {
    lab: Lab,
    server: TcpServer,
    deston: Deston,
}

impl Serving {
    fn new() -> Self {
        let lab = Lab::new(1);
        let server = TcpServer::start(&lab.servers[0], 1, 0);
        let file = config("", NO_HEALTH, &[(server.address(), "")]);
        let deston = Deston::serving(&lab.balancer, &file);
        assert_eq!(visit_soon(&lab), 1);
        Self { lab, server, deston }
    }

    fn ask(&self, verb: &[&str]) -> Output {
        self.deston.command(&[verb, &["--instance", self.lab.balancer.name()]].concat())
    }

    /// What a command prints, which must succeed.
    fn told(&self, verb: &[&str]) -> String {
        let output = self.ask(verb);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    }

    fn is_traced(&self) -> bool {
        let maps = Maps::of_instance(self.lab.balancer.name()).unwrap();
        maps.globals().unwrap().flags & TRACE != 0
    }
}

#[test]
fn flows_are_listed_beside_the_process_and_after_it_was_killed() {
    require_lab!();
    let mut serving = Serving::new();
    let mut stream = serving.lab.client.within(|| greeted(listener(PORT)));
    let client = stream.local_addr().unwrap();
    let server = serving.server.address();
    let list = |serving: &Serving| serving.told(&["flows", "--client", &CLIENT.to_string()]);
    let is_listed = |told: &str| {
        told.lines().any(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.len() == 10
                && words[..3] == ["tcp", &client.to_string(), &listener(PORT).to_string()]
                && words[4..6] == [&server.to_string(), "established"]
        })
    };
    let told = list(&serving);
    assert!(is_listed(&told), "{told}");

    serving.deston.kill();
    echo(&mut stream);
    let told = list(&serving);
    assert!(is_listed(&told), "{told}");
    let json = serving.told(&["flows", "--json", "--server", &server.to_string()]);
    assert!(json.contains(&format!("\"client\":\"{client}\"")), "{json}");
    let none = serving.told(&["flows", "--json", "--client", "192.0.2.0/24"]);
    assert_eq!(none, "");
}

#[test]
fn every_outcome_and_server_is_counted() {
    require_lab!();
    let serving = Serving::new();
    let told = serving.told(&["counters"]);
    for outcome in deston_common::outcome::Outcome::ALL {
        assert!(told.contains(&format!("  {} ", outcome.name())), "{told}");
    }
    let server = serving.server.address().to_string();
    let line = told.lines().find(|line| line.starts_with(&server)).expect(&told);
    assert!(line.contains("active"), "{line}");
    let words: Vec<&str> = line.split_whitespace().collect();
    let opened: u64 = words[5].parse().unwrap();
    assert!(opened >= 1, "{line}");
    // A closed flow holds its port for a while.
    let (used, available) = words[8].split_once('/').expect(line);
    let used: u64 = used.parse().unwrap();
    assert!((1..=opened).contains(&used) && available == "22528", "{line}");
    let json = serving.told(&["counters", "--json"]);
    assert!(json.contains("\"snat_ports\":{\"available\":22528,\"used\":"), "{json}");
}

#[test]
fn who_asks_for_what_is_not_pinned_is_told_why() {
    require_lab!();
    let serving = Serving::new();
    let mut file = config("", NO_HEALTH, &[(serving.server.address(), "")]);
    drop(serving.deston);
    file += "[kernel]\npin = false\n";
    let deston = Deston::serving(&serving.lab.balancer, &file);
    let instance = serving.lab.balancer.name();
    for verb in ["flows", "counters", "trace"] {
        let output = deston.command(&[verb, "--instance", instance]);
        assert_eq!(output.status.code(), Some(1));
        let error = text(&output.stderr);
        assert!(error.contains("has nothing pinned") && error.contains("pin"), "{error}");
    }
}

/// A `deston trace` under way; killed when dropped.
struct Tracing {
    child: Child,
    log: BufReader<ChildStderr>,
}

impl Tracing {
    fn start(host: &Namespace, more: &[&str]) -> Self {
        let binary = std::env::var("DESTON_BIN").expect("run by `cargo xtask test`");
        let mut command = host.command(&binary);
        command.args(["trace", "--instance", host.name()]).args(more);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        assert!(line.starts_with("tracing instance"), "{line}");
        Self { child, log }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// What it has printed, and its last words, when it has ended by itself.
    fn end(mut self) -> (String, String) {
        let told = std::io::read_to_string(self.child.stdout.take().unwrap()).unwrap();
        assert!(self.child.wait().unwrap().success());
        let mut last = String::new();
        self.log.read_line(&mut last).unwrap();
        (told, last)
    }
}

impl Drop for Tracing {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn packets_are_followed_both_ways_until_there_were_enough() {
    require_lab!();
    let serving = Serving::new();
    let host = &serving.lab.balancer;
    let port = PORT.to_string();
    let tracing =
        Tracing::start(host, &["--client", &CLIENT.to_string(), "--port", &port, "--count", "3"]);
    assert!(serving.is_traced());
    let second = serving.ask(&["trace"]);
    assert_eq!(second.status.code(), Some(1), "one at a time");
    assert!(text(&second.stderr).contains("another trace"), "{}", text(&second.stderr));
    visit_soon(&serving.lab);
    let (told, last) = tracing.end();
    assert_eq!(last.trim(), "3 packets");
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 6, "{told}");
    assert!(lines[0].contains(" clients xdp tcp ") && lines[0].contains(" [S] "), "{told}");
    assert_eq!(lines[1].trim(), "forwarded: It was sent to the server of its flow.");
    assert!(lines[2].contains(" server1 xdp tcp ") && lines[2].contains(" [S.] "), "{told}");
    assert!(lines[3].trim().starts_with("replied: "), "{told}");
    assert!(!serving.is_traced(), "the programs tell nobody any more");
}

#[test]
fn a_trace_ends_with_its_process_whatever_ends_it() {
    require_lab!();
    let serving = Serving::new();
    let host = &serving.lab.balancer;
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let tracing = Tracing::start(host, &[]);
        tracing.signal(signal);
        tracing.end();
        assert!(!serving.is_traced(), "{signal}");
    }
    let tracing = Tracing::start(host, &["--seconds", "0"]);
    tracing.end();
    assert!(!serving.is_traced(), "time is over");

    // Nobody is told of SIGKILL; the running deston notices.
    let tracing = Tracing::start(host, &[]);
    drop(tracing);
    wait_until("the trace is ended", || !serving.is_traced());
}

#[test]
fn ended_flows_are_logged_and_those_that_a_stop_ends_too() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(&lab.servers[0], 1, 0);
    let keys = "[load_balancer.flows]\ntcp_fin = \"100ms\"";
    let mut file = config(keys, NO_HEALTH, &[(server.address(), "")]);
    file += "[log]\naccess = \"json\"\n[runtime]\ndrain_timeout = \"0\"\n";
    let mut deston = Deston::serving(&lab.balancer, &file);
    assert_eq!(visit_soon(&lab), 1);
    assert_eq!(deston.wait_for_ended_flow().end, "closed");

    let stream = lab.client.within(|| greeted(listener(PORT)));
    let client = stream.local_addr().unwrap();
    deston.signal(Signal::SIGTERM);
    assert!(deston.wait().success());
    let ended = deston.rest_of_flow_log();
    let ended = ended.iter().find(|ended| ended.client == client);
    let ended = ended.expect("the open flow is logged");
    assert_eq!((ended.end.as_str(), ended.server), ("stopped", server.address()));
}

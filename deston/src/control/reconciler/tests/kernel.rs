//! What the kernel is told, and in which order.

use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::datapath::Failing;

fn text(listener: &str, ports: &[u16]) -> String {
    let servers: String =
        ports.iter().map(|port| format!("[[server]]\npool = \"p\"\nport = {port}\n")).collect();
    format!(
        "[[listener]]\nname = \"{listener}\"\nport = 80\npool = \"p\"\n[[pool]]\nname = \"p\"\n{servers}"
    )
}

#[test]
fn servers_come_before_the_table_and_the_table_before_the_listener() {
    let (lab, journal) = start_beside(&text("k", &[1, 2]), &[]);
    lab.unwrap();
    assert_eq!(
        journal.read(),
        [
            "bind k:80",
            "kernel: server 1 is :1 Active",
            "kernel: server 2 is :2 Active",
            "kernel: table p is [1, 2]",
            "kernel: listener k:80 has pool p",
            "open k:80",
        ]
    );
}

#[test]
fn a_server_leaves_the_table_before_it_drains() {
    let mut lab = start(&text("k", &[1, 2]));
    assert_eq!(
        lab.reload(&text("k", &[2, 3])),
        ["kernel: server 3 is :3 Active", "kernel: table p is [2, 3]", "kernel: drain server 1"]
    );
    assert_eq!(lab.reload(&text("k", &[2, 3])), ["kernel: forget server 1"]);
}

#[test]
fn a_server_that_is_told_to_drain_takes_no_new_flow_in_the_kernel() {
    let mut lab = start(&text("k", &[1, 2]));
    assert_eq!(
        lab.reload(&format!("{}drain = true\n", text("k", &[1, 2]))),
        ["kernel: server 2 is :2 Draining", "kernel: drain server 2", "kernel: table p is [1]"]
    );
}

#[test]
fn a_draining_server_is_known_while_it_has_flows() {
    let mut lab = start(&text("k", &[1, 2]));
    *lab.flows.borrow_mut() = 1;
    lab.reload(&text("k", &[2]));
    assert_eq!(lab.reload(&text("k", &[2])), [""; 0]);
    assert_eq!(
        lab.reload(&text("k", &[1, 2])),
        ["kernel: server 1 is :1 Active", "kernel: table p is [1, 2]"],
        "a server that comes back is the same one"
    );
}

#[test]
fn removal_goes_the_other_way_round() {
    let mut lab = start(&text("k", &[1]));
    let other = text("a", &[1]).replace("\"p\"", "\"q\"");
    assert_eq!(
        lab.reload(&other),
        [
            "bind a:80",
            "open a:80",
            "close k",
            "kernel: close k:80",
            "kernel: forget pool p",
            "kernel: drain server 1"
        ]
    );
}

#[test]
fn a_server_that_is_down_is_told_with_the_table() {
    let mut lab = start(&text("k", &[1, 2]));
    lab.set("p", 1, Condition::Down);
    assert_eq!(lab.journal.read(), ["kernel: server 1 is :1 Down", "kernel: table p is [2]"]);
    lab.set("p", 1, Condition::Up);
    assert_eq!(lab.journal.read(), ["kernel: server 1 is :1 Active", "kernel: table p is [1, 2]"]);
}

#[test]
fn pools_of_userspace_listeners_are_not_told() {
    let mut lab = start(&text("a", &[1, 2]));
    lab.set("p", 1, Condition::Down);
    lab.reload(&text("a", &[1, 2, 3]));
    assert_eq!(lab.journal.read(), [""; 0]);
}

#[test]
fn a_pool_is_told_when_its_first_listener_in_the_kernel_comes() {
    let mut lab = start(&text("a", &[1, 2]));
    lab.set("p", 1, Condition::Down);
    assert_eq!(
        lab.reload(&text("k", &[1, 2])),
        [
            "bind k:80",
            "kernel: server 1 is :1 Down",
            "kernel: server 2 is :2 Active",
            "kernel: table p is [2]",
            "kernel: listener k:80 has pool p",
            "open k:80",
            "close a",
        ]
    );
}

#[test]
fn a_listener_that_stays_in_the_kernel_is_not_closed_under_its_address() {
    let mut lab = start(&text("k", &[1]));
    let other = text("k", &[1]).replace("port = 80\n", "port = 80\ninterfaces = [\"eth1\"]\n");
    assert_eq!(
        lab.reload(&other),
        ["bind k:80", "kernel: listener k:80 has pool p", "open k:80"],
        "a worker closes the old socket of a name when the new one accepts"
    );
    let renamed = other.replace("\"k\"", "\"k2\"");
    assert_eq!(
        lab.reload(&renamed),
        ["bind k2:80", "kernel: listener k2:80 has pool p", "open k2:80", "close k"]
    );
}

#[test]
fn an_explicit_xdp_that_cannot_be_had_is_refused() {
    let xdp = text("a", &[1])
        .replace("port = 80\n", "port = 80\naddress = \"192.0.2.1\"\ndatapath = \"xdp\"\n")
        .replace("[[server]]\n", "[[server]]\naddress = \"198.51.100.1\"\n");
    let (lab, journal) = start_beside(&xdp, &[]);
    let refused = lab.err().unwrap().to_string();
    assert!(
        refused.starts_with("listener a: datapath \"xdp\" cannot be had: the listener is on every"),
        "{refused}"
    );
    assert_eq!(journal.read(), [""; 0]);
}

#[test]
fn userspace_is_never_second_guessed() {
    let text = text("k", &[1]).replace("port = 80\n", "port = 80\ndatapath = \"userspace\"\n");
    let (lab, journal) = start_beside(&text, &[]);
    lab.unwrap();
    assert_eq!(journal.read(), ["bind k:80", "open k:80"]);
}

#[test]
fn an_unroutable_server_stands_only_against_its_own_addition() {
    let mut lab = start(&text("k", &[1]));
    *lab.unroutable.borrow_mut() = 1;
    let other = text("a", &[3]).replace("\"p\"", "\"q\"").replace("port = 80", "port = 81");
    assert_eq!(
        lab.reload(&(text("k", &[1]) + &other)),
        ["bind a:81", "open a:81"],
        "a listener that stays as it is is not planned again"
    );
    lab.reload(&(text("k", &[1, 2]) + &other));

    *lab.unroutable.borrow_mut() = 4;
    let refused = lab.reconciler.reload(model(&text("k", &[1, 4]))).unwrap_err().to_string();
    assert!(refused.contains("no route"), "{refused}");
}

#[test]
fn a_port_in_use_is_not_taken_from_its_owner() {
    let (lab, journal) = start_beside(&text("k", &[1]), &[80]);
    let refused = lab.err().unwrap().to_string();
    assert!(refused.contains("in use by another process"), "{refused}");
    assert_eq!(journal.read(), [""; 0]);
}

#[test]
fn what_userspace_cannot_serve_has_no_listener_beside() {
    let dnat = text("k", &[1]).replace("port = 80\npool", "port = 80\nforwarding = \"dnat\"\npool");
    let (lab, journal) = start_beside(&dnat, &[]);
    lab.unwrap();
    let told = journal.read();
    assert!(!told.iter().any(|line| line.starts_with("bind") || line.starts_with("open")));
    let (lab, _) = start_beside(&dnat, &[80]);
    let refused = lab.err().unwrap().to_string();
    assert!(refused.contains("in use by another process"), "its port is held: {refused}");
}

fn guarded(name: &str, guard: &str) -> String {
    text(name, &[1]).replace("port = 80\n", &format!("port = 80\n{guard}\n"))
}

#[test]
fn a_guarded_listener_of_userspace_is_told_to_the_kernel_without_its_pool() {
    let deny = "deny = [\"198.51.100.0/24\"]";
    let mut lab = start_beside(&guarded("g", deny), &[]).0.unwrap();
    assert_eq!(lab.journal.read(), ["bind g:80", "kernel: listener g:80 has pool p", "open g:80"]);
    assert_eq!(lab.reload(&guarded("g", "")), ["kernel: close g:80"]);
    assert_eq!(lab.reload(&guarded("g", deny)), ["kernel: listener g:80 has pool p"]);
    assert_eq!(
        lab.reload(&guarded("a", "")),
        ["bind a:80", "open a:80", "close g", "kernel: close g:80"]
    );
}

#[test]
fn a_guard_that_the_kernel_cannot_take_is_for_userspace() {
    let deny = "deny = [\"198.51.100.0/24\"]";
    let mut lab = start_beside(&guarded("a", deny), &[]).0.unwrap();
    assert_eq!(lab.journal.read(), ["bind a:80", "open a:80"]);
    assert_eq!(lab.reload(&guarded("a", "deny = []")), [""; 0]);
    let userspace = format!("{deny}\ndatapath = \"userspace\"");
    let lab = start_beside(&guarded("g", &userspace), &[]).0.unwrap();
    assert_eq!(lab.journal.read(), ["bind g:80", "open g:80"], "who asks for userspace has it");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_fails_in_the_kernel_is_out_of_the_table_for_a_while() {
    let mut lab = start(&text("k", &[1, 2]));
    let now = Instant::now();
    let fails = |lab: &mut Lab, server, failures| {
        lab.reconciler.suspect(Failing { server: ServerId(server), failures });
        lab.reconciler.judge(now);
        lab.journal.read()
    };
    assert_eq!(fails(&mut lab, 1, 2), [""; 0], "too few failures");
    assert_eq!(
        fails(&mut lab, 1, 3),
        ["kernel: server 1 is :1 Draining", "kernel: table p is [2]"]
    );
    assert_eq!(lab.ports("p"), [2], "userspace avoids it too");
    assert_eq!(fails(&mut lab, 2, 3), [""; 0], "the last one stays");

    lab.reconciler.judge(now + Duration::from_secs(10));
    assert_eq!(lab.journal.read(), ["kernel: server 1 is :1 Active", "kernel: table p is [1, 2]"]);
}

#[test]
fn servers_of_the_process_before_keep_their_identifiers() {
    let (lab, journal) = start_after(&text("k", &[1, 2, 3]), &[], &[(7, 2), (8, 9)]);
    let mut lab = lab.unwrap();
    *lab.flows.borrow_mut() = 1;
    assert_eq!(
        journal.read(),
        [
            "bind k:80",
            "kernel: server 1 is :1 Active",
            "kernel: server 7 is :2 Active",
            "kernel: server 2 is :3 Active",
            "kernel: table p is [1, 7, 2]",
            "kernel: listener k:80 has pool p",
            "open k:80",
            "kernel: drain server 8",
            "kernel: take over",
        ]
    );
    lab.reconciler.sweep();
    assert_eq!(journal.read(), [""; 0], "flows name it");
    *lab.flows.borrow_mut() = 0;
    lab.reconciler.sweep();
    assert_eq!(journal.read(), ["kernel: forget server 8"]);
}

#[test]
fn a_server_of_two_pools_is_told_apart_by_its_pool() {
    let both = text("k", &[1])
        + &text("k2", &[1]).replace("\"p\"", "\"a\"").replace("port = 80", "port = 81");
    let (lab, journal) = start_after(&both, &[], &[(5, 1), (6, 1)]);
    lab.unwrap();
    let told: Vec<_> = journal.read().into_iter().filter(|line| line.contains("table")).collect();
    assert_eq!(told, ["kernel: table p is [5]", "kernel: table a is [6]"]);
}

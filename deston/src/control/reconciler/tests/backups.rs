//! Servers that step in for others.

use super::*;

/// A pool of server 1 and its backups 2 and 3.
fn text(listener: &str) -> String {
    let server = |port: u16, backup: bool| {
        format!("[[server]]\npool = \"p\"\nport = {port}\nbackup = {backup}\n")
    };
    let servers = [server(1, false), server(2, true), server(3, true)].concat();
    format!(
        "[[listener]]\nname = \"{listener}\"\nport = 80\npool = \"p\"\n\
         [[pool]]\nname = \"p\"\n{servers}"
    )
}

#[test]
fn backups_take_connections_while_nobody_else_does() {
    let mut lab = start(&text("a"));
    assert_eq!(lab.ports("p"), [1]);
    lab.set("p", 1, Condition::Down);
    assert_eq!(lab.ports("p"), [2, 3]);
    lab.set("p", 2, Condition::Down);
    assert_eq!(lab.ports("p"), [3]);
    lab.set("p", 1, Condition::Up);
    assert_eq!(lab.ports("p"), [1]);
}

#[test]
fn a_reload_makes_a_backup_of_a_server_and_back() {
    let mut lab = start(&text("a"));
    lab.reload(&text("a").replace("true", "false"));
    assert_eq!(lab.ports("p"), [1, 2, 3]);
    lab.reload(&text("a"));
    assert_eq!(lab.ports("p"), [1]);
}

#[test]
fn a_last_server_is_ejected_if_a_backup_can_step_in() {
    let mut lab = start(&text("a"));
    let server = lab.server("p", 1);
    (0..3).for_each(|_| server.streaks().refused());
    lab.reconciler.judge(tokio::time::Instant::now());
    assert_eq!(lab.ports("p"), [2, 3]);
}

#[test]
fn in_the_kernel_backups_take_no_new_flow_unless_they_are_needed() {
    let mut lab = start(&text("k"));
    lab.journal.read();
    lab.set("p", 1, Condition::Down);
    let told = lab.journal.read();
    let expected = [
        "kernel: server 1 is :1 Down",
        "kernel: server 2 is :2 Active",
        "kernel: server 3 is :3 Active",
        "kernel: table p is [2, 3]",
    ];
    assert_eq!(told, expected);
    lab.set("p", 1, Condition::Up);
    let expected = [
        "kernel: server 1 is :1 Active",
        "kernel: server 2 is :2 Draining",
        "kernel: server 3 is :3 Draining",
        "kernel: table p is [1]",
    ];
    assert_eq!(lab.journal.read(), expected);
}

//! Servers whose connections fail: ejected, and back again.

use std::time::Duration;

use tokio::time::Instant;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn text(listener: &str, servers: u16) -> String {
    let servers: String =
        (1..=servers).map(|port| format!("[[server]]\npool = \"p\"\nport = {port}\n")).collect();
    format!(
        "[[listener]]\nname = \"{listener}\"\nport = 80\npool = \"p\"\n\
         [[pool]]\nname = \"p\"\n{servers}"
    )
}

/// Lets a server fail so many times, and looks.
fn fail(lab: &mut Lab, server: &Arc<live::Server>, times: u32, now: Instant) {
    (0..times).for_each(|_| server.streaks().refused());
    lab.reconciler.judge(now);
}

#[test]
fn a_server_that_fails_three_times_in_a_row_is_ejected_for_ten_seconds() {
    let mut lab = start(&text("a", 2));
    let (server, now) = (lab.server("p", 1), Instant::now());
    fail(&mut lab, &server, 2, now);
    assert_eq!(lab.ports("p"), [1, 2]);
    fail(&mut lab, &server, 1, now);
    assert_eq!(lab.ports("p"), [2]);
    lab.reconciler.judge(now + 9 * SECOND);
    assert_eq!(lab.ports("p"), [2]);
    lab.reconciler.judge(now + 10 * SECOND);
    assert_eq!(lab.ports("p"), [1, 2]);
    assert_eq!(server.streaks().longest(), 0, "it starts anew");
}

#[test]
fn an_ejected_server_takes_no_new_flow_in_the_kernel() {
    let mut lab = start(&text("k", 2));
    let (server, now) = (lab.server("p", 1), Instant::now());
    fail(&mut lab, &server, 3, now);
    assert_eq!(lab.journal.read(), ["kernel: server 1 is :1 Draining", "kernel: table p is [2]"]);
    lab.reconciler.judge(now + 10 * SECOND);
    assert_eq!(lab.journal.read(), ["kernel: server 1 is :1 Active", "kernel: table p is [1, 2]"]);
}

#[test]
fn no_more_than_half_of_a_pool_is_ejected() {
    let mut lab = start(&text("a", 3));
    let now = Instant::now();
    let servers: Vec<_> = (1..=3).map(|port| lab.server("p", port)).collect();
    for server in &servers {
        fail(&mut lab, server, 3, now);
    }
    assert_eq!(lab.ports("p"), [2, 3]);
    let mut alone = start(&text("a", 1));
    let server = alone.server("p", 1);
    fail(&mut alone, &server, 100, now);
    assert_eq!(alone.ports("p"), [1], "the last server is never ejected");
}

#[test]
fn a_server_that_is_down_is_not_ejected_as_well() {
    let mut lab = start(&text("a", 2));
    let (server, now) = (lab.server("p", 1), Instant::now());
    lab.set("p", 1, Condition::Down);
    fail(&mut lab, &server, 3, now);
    lab.set("p", 1, Condition::Up);
    assert_eq!(lab.ports("p"), [1, 2]);
}

#[test]
fn a_reload_leaves_an_ejection_alone() {
    let mut lab = start(&text("a", 2));
    let (server, now) = (lab.server("p", 1), Instant::now());
    fail(&mut lab, &server, 3, now);
    lab.reload(&text("a", 3));
    assert_eq!(lab.ports("p"), [2, 3]);
    lab.reconciler.judge(now + 10 * SECOND);
    assert_eq!(lab.ports("p"), [1, 2, 3]);
}

#[test]
fn what_connections_do_when_a_server_goes_down_follows_the_configuration() {
    let pool = |on_down: &str| {
        text("a", 2).replace("[[pool]]\n", &format!("[[pool]]\non_down = \"{on_down}\"\n"))
    };
    let mut lab = start(&pool("drain"));
    let server = lab.server("p", 1);
    lab.set("p", 1, Condition::Down);
    assert!(!server.fate().moves_flows());
    lab.reload(&pool("rehash"));
    assert!(server.fate().moves_flows());
    lab.set("p", 1, Condition::Up);
    assert!(!server.fate().moves_flows());
}

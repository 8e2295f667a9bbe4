//! Listeners: bound, opened, kept, closed.

use super::*;

const SERVER: &str = "[[server]]\nport = 1\n";
/// One that packets can be sent to.
const ELSEWHERE: &str = "[[server]]\naddress = \"198.51.100.1\"\n";

fn listener(name: &str, port: u16) -> String {
    format!("[[listener]]\nname = \"{name}\"\nport = {port}\n")
}

fn listeners(all: &[(&str, u16)]) -> String {
    let listeners: String = all.iter().map(|(name, port)| listener(name, *port)).collect();
    format!("{listeners}{SERVER}")
}

#[test]
fn every_listener_is_bound_before_any_is_opened() {
    let (lab, journal) = start_beside(&listeners(&[("a", 80), ("b", 81)]), &[]);
    lab.unwrap();
    assert_eq!(journal.read(), ["bind a:80", "bind b:81", "open a:80", "open b:81"]);
}

#[test]
fn what_only_the_kernel_can_do_never_falls_back_to_userspace() {
    let listener = |lines: &str| {
        format!("[[listener]]\nname = \"a\"\naddress = \"192.0.2.1\"\n{lines}\n{ELSEWHERE}")
    };
    for (lines, needs) in [
        ("forwarding = \"dnat\"", "`forwarding = \"dnat\"`"),
        ("port = 3000\nforwarding = \"dsr-l2\"", "`forwarding = \"dsr-l2\"`"),
        ("port = 0", "`port = 0`"),
        ("protocol = \"udp\"\nflows = { one_packet = true }", "`one_packet`"),
    ] {
        let (lab, journal) = start_beside(&listener(lines), &[]);
        let refused = lab.err().unwrap().to_string();
        let expected =
            format!("listener a: {needs} needs the kernel datapath, which cannot be had: ");
        assert!(refused.starts_with(&expected), "{refused}");
        assert_eq!(journal.read(), [""; 0]);
    }
}

#[test]
fn a_datapath_that_is_asked_for_by_name_is_had_or_refused() {
    for datapath in ["xdp", "tc"] {
        let keys = format!("address = \"192.0.2.1\"\ndatapath = \"{datapath}\"");
        let text = format!("[load_balancer]\n{keys}\n{ELSEWHERE}");
        let refused = start_beside(&text, &[]).0.err().unwrap().to_string();
        let expected = format!("listener default: datapath \"{datapath}\" cannot be had: ");
        assert!(refused.starts_with(&expected), "{refused}");
    }
}

#[test]
fn a_layer_7_guard_that_the_kernel_cannot_take_is_refused_unless_by_auto() {
    let text = |datapath: &str| {
        let keys = format!("layer = \"L7\"\ndatapath = \"{datapath}\"\ndeny = [\"192.0.2.1\"]");
        format!("[load_balancer]\n{keys}\n{SERVER}")
    };
    for datapath in ["xdp", "tc"] {
        let refused = start_beside(&text(datapath), &[]).0.err().unwrap().to_string();
        assert!(refused.contains("cannot be had"), "{refused}");
    }
    for datapath in ["auto", "userspace"] {
        assert!(start_beside(&text(datapath), &[]).0.is_ok());
    }
}

#[test]
fn a_port_in_use_starts_nothing_and_every_one_is_named() {
    let (lab, journal) = start_beside(&listeners(&[("a", 80), ("b", 81), ("c", 82)]), &[80, 82]);
    let refused = lab.err().unwrap().to_string();
    assert!(refused.contains("listener a: 127.0.0.1:80/tcp is in use"), "{refused}");
    assert!(refused.contains("listener c: 127.0.0.1:82/tcp is in use"), "{refused}");
    assert_eq!(journal.read(), ["bind b:81"]);
}

#[test]
fn what_did_not_change_is_not_touched() {
    let text = listeners(&[("a", 80), ("b", 81)]);
    let mut lab = start(&text);
    let before = Arc::clone(lab.reconciler.listener("a").unwrap());
    let view = lab.pool("default").view();
    assert_eq!(lab.reload(&text), [""; 0]);
    assert!(Arc::ptr_eq(&before, lab.reconciler.listener("a").unwrap()));
    assert!(Arc::ptr_eq(&view, &lab.pool("default").view()));
}

#[test]
fn a_reload_that_cannot_bind_changes_nothing() {
    let text = listeners(&[("a", 80)]);
    let mut lab = start(&text);
    lab.in_use.borrow_mut().push(82);
    let new = listeners(&[("a", 83), ("b", 81), ("c", 82)]).replace("port = 1\n", "port = 2\n");
    let refused = lab.reconciler.reload(model(&new)).unwrap_err();
    assert_eq!(refused.failures.len(), 1);
    assert!(lab.journal.read().iter().all(|line| line.starts_with("bind")));
    assert_eq!(*lab.reconciler.model(), model(&text));
    assert_eq!(lab.ports("default"), [1]);
}

#[test]
fn a_new_listener_is_opened_before_an_old_one_is_closed() {
    let mut lab = start(&listeners(&[("a", 80)]));
    // The same address under another name.
    assert_eq!(lab.reload(&listeners(&[("b", 80)])), ["bind b:80", "open b:80", "close a"]);
}

#[test]
fn addresses_of_others_are_bound_before_our_own() {
    let mut lab = start(&listeners(&[("a", 80)]));
    let told = lab.reload(&listeners(&[("b", 80), ("c", 81)]));
    assert_eq!(told, ["bind c:81", "bind b:80", "open b:80", "open c:81", "close a"]);
}

#[test]
fn a_listener_that_moves_is_not_closed_under_its_name() {
    let mut lab = start(&listeners(&[("a", 80)]));
    // Opening the new one closes the old one.
    assert_eq!(lab.reload(&listeners(&[("a", 81)])), ["bind a:81", "open a:81"]);
    assert_eq!(lab.reload(SERVER.replace("port = 1", "port = 2").as_str()).len(), 3);
}

#[test]
fn settings_of_a_listener_are_replaced_where_it_is() {
    let text = listeners(&[("a", 80)]);
    let mut lab = start(&text);
    let live = Arc::clone(lab.reconciler.listener("a").unwrap());
    let new = text.replace("port = 80\n", "port = 80\n[listener.timeouts]\ntunnel_idle = \"1s\"\n");
    assert_eq!(lab.reload(&new), [""; 0]);
    assert_eq!(*live.serving().listener, *model(&new).listeners[0]);
}

#[test]
fn a_listener_can_be_given_another_pool() {
    let pools = "[[pool]]\nname = \"p\"\n[[server]]\npool = \"p\"\nport = 2\n";
    let text = |pool: &str| {
        format!(
            "[[listener]]\nname = \"a\"\npool = \"{pool}\"\n[[pool]]\nname = \"default\"\n{pools}{SERVER}"
        )
    };
    let mut lab = start(&text("default"));
    let live = Arc::clone(lab.reconciler.listener("a").unwrap());
    assert_eq!(live.serving().pool.name(), "default");
    lab.reload(&text("p"));
    assert_eq!(live.serving().pool.name(), "p");
}

#[test]
fn workers_and_kernel_keep_their_running_values() {
    let mut lab = start(&format!("{SERVER}[runtime]\nworkers = 1\n"));
    let new =
        format!("{SERVER}[runtime]\nworkers = 2\ndrain_timeout = \"1s\"\n[kernel]\nflows = 5000\n");
    for _ in 0..2 {
        let summary = lab.reconciler.reload(model(&new)).unwrap();
        assert_eq!(summary.need_restart, 2);
        let running = lab.reconciler.model();
        assert_eq!((running.runtime.workers, running.kernel.flows), (1, 262_144));
        assert_eq!(running.runtime.drain_timeout.as_secs(), 1);
    }
}

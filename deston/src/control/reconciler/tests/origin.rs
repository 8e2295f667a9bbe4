//! Who clients are said to be, and what then can carry a listener.

use super::*;

/// A listener with further keys, and its one server with some.
fn text(name: &str, listener: &str, server: &str) -> String {
    format!(
        "[[listener]]\nname = \"{name}\"\nport = 80\npool = \"p\"\n{listener}\n\
         [[pool]]\nname = \"p\"\n[[server]]\npool = \"p\"\nport = 1\n{server}\n"
    )
}

const ACCEPTS: &str = "trusted_proxies = [\"192.0.2.1\"]\naccept_proxy_protocol = \"require\"";
const SENDS: &str = "proxy_protocol = \"v2\"";

#[test]
fn a_listener_that_reads_or_sends_the_proxy_protocol_is_carried_by_userspace() {
    for (listener, server) in [(ACCEPTS, ""), ("", SENDS)] {
        let lab = start(&text("k", listener, server));
        assert_eq!(lab.reconciler.listeners["k"].carrier, Carrier::Userspace);
    }
    assert_ne!(start(&text("k", "", "")).reconciler.listeners["k"].carrier, Carrier::Userspace);
}

#[test]
fn a_listener_in_the_kernel_begins_to_read_or_send_it_with_a_restart() {
    let mut lab = start(&text("k", "", ""));
    for (listener, server, why) in [
        (ACCEPTS, "", "`accept_proxy_protocol` is read in userspace"),
        ("", SENDS, "`proxy_protocol` of server 127.0.0.1:1 is sent by userspace"),
    ] {
        let new = model(&text("k", listener, server));
        let refused = lab.reconciler.reload(new).unwrap_err().to_string();
        let expected =
            format!("listener k runs in the kernel, and {why}: it moves only by a restart");
        assert!(refused.contains(&expected), "{refused}");
        assert_eq!(lab.journal.read(), [""; 0]);
    }
}

#[test]
fn servers_are_told_of_clients_from_a_reload_on() {
    let mut lab = start(&text("a", "", ""));
    let server = lab.server("p", 1);
    assert!(!server.tells_client());
    lab.reload(&text("a", "", SENDS));
    assert!(server.tells_client());
    lab.reload(&text("a", "", ""));
    assert!(!server.tells_client());
}

#[test]
fn a_rate_limit_that_spares_trusted_proxies_is_not_for_the_kernel() {
    let limit = "layer = \"L7\"\nrate_limit = { rate = \"9/s\" }";
    let spares = format!("{limit}\ntrusted_proxies = [\"192.0.2.1\"]");
    let mut lab = start(&text("g", limit, ""));
    assert_eq!(lab.reconciler.listeners["g"].guarded, Guarded::InKernel);
    assert_eq!(lab.reload(&text("g", &spares, "")), ["kernel: close g:80"]);
    assert_eq!(lab.reconciler.listeners["g"].guarded, Guarded::InUserspace);
    assert_eq!(lab.reload(&text("g", limit, "")), ["kernel: listener g:80 has pool p"]);
}

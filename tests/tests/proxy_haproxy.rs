//! HAProxy on either side: it tells Deston of a client, and is told of it by Deston.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use deston::live;
use deston::model::{
    AcceptProxyProtocol, Algorithm, Layer, Listener, Origin, Protocol, ProxyProtocol, Speech,
};
use deston_tests::http::Peer;
use deston_tests::live::{l4, l7, listener, live_pool, server};
use deston_tests::proxied::{ANY_PORT, NAME, Proxied};

/// Tells who its client is, as the header of the PROXY protocol before each connection says.
const BEHIND: &str = "    bind fd@${BEHIND} accept-proxy\n    mode http\n    \
    http-request return status 200 content-type text/plain lf-string \"%[src] %[src_port]\"\n";

/// A process of HAProxy; dropping it ends it.
struct Haproxy(Child, std::path::PathBuf);

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        let _ = fs::remove_file(&self.1);
    }
}

impl Haproxy {
    /// Starts it with this configuration, and sockets that it names as `fd@${..}`.
    fn start(config: &str, sockets: &[(&str, &TcpListener)]) -> Self {
        let number = sockets[0].1.local_addr().unwrap().port();
        let path = std::env::temp_dir().join(format!("deston-haproxy-{number}.cfg"));
        let defaults = "global\n    nbthread 1\ndefaults\n    timeout connect 10s\n    \
            timeout client 10s\n    timeout server 10s\n";
        fs::write(&path, format!("{defaults}{config}")).unwrap();
        // A copy is inherited, as the original is not.
        let inherited: Vec<(&str, OwnedFd)> = sockets
            .iter()
            .map(|(name, socket)| (*name, nix::unistd::dup(socket).unwrap()))
            .collect();
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(&path).stdout(Stdio::null()).stderr(Stdio::null());
        for (name, socket) in &inherited {
            command.env(name, socket.as_raw_fd().to_string());
        }
        let child = command.spawn().expect("haproxy is installed");
        Self(child, path)
    }
}

fn socket() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind(ANY_PORT).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Deston, believing HAProxy, before the servers of a pool.
fn start(layer: Layer, pool: &Arc<live::Pool>) -> Proxied {
    let plain = listener(NAME, ANY_PORT, layer);
    let trusted_proxies = ["127.0.0.0/8".parse().unwrap()].into_iter().collect();
    let accept = AcceptProxyProtocol::Require;
    let origin = Origin { trusted_proxies, accept, ..Origin::default() };
    Proxied::start_as(2, Listener { origin, ..Listener::clone(&plain) }.into(), pool).0
}

#[tokio::test]
async fn haproxy_before_and_behind_agree_on_who_the_client_is() {
    if Command::new("haproxy").arg("-v").output().is_err() {
        let required = std::env::var_os("DESTON_REQUIRE_KERNEL").is_some_and(|value| value == "1");
        assert!(!required, "haproxy is not installed");
        println!("skipped: haproxy is not installed");
        return;
    }
    for (send, version) in [
        ("send-proxy", ProxyProtocol::V1),
        ("send-proxy", ProxyProtocol::V2),
        ("send-proxy-v2", ProxyProtocol::V1),
        ("send-proxy-v2", ProxyProtocol::V2),
        // With fields after the addresses, a checksum among them.
        ("send-proxy-v2 proxy-v2-options crc32c,unique-id", ProxyProtocol::V2),
    ] {
        for layer in [l4(Protocol::Tcp), l7()] {
            let (behind, upstream) = socket();
            let (before, address) = socket();
            let pool = live_pool(Algorithm::RoundRobin, [server(upstream)]);
            let speech = Speech { proxy_protocol: Some(version), ..Speech::default() };
            pool.view().servers[0].set_speech(speech);
            let deston = start(layer, &pool);
            let config = format!(
                "listen before\n    bind fd@${{BEFORE}}\n    mode tcp\n    \
                 unique-id-format %[uuid()]\n    server deston {} {send}\n\
                 listen behind\n{BEHIND}",
                deston.address
            );
            let _haproxy = Haproxy::start(&config, &[("BEFORE", &before), ("BEHIND", &behind)]);
            let mut client = Peer::connect(address).await;
            let response = client.ask("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").await;
            let expected = format!("{} {}", client.address().ip(), client.address().port());
            assert_eq!(response.text(), expected, "{send}, then {version:?}");
        }
    }
}

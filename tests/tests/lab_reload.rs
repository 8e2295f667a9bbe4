//! Reloads with the kernel datapath.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use deston_tests::lab::visit::{
    LIMIT, NO_HEALTH, PORT, asked, config, counted, echo, greeted, visit, visit_soon,
};
use deston_tests::lab::{BALANCER, Deston, Lab, TcpServer, UdpServer, listener, pause};
use deston_tests::require_lab;
use nix::sys::signal::Signal;

#[test]
fn a_listener_that_moves_from_userspace_to_xdp_keeps_its_connections() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(&lab.servers[0], 1, 0);
    let xdp = config("", NO_HEALTH, &[(server.address(), "")]);
    let userspace = xdp.replace("\"xdp\"", "\"userspace\"");
    let mut deston = Deston::serving(&lab.balancer, &userspace);
    let mut open = lab.client.within(|| greeted(listener(PORT)));
    deston.reload(&xdp);
    let line = deston.wait_for_log("reloaded");
    assert!(!line.contains("not reloaded"), "{line}");
    assert_eq!(visit_soon(&lab), 1);
    echo(&mut open);

    let mut kernels = lab.client.within(|| greeted(listener(PORT)));
    deston.reload(&userspace);
    let line = deston.wait_for_log("reloaded");
    assert!(!line.contains("not reloaded"), "{line}");
    assert_eq!(visit_soon(&lab), 1);
    echo(&mut open);
    echo(&mut kernels);
}

#[test]
fn a_listener_moves_between_the_datapaths_by_a_reload() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(&lab.servers[0], 1, 0);
    let datagrams = UdpServer::start(&lab.servers[0], 1, server.address().port());
    assert_eq!(datagrams.address(), server.address());
    for keys in ["", "protocol = \"udp\""] {
        let visited = |lab: &Lab| match keys {
            "" => visit_soon(lab),
            _ => lab.client.within(|| asked(listener(PORT))),
        };
        let xdp = config(keys, NO_HEALTH, &[(server.address(), "")]);
        let userspace = xdp.replace("\"xdp\"", "\"userspace\"");
        let mut deston = Deston::serving(&lab.balancer, &userspace);
        assert_eq!(visited(&lab), 1);
        for config in [&xdp, &userspace, &xdp] {
            deston.reload(config);
            let line = deston.wait_for_log("reloaded");
            assert!(!line.contains("not reloaded"), "{line}");
            assert_eq!(visited(&lab), 1);
        }
    }
}

#[test]
fn reloads_under_load_reset_no_flow() {
    require_lab!();
    let lab = Lab::new(3);
    let servers: Vec<_> =
        (1..=3).map(|n| TcpServer::start(&lab.servers[usize::from(n) - 1], n, 0)).collect();
    let address = |n: usize| servers[n].address();
    let health = "[load_balancer.health]\nkind = \"off\"";
    let other = format!(
        "[[listener]]\nname = \"other\"\naddress = \"{BALANCER}\"\nport = 8001\ndatapath = \"xdp\"\n"
    );
    let first =
        config("algorithm = \"round_robin\"", health, &[(address(0), ""), (address(1), "")]);
    let second = config(
        "algorithm = \"weighted_round_robin\"",
        health,
        &[(address(1), "weight = 3"), (address(2), "")],
    ) + &other;
    let broken = first.replace("algorithm", "algorithmus");
    let mut deston = Deston::serving(&lab.balancer, &first);

    let done = Arc::new(AtomicBool::new(false));
    let (echoes, visits) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let mut threads = Vec::new();
    for _ in 0..4 {
        // Long flows, over all reloads; short ones, one after the other.
        let (flag, count) = (Arc::clone(&done), Arc::clone(&echoes));
        threads.push(lab.client.spawn(move || {
            let mut stream = TcpStream::connect(listener(PORT)).unwrap();
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            stream.write_all(b"s").unwrap();
            stream.read_exact(&mut [0; 2]).unwrap();
            while !flag.load(Ordering::Relaxed) {
                stream.write_all(&[7; 64]).unwrap();
                stream.read_exact(&mut [0; 64]).unwrap();
                count.fetch_add(1, Ordering::Relaxed);
            }
        }));
        let (flag, count) = (Arc::clone(&done), Arc::clone(&visits));
        threads.push(lab.client.spawn(move || {
            while !flag.load(Ordering::Relaxed) {
                visit(listener(PORT)).unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                // Bounded: SNAT ports of closed flows are held for `tcp_fin`.
                pause(Duration::from_millis(2));
            }
        }));
    }
    for config in [&second, &broken, &first].iter().cycle().take(50) {
        deston.reload(config);
        let line = deston.wait_for_log("reloaded");
        assert_eq!(line.contains("not reloaded"), **config == broken, "{line}");
        pause(Duration::from_millis(200));
    }
    done.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let (echoes, visits) = (echoes.load(Ordering::Relaxed), visits.load(Ordering::Relaxed));
    println!("{echoes} echoes on long flows, {visits} short flows, none failed");
    assert!(echoes > 1_000 && visits > 500, "{echoes} echoes, {visits} visits");
    assert!(servers.iter().all(|server| server.served() > 0));

    deston.signal(Signal::SIGTERM);
    assert_eq!(deston.wait().code(), Some(0));
    let forwarded = counted(&deston.rest_of_log(), "forwarded");
    // An echo takes one packet at least, a visit four; nothing set the counter back.
    assert!(forwarded >= u64::from(echoes) + 4 * u64::from(visits), "{forwarded} packets");
}

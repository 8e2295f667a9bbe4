//! What a process leaves in the kernel, and the next one adopts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use deston_tests::lab::visit::{NO_HEALTH, PORT, config, echo, greeted, visit};
use deston_tests::lab::{Deston, Instance, Lab, TcpServer, listener, pause, wait_until};
use deston_tests::require_lab;
use nix::sys::signal::Signal;

/// Clients that come one after the other.
struct Load {
    stop: Arc<AtomicBool>,
    visits: Arc<AtomicU32>,
    visiting: JoinHandle<()>,
}

impl Load {
    fn start(lab: &Lab) -> Self {
        let (stop, visits) = (Arc::<AtomicBool>::default(), Arc::<AtomicU32>::default());
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&visits));
        let visiting = lab.client.spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                visit(listener(PORT)).expect("no connection fails");
                counted.fetch_add(1, Ordering::SeqCst);
                pause(Duration::from_millis(1));
            }
        });
        Self { stop, visits, visiting }
    }

    /// Waits for so many more visits.
    fn wait(&self, more: u32) {
        let until = self.visits.load(Ordering::SeqCst) + more;
        wait_until("clients are served", || {
            assert!(!self.visiting.is_finished(), "a connection has failed");
            self.visits.load(Ordering::SeqCst) >= until
        });
    }

    fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.visiting.join().unwrap();
    }
}

/// A configuration at a hook, with pins.
fn pinned(instance: &Instance, hook: &str, servers: &[SocketAddr]) -> String {
    let servers: Vec<_> = servers.iter().map(|address| (*address, "")).collect();
    let keys = format!("{NO_HEALTH}\n{}", instance.keys());
    config("", &keys, &servers).replace("\"xdp\"", &format!("\"{hook}\""))
}

#[test]
fn traffic_flows_while_the_process_is_killed_and_started_again() {
    require_lab!();
    for hook in ["xdp", "tc"] {
        let lab = Lab::new(2);
        let servers = [1, 2].map(|n| TcpServer::start(&lab.servers[usize::from(n) - 1], n, 0));
        let instance = Instance::new(&lab);
        let config = pinned(&instance, hook, &[servers[0].address(), servers[1].address()]);
        let mut deston = Deston::start_pinned(&lab.balancer, &config);
        let mut open = lab.client.within(|| [(); 8].map(|()| greeted(listener(PORT))));
        let load = Load::start(&lab);
        load.wait(50);
        for _ in 0..3 {
            deston.signal(Signal::SIGKILL);
            deston.wait();
            load.wait(50);
            open.iter_mut().for_each(echo);
            deston = Deston::start_pinned(&lab.balancer, &config);
            load.wait(50);
            open.iter_mut().for_each(echo);
        }
        load.end();
        drop(open);
        deston.signal(Signal::SIGTERM);
        assert_eq!(deston.wait().code(), Some(0));
        let log = deston.rest_of_log();
        assert!(log.contains("adopted what the process before left"), "{log}");
    }
}

#[test]
fn told_to_keep_it_the_datapath_outlives_the_process() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(&lab.servers[0], 1, 0);
    let instance = Instance::new(&lab);
    let keep = format!("{}on_stop = \"keep\"\n", instance.keys());
    let config = pinned(&instance, "tc", &[server.address()]).replace(&instance.keys(), &keep);
    let mut deston = Deston::start_pinned(&lab.balancer, &config);
    let mut open = lab.client.within(|| greeted(listener(PORT)));
    deston.signal(Signal::SIGTERM);
    assert_eq!(deston.wait().code(), Some(0));
    assert!(deston.rest_of_log().contains("the kernel datapath goes on"));
    echo(&mut open);
    assert_eq!(lab.client.within(|| visit(listener(PORT)).unwrap()), 1);

    let _deston = Deston::start_pinned(&lab.balancer, &config);
    echo(&mut open);
    assert_eq!(lab.client.within(|| visit(listener(PORT)).unwrap()), 1);
}

#[test]
fn what_is_not_configured_again_takes_no_new_flow_and_finishes() {
    require_lab!();
    let lab = Lab::new(2);
    let servers = [1, 2].map(|n| TcpServer::start(&lab.servers[usize::from(n) - 1], n, 0));
    let instance = Instance::new(&lab);
    let both = pinned(&instance, "tc", &[servers[0].address(), servers[1].address()]);
    let mut deston = Deston::start_pinned(&lab.balancer, &both);
    let mut open = lab.client.within(|| [(); 2].map(|()| greeted(listener(PORT))));
    deston.signal(Signal::SIGKILL);
    deston.wait();

    let second = pinned(&instance, "tc", &[servers[1].address()]);
    let mut deston = Deston::start_pinned(&lab.balancer, &second);
    open.iter_mut().for_each(echo);
    assert_eq!(lab.client.within(|| [(); 4].map(|()| visit(listener(PORT)).unwrap())), [2; 4]);
    open.iter_mut().for_each(echo);
    assert_eq!(servers[0].open(), 1, "its connection goes on");
    deston.signal(Signal::SIGKILL);
    deston.wait();

    // Another port: the listener is another one, and the former one only finishes.
    let moved = second.replace("port = 8000", "port = 8001");
    let _deston = Deston::start_pinned(&lab.balancer, &moved);
    open.iter_mut().for_each(echo);
    assert_eq!(lab.client.within(|| visit(listener(PORT + 1)).unwrap()), 2);
    let refused = lab.client.within(|| visit(listener(PORT)));
    assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    open.iter_mut().for_each(echo);
}

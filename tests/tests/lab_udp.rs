//! How long UDP flows live, and datagrams that have none.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use deston_tests::kernel::Setting;
use deston_tests::lab::visit::{LIMIT, NO_HEALTH, PORT, config_for};
use deston_tests::lab::{Deston, Lab, ListedFlow, UdpServer, listener_of, server_of, wait_until};
use deston_tests::require_lab;
use nix::sys::signal::Signal;

/// After which idle time flows end: without a reply, and with replies.
const ONE_WAY: Duration = Duration::from_secs(1);
const TWO_WAY: Duration = Duration::from_secs(3);
/// How often the process looks for idle flows.
const SWEEP: Duration = Duration::from_secs(5);

fn address(setting: Setting, n: u8) -> SocketAddr {
    (server_of(setting.family, n), 3_000).into()
}

/// A listener whose two servers are chosen in turn.
fn config(setting: Setting, flows: &str) -> String {
    let keys = format!("protocol = \"udp\"\n[load_balancer.flows]\n{flows}");
    let servers = [1, 2].map(|n| (address(setting, n), ""));
    let text = config_for(setting, &keys, NO_HEALTH, &servers);
    text + "[log]\naccess = \"json\"\n[runtime]\ndrain_timeout = \"0\"\n"
}

fn timeouts(one_way: Duration, two_way: Duration) -> String {
    format!("udp_one_way = \"{}s\"\nudp_two_way = \"{}s\"", one_way.as_secs(), two_way.as_secs())
}

/// A client of the listener.
fn client(lab: &Lab, setting: Setting) -> UdpSocket {
    let to = listener_of(setting.family, PORT);
    let socket = lab.client.within(move || {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).unwrap();
        socket.connect(to).unwrap();
        socket
    });
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket
}

/// Sends a datagram, and returns the number of the server that answers.
fn ask(client: &UdpSocket) -> u8 {
    client.send(b"x").unwrap();
    answered(client, b"x")
}

fn answered(client: &UdpSocket, body: &[u8]) -> u8 {
    let mut answer = [0; 64];
    let length = client.recv(&mut answer).unwrap();
    assert_eq!(&answer[1..length], body);
    answer[0]
}

/// Waits until the only flow there is, of those that are half open too, has been idle for longer.
fn wait_for_idle(deston: &Deston, time: Duration) -> ListedFlow {
    let mut flows = Vec::new();
    wait_until("the flow is idle", || {
        flows = deston.flows(&["--half-open"]);
        assert_eq!(flows.len(), 1, "{flows:?}");
        flows[0].idle > time.as_secs_f64()
    });
    flows.remove(0)
}

/// What the process logged of flows, to its end.
fn logged_to_the_end(mut deston: Deston) -> usize {
    deston.signal(Signal::SIGTERM);
    assert!(deston.wait().success());
    deston.rest_of_flow_log().len()
}

/// Servers that take datagrams and answer none.
struct Silent([UdpSocket; 2]);

impl Silent {
    fn start(lab: &Lab, setting: Setting) -> Self {
        Self([1, 2].map(|n| {
            let at = address(setting, n);
            let socket = lab.server(n).within(move || UdpSocket::bind(at).unwrap());
            socket.set_nonblocking(true).unwrap();
            socket
        }))
    }

    /// Sends so many datagrams and returns how many each server got.
    fn taken(&self, client: &UdpSocket, count: usize) -> [usize; 2] {
        (0..count).for_each(|_| assert_eq!(client.send(b"x").unwrap(), 1));
        let mut taken = [0; 2];
        wait_until("every datagram has arrived", || {
            for (server, taken) in self.0.iter().zip(&mut taken) {
                while server.recv(&mut [0; 16]).is_ok() {
                    *taken += 1;
                }
            }
            taken.iter().sum::<usize>() >= count
        });
        taken
    }
}

/// Who gets the datagrams of a client before and after a silence longer than `ONE_WAY`.
fn around_a_silence(setting: Setting, one_way: Duration) -> [[usize; 2]; 2] {
    let lab = Lab::new(2);
    let servers = Silent::start(&lab, setting);
    let deston = Deston::serving(&lab.balancer, &config(setting, &timeouts(one_way, TWO_WAY)));
    let client = client(&lab, setting);
    let before = servers.taken(&client, 20);
    let flow = wait_for_idle(&deston, ONE_WAY);
    assert_eq!(flow.client, client.local_addr().unwrap(), "{setting}");
    assert_eq!((flow.state.as_str(), flow.server), ("one-way", address(setting, 1)), "{setting}");
    assert!(deston.flows(&[]).is_empty(), "nobody has answered, {setting}");
    let after = servers.taken(&client, 20);
    assert_eq!(deston.flows(&["--half-open"]).len(), 1, "{setting}");
    assert_eq!(logged_to_the_end(deston), 0, "{setting}");
    [before, after]
}

#[test]
fn a_flow_without_a_reply_is_over_after_one_way() {
    require_lab!();
    for setting in Setting::ALL {
        assert_eq!(around_a_silence(setting, ONE_WAY), [[20, 0], [0, 20]], "{setting}");
    }
}

#[test]
fn a_flow_without_a_reply_keeps_its_server_until_one_way() {
    // The control.
    require_lab!();
    for setting in [Setting::XDP4, Setting::TC6] {
        let long = Duration::from_secs(60);
        assert_eq!(around_a_silence(setting, long), [[20, 0], [20, 0]], "{setting}");
    }
}

fn echoing(lab: &Lab, setting: Setting) -> [UdpServer; 2] {
    [1, 2].map(|n| UdpServer::start_at(lab.server(n), n, address(setting, n)))
}

#[test]
fn a_flow_with_replies_outlives_one_way_and_is_over_after_two_way() {
    require_lab!();
    for setting in Setting::ALL {
        let lab = Lab::new(2);
        let _servers = echoing(&lab, setting);
        let text = config(setting, &timeouts(ONE_WAY, TWO_WAY));
        let mut deston = Deston::serving(&lab.balancer, &text);
        let client = client(&lab, setting);
        assert_eq!(ask(&client), 1, "{setting}");
        let flow = wait_for_idle(&deston, ONE_WAY);
        assert_eq!((flow.state.as_str(), flow.server), ("two-way", address(setting, 1)));

        let last = Instant::now();
        assert_eq!(ask(&client), 1, "{setting}");
        wait_until("the flow has ended", || deston.flows(&["--half-open"]).is_empty());
        let took = last.elapsed();
        assert!(took > TWO_WAY, "{took:?}, {setting}");
        // As much again for a machine that has other things to do.
        assert!(took < (TWO_WAY + SWEEP) * 2, "{took:?}, {setting}");
        let ended = deston.wait_for_ended_flow();
        assert_eq!((ended.client, ended.end.as_str()), (client.local_addr().unwrap(), "idle"));
        assert_eq!(ask(&client), 2, "{setting}");
    }
}

#[test]
fn a_flow_with_replies_keeps_its_server_until_two_way() {
    // The control: looked for idle flows more than once, nothing is found.
    require_lab!();
    let setting = Setting::XDP4;
    let lab = Lab::new(2);
    let _servers = echoing(&lab, setting);
    let text = config(setting, &timeouts(ONE_WAY, Duration::from_secs(60)));
    let deston = Deston::serving(&lab.balancer, &text);
    let client = client(&lab, setting);
    assert_eq!(ask(&client), 1);
    wait_for_idle(&deston, TWO_WAY + SWEEP);
    assert_eq!(ask(&client), 1);
}

/// Datagrams of one socket, sent one by one and then at once: how many each server answered, the
/// flows there are after that, and those that the log had in the end.
fn datagrams(setting: Setting, flows: &str) -> ([usize; 2], usize, usize) {
    const EACH: u8 = 40;
    let lab = Lab::new(2);
    let _servers = echoing(&lab, setting);
    let deston = Deston::serving(&lab.balancer, &config(setting, flows));
    let client = client(&lab, setting);
    let mut answers: Vec<u8> = (0..EACH).map(|_| ask(&client)).collect();
    let mut bodies: Vec<u8> = (0..EACH).collect();
    for body in &bodies {
        client.send(&[*body]).unwrap();
    }
    for _ in 0..EACH {
        let mut answer = [0; 64];
        assert_eq!(client.recv(&mut answer).unwrap(), 2);
        bodies.retain(|body| *body != answer[1]);
        answers.push(answer[0]);
    }
    assert!(bodies.is_empty(), "not answered: {bodies:?}, {setting}");
    let counts = [1, 2].map(|n| answers.iter().filter(|server| **server == n).count());
    let open = deston.flows(&[]).len();
    (counts, open, logged_to_the_end(deston))
}

#[test]
fn every_datagram_is_balanced_on_its_own_with_one_packet() {
    require_lab!();
    for setting in Setting::ALL {
        assert_eq!(datagrams(setting, "one_packet = true"), ([40, 40], 0, 0), "{setting}");
    }
}

#[test]
fn datagrams_of_one_socket_are_one_flow_without_one_packet() {
    // The control.
    require_lab!();
    for setting in [Setting::XDP6, Setting::TC4] {
        assert_eq!(datagrams(setting, "one_packet = false"), ([80, 0], 1, 1), "{setting}");
    }
}

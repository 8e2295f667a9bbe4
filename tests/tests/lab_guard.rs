//! The guard in the kernel, in front of layer 7.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use deston_common::outcome::Outcome;
use deston_tests::kernel::{Family, Setting};
use deston_tests::lab::visit::{LIMIT, NO_HEALTH, PORT, config_for};
use deston_tests::lab::{Deston, Lab, listener_of, server_of};
use deston_tests::require_lab;
use socket2::{Domain, Socket, Type};

/// How long a client waits that may be refused: less than a SYN takes to be sent again.
const SOON: Duration = Duration::from_millis(600);
/// Connections that one client opens at once.
const AT_ONCE: usize = 30;
/// Connections that it may.
const BURST: usize = 5;

/// Another address of the client's host: of another /64, which is what a client is known by.
fn second(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([198, 51, 100, 3]),
        Family::V6 => IpAddr::from([0x2001, 0xdb8, 0xc, 3, 0, 0, 0, 3]),
    }
}

/// A layer 7 listener with a guard; its only server is nobody, which is what requests are told.
fn config(setting: Setting, guard: &str) -> String {
    let nobody = (server_of(setting.family, 1), 9).into();
    config_for(setting, &format!("layer = \"L7\"\n{guard}"), NO_HEALTH, &[(nobody, "")])
}

fn lab(setting: Setting) -> Lab {
    let lab = Lab::new(1);
    let second = second(setting.family);
    let bits = if second.is_ipv4() { 32 } else { 128 };
    lab.client.address("eth0", &format!("{second}/{bits}"));
    if second.is_ipv6() {
        lab.balancer.batch(&[format!("route add {second} dev clients")]);
    }
    lab
}

/// A connection from an address, if it is let in soon: a refused SYN is not sent twice.
fn connect_from(from: IpAddr, to: SocketAddr) -> Option<TcpStream> {
    connect_within(SOON, from, to)
}

/// A connection from an address, if it is let in within a time. A first one may have to ask for
/// neighbours, which takes a second where the first question is lost.
fn connect_within(limit: Duration, from: IpAddr, to: SocketAddr) -> Option<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
    socket.connect_timeout(&to.into(), limit).ok()?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    Some(stream)
}

/// A request on a connection that is kept; its answer's first line.
fn request(stream: &mut TcpStream) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4_096];
    while !answer.windows(4).any(|four| four == b"\r\n\r\n") {
        let length = stream.read(&mut buffer).unwrap();
        assert_ne!(length, 0, "the connection was closed");
        answer.extend(&buffer[..length]);
    }
    String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
}

/// How many of so many connections at once are let in.
fn let_in(lab: &Lab, from: IpAddr, to: SocketAddr) -> usize {
    let threads: Vec<_> =
        (0..AT_ONCE).map(|_| lab.client.spawn(move || connect_from(from, to))).collect();
    let joined = threads.into_iter().map(|thread| thread.join().unwrap());
    joined.collect::<Vec<_>>().iter().flatten().count()
}

#[test]
fn denied_clients_of_layer_7_do_not_reach_the_hosts_stack() {
    require_lab!();
    for setting in Setting::ALL {
        let lab = lab(setting);
        let (denied, to) = (second(setting.family), listener_of(setting.family, PORT));
        let admitted = if denied.is_ipv4() { "198.51.100.2" } else { "2001:db8:c::2" };
        let admitted: IpAddr = admitted.parse().unwrap();
        let deny = format!("deny = [\"{denied}\"]");
        let mut deston = Deston::serving(&lab.balancer, &config(setting, ""));
        // The control: without the list, it is let in.
        assert!(
            lab.client.within(move || connect_within(LIMIT, denied, to)).is_some(),
            "{setting}"
        );

        deston.reload(&config(setting, &deny));
        deston.wait_for_log("reloaded");
        assert!(lab.client.within(move || connect_from(denied, to)).is_none(), "{setting}");
        let stream = lab.client.within(move || connect_within(LIMIT, admitted, to));
        let answer = request(&mut stream.expect("others are let in"));
        assert!(answer.starts_with("HTTP/1.1 50"), "{setting}: {answer}");
        assert!(deston.counted(Outcome::Denied) > 0, "{setting}");
        assert!(deston.counted(Outcome::ToStack) > 0, "{setting}");
    }
}

#[test]
fn a_client_of_layer_7_that_connects_too_often_is_held_up_and_keeps_what_it_has() {
    require_lab!();
    for setting in Setting::ALL {
        let lab = lab(setting);
        let (often, to) = (second(setting.family), listener_of(setting.family, PORT));
        let mut deston = Deston::serving(&lab.balancer, &config(setting, ""));
        // The control: without the limit, all are let in.
        assert!(lab.client.within(move || connect_within(LIMIT, often, to)).is_some());
        assert_eq!(let_in(&lab, often, to), AT_ONCE, "{setting}");

        let limit = format!("rate_limit = {{ rate = \"1/h\", burst = {} }}", BURST + 1);
        deston.reload(&config(setting, &limit));
        deston.wait_for_log("reloaded");
        let kept = lab.client.within(move || connect_from(often, to));
        let mut kept = kept.expect("the first is let in");
        assert_eq!(let_in(&lab, often, to), BURST, "{setting}");
        assert!(deston.counted(Outcome::RateLimited) >= (AT_ONCE - BURST) as u64, "{setting}");
        for _ in 0..10 {
            assert!(request(&mut kept).starts_with("HTTP/1.1 50"), "{setting}");
        }
        let other = if often.is_ipv4() { "198.51.100.2" } else { "2001:db8:c::2" };
        let other: IpAddr = other.parse().unwrap();
        assert!(lab.client.within(move || connect_within(LIMIT, other, to)).is_some(), "{setting}");
    }
}

//! The model by itself: the lives of a few flows, told by hand, so that the model is more than an
//! echo of the programs.

use std::net::{IpAddr, SocketAddr};

use deston_tests::model::generate::{Carried, Shape};
use deston_tests::model::outcome::{Action, Outcome};
use deston_tests::model::phase::tcp::{ACK, FIN, RST, SYN};
use deston_tests::model::settings::{
    Forwarding, Globals, Hook, Hop, Listener, Meaning, Server, Stand, Table, Timeouts,
};
use deston_tests::model::tuple::{TCP, Tuple, UDP};
use deston_tests::model::{Model, Verdict, checksum};

const SECOND: u64 = 1_000_000_000;
const CLIENT: &str = "203.0.113.9:40000";
const LISTENER: &str = "192.0.2.10:80";
const SNAT: &str = "192.0.2.200";

fn side(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn way(n: u8) -> Hop {
    Hop {
        ifindex: 1,
        source: [2, 0, 0, 0, n, 1],
        destination: [2, 0, 0, 0, n, 2],
        ..Hop::default()
    }
}

/// One listener for TCP and UDP, and two servers by turns.
fn world(forwarding: Forwarding) -> Model {
    let mut model = Model::new(100);
    let settings = &mut model.settings;
    settings.globals = Globals { clock: 100 * SECOND, random: 1, ..Globals::default() };
    let ours = Meaning { listener: true, dedicated: true, ..Meaning::default() };
    settings.addresses.insert(side(LISTENER).ip(), ours);
    let snat = Meaning { snat: true, snat_ports: (10_000, 10_001), ..Meaning::default() };
    settings.addresses.insert(SNAT.parse().unwrap(), snat);
    for id in [1, 2] {
        let server = Server {
            side: side(&format!("198.51.100.{id}:8000")),
            snat: SNAT.parse().unwrap(),
            hop: Hop { ifindex: 2, ..way(id as u8) },
            reachable: true,
            max_connections: 1,
            weight: 1,
            stand: Stand::Active,
            on_down: Default::default(),
        };
        settings.servers.insert(id, server);
    }
    let table = Table { members: vec![1, 2], slots: vec![1, 2], ..Table::default() };
    settings.tables.insert(0, table);
    let timeouts = Timeouts {
        tcp_syn: 20 * SECOND,
        tcp_established: 7_200 * SECOND,
        tcp_fin: 30 * SECOND,
        tcp_rst: 5 * SECOND,
        udp_one_way: 30 * SECOND,
        udp_two_way: 180 * SECOND,
    };
    for protocol in [TCP, UDP] {
        let listener = Listener {
            number: 1,
            open: true,
            forwarding,
            snat_ports: (10_000, 10_001),
            timeouts,
            ..Listener::default()
        };
        settings.listeners.insert((side(LISTENER), protocol), listener);
    }
    model
}

fn pass_time(model: &mut Model, by: u64) {
    model.settings.globals.clock += by;
}

fn tcp(from: SocketAddr, to: SocketAddr, flags: u8, (seq, ack): (u32, u32)) -> Vec<u8> {
    let carried = Carried::Tcp { flags, seq, ack, options: vec![] };
    Shape::new(&way(9), from, to, carried).frame()
}

fn client(model: &mut Model, flags: u8, numbers: (u32, u32)) -> Verdict {
    model.run(Hook::Xdp, &tcp(side(CLIENT), side(LISTENER), flags, numbers))
}

/// The server's tuple of the only flow.
fn reply_of(model: &Model) -> Tuple {
    let tables = &model.tables;
    let flow = tables.flows.values().chain(tables.half_flows.values()).next().unwrap();
    flow.reply
}

fn server(model: &mut Model, flags: u8, numbers: (u32, u32)) -> Verdict {
    let tuple = reply_of(model);
    model.run(Hook::Xdp, &tcp(tuple.source, tuple.destination, flags, numbers))
}

fn shake_hands(model: &mut Model) {
    assert_eq!(client(model, SYN, (100, 0)).outcome, Outcome::Forwarded);
    assert_eq!(server(model, SYN | ACK, (500, 101)).outcome, Outcome::Replied);
    assert_eq!(client(model, ACK, (101, 501)).outcome, Outcome::Forwarded);
}

/// Whether both checksums of an IPv4 packet in a frame are right.
fn is_sound(frame: &[u8]) -> bool {
    let ip = &frame[14..];
    let octets = |at: usize| <[u8; 4]>::try_from(&ip[at..at + 4]).unwrap();
    let (source, destination) = (IpAddr::from(octets(12)), IpAddr::from(octets(16)));
    // A sum over what contains its own checksum comes out as nothing.
    checksum::of(&ip[..20]) == 0 && checksum::transport(source, destination, ip[9], &ip[20..]) == 0
}

#[test]
fn a_handshake_promotes_a_flow_and_takes_a_slot() {
    let mut model = world(Forwarding::Nat);
    let syn = client(&mut model, SYN, (100, 0));
    assert_eq!((syn.outcome, syn.action), (Outcome::Forwarded, Action::Send));
    assert!(is_sound(&syn.frame));
    assert_eq!(model.tables.half_flows.len(), 1);
    let answer = server(&mut model, SYN | ACK, (500, 101));
    assert_eq!(answer.outcome, Outcome::Replied);
    assert!(is_sound(&answer.frame));
    assert_eq!(client(&mut model, ACK, (101, 501)).outcome, Outcome::Forwarded);
    assert_eq!((model.tables.flows.len(), model.tables.half_flows.len()), (1, 0));
    assert_eq!(model.tables.loads[&1].in_use, 1);
}

#[test]
fn an_ack_with_a_guessed_number_promotes_nothing() {
    let mut model = world(Forwarding::Nat);
    client(&mut model, SYN, (100, 0));
    server(&mut model, SYN | ACK, (500, 101));
    assert_eq!(client(&mut model, ACK, (101, 777)).outcome, Outcome::Forwarded);
    assert!(model.tables.flows.is_empty());
}

#[test]
fn a_clean_close_frees_the_slot_at_once_and_the_port_after_a_second() {
    let mut model = world(Forwarding::Nat);
    shake_hands(&mut model);
    client(&mut model, FIN | ACK, (101, 501));
    server(&mut model, FIN | ACK, (501, 102));
    assert_eq!(model.tables.loads[&1].in_use, 0);
    client(&mut model, ACK, (102, 502));
    let flow = model.tables.flows.values().next().unwrap();
    assert!(flow.state.is_closed_cleanly());
    assert_eq!(flow.idle_limit, SECOND);
}

#[test]
fn a_refused_syn_is_swallowed_and_the_next_goes_to_another_server() {
    let mut model = world(Forwarding::Nat);
    client(&mut model, SYN, (100, 0));
    assert_eq!(server(&mut model, RST | ACK, (0, 101)).outcome, Outcome::RefusalSwallowed);
    pass_time(&mut model, SECOND);
    client(&mut model, SYN, (100, 0));
    assert_eq!(reply_of(&model).source, side("198.51.100.2:8000"));
    // A second refusal is the client's.
    assert_eq!(server(&mut model, RST | ACK, (0, 101)).outcome, Outcome::Replied);
}

#[test]
fn a_third_client_takes_the_port_of_the_oldest_unanswered_claim() {
    let mut model = world(Forwarding::Nat);
    model.settings.tables.get_mut(&0).unwrap().members = vec![1];
    model.settings.tables.get_mut(&0).unwrap().slots = vec![1];
    for port in [40_000, 40_001, 40_002] {
        pass_time(&mut model, SECOND / 10);
        let client = SocketAddr::new(side(CLIENT).ip(), port);
        let verdict = model.run(Hook::Xdp, &tcp(client, side(LISTENER), SYN, (1, 0)));
        assert_eq!(verdict.outcome, Outcome::Forwarded);
    }
    let ports: Vec<u16> = model.tables.half_flows.keys().map(|key| key.source.port()).collect();
    assert_eq!(ports, [40_001, 40_002]);
}

#[test]
fn a_full_server_drops_the_ack_and_takes_it_later() {
    let mut model = world(Forwarding::Nat);
    client(&mut model, SYN, (100, 0));
    server(&mut model, SYN | ACK, (500, 101));
    model.tables.load(1).in_use = 1;
    assert_eq!(client(&mut model, ACK, (101, 501)).outcome, Outcome::ServersFull);
    model.tables.load(1).in_use = 0;
    assert_eq!(client(&mut model, ACK, (101, 501)).outcome, Outcome::Forwarded);
}

#[test]
fn dsr_l2_changes_nothing_but_the_ethernet_header() {
    let mut model = world(Forwarding::DsrL2);
    let frame = tcp(side(CLIENT), side(LISTENER), SYN, (100, 0));
    let verdict = model.run(Hook::Xdp, &frame);
    assert_eq!(verdict.outcome, Outcome::Forwarded);
    assert_eq!(verdict.frame[14..], frame[14..]);
    assert_ne!(verdict.frame[..12], frame[..12]);
}

#[test]
fn dsr_ipip_puts_an_outer_header_before_the_packet() {
    let mut model = world(Forwarding::DsrIpip);
    let frame = tcp(side(CLIENT), side(LISTENER), SYN, (100, 0));
    let verdict = model.run(Hook::Xdp, &frame);
    assert_eq!(verdict.frame.len(), frame.len() + 20);
    assert_eq!(checksum::of(&verdict.frame[14..34]), 0);
    assert!(is_sound(&[&frame[..14], &verdict.frame[34..]].concat()));
}

#[test]
fn foreign_packets_are_passed_as_they_came() {
    let mut model = world(Forwarding::Nat);
    let frame = tcp(side(CLIENT), side("198.51.100.77:80"), SYN, (100, 0));
    let verdict = model.run(Hook::Xdp, &frame);
    assert_eq!((verdict.outcome, verdict.action), (Outcome::Unrelated, Action::Pass));
    assert_eq!(verdict.frame, frame);
}

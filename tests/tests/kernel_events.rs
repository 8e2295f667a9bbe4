//! What the programs tell: traced packets and ended flows.

use std::net::IpAddr;
use std::time::Duration;

use deston::datapath::Event;
use deston_common::event::{BUDGET_MAX, Ended, TraceFilter, Traced, kind, reason};
use deston_common::flow::FlowKey;
use deston_common::globals::flags;
use deston_common::net::{Be16, Ipv6Be};
use deston_common::outcome::Outcome;
use deston_common::server::{OnDown, ServerId, ServerState};
use deston_tests::kernel::{
    CLIENT_ISN, Connection, IFINDEX, Lab, SECOND, Setting, TCP_LISTENER, TIMEOUTS, each, rows,
};
use deston_tests::packet::flags::{ACK, FIN_ACK, RST, SYN};
use deston_tests::packet::{Packet, protocol};
use deston_tests::require_kernel;

const EVERYTHING: TraceFilter = TraceFilter {
    address: Ipv6Be::from_words([0; 4]),
    mask: Ipv6Be::from_words([0; 4]),
    port: Be16::from_word(0),
    protocol: 0,
    pad: 0,
    sample: 0,
    budget: 1_000,
};

fn trace(lab: &mut Lab, filter: TraceFilter) {
    lab.kernel.put_trace(&filter).unwrap();
    lab.globals(|globals| globals.flags |= flags::TRACE);
    lab.events();
}

/// The packets told of since the last call.
fn traced(lab: &mut Lab) -> Vec<Traced> {
    lab.events()
        .into_iter()
        .map(|event| match event {
            Event::Traced(traced) => traced,
            Event::Ended(ended) => panic!("{ended:?}"),
        })
        .collect()
}

/// The flows told of since the last call.
fn ended(lab: &mut Lab) -> Vec<Ended> {
    lab.events()
        .into_iter()
        .map(|event| match event {
            Event::Ended(ended) => ended,
            Event::Traced(traced) => panic!("{traced:?}"),
        })
        .collect()
}

#[test]
fn a_traced_packet_tells_what_became_of_it() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        trace(&mut lab, EVERYTHING);
        let syn = lab.syn(1);
        let connection = lab.opens(&syn);
        let expected = Traced {
            kind: kind::TRACED,
            outcome: Outcome::Forwarded as u32,
            at_ns: lab.now(),
            ifindex: IFINDEX,
            len: (syn.bytes().len() - 14) as u32,
            key: connection.key(),
            translated: connection.reply_key().reversed(),
            server: ServerId(1),
            tcp_flags: SYN,
            tc: u8::from(setting.flow_flag() != 0),
            pad: 0,
        };
        assert_eq!(traced(&mut lab), [expected]);
        lab.shake_hands(&connection);
        let told = traced(&mut lab);
        let outcomes: Vec<u32> = told.iter().map(|event| event.outcome).collect();
        assert_eq!(outcomes, [Outcome::Replied as u32, Outcome::Forwarded as u32]);
        assert_eq!(told[0].key, connection.reply_key());
        assert_eq!(told[0].translated, connection.key().reversed());
    });
}

#[test]
fn packets_that_are_passed_or_dropped_are_told_of_with_the_reason() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        lab.round_robin([]);
        trace(&mut lab, EVERYTHING);
        let (client, listener) = (lab.client(1), lab.listener_address());
        let away = Packet::tcp(client, (setting.family.stranger(), 80), SYN);
        let table = [
            ("to a foreign address", away, Outcome::Unrelated),
            ("to another port", Packet::tcp(client, (listener.ip(), 81), SYN), Outcome::Unrelated),
            ("without a flow", lab.syn(1).flags(ACK), Outcome::NoFlow),
            ("without a server", lab.syn(1), Outcome::NoServer),
            ("an echo", Packet::echo(client.ip(), listener.ip(), b"x"), Outcome::IcmpUnrelated),
        ];
        let table = table.map(|(name, packet, outcome)| (name, (packet, outcome)));
        let count = rows(table, |(packet, outcome)| {
            lab.step(&packet, outcome);
            let told = traced(&mut lab);
            assert_eq!(told.len(), 1);
            assert_eq!(told[0].outcome, outcome as u32);
            assert_eq!(told[0].translated, FlowKey::default());
            assert_eq!(IpAddr::from(told[0].key.source), packet.source.ip());
            assert_eq!(told[0].server, ServerId(0));
        });
        assert_eq!(count, 5);
    });
}

#[test]
fn a_filter_chooses_by_address_port_and_protocol() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let (one, two) = (lab.client(1), lab.client(2));
        let whole = Ipv6Be::from_words([u32::MAX; 4]);
        let port = Be16::from_host;
        let table = [
            ("everything", EVERYTHING, [true, true, true]),
            (
                "a client",
                TraceFilter { address: one.ip().into(), mask: whole, ..EVERYTHING },
                [true, false, true],
            ),
            (
                "the listener",
                TraceFilter {
                    address: lab.listener_address().ip().into(),
                    mask: whole,
                    ..EVERYTHING
                },
                [true, true, true],
            ),
            (
                "somebody else",
                TraceFilter {
                    address: setting.family.stranger().into(),
                    mask: whole,
                    ..EVERYTHING
                },
                [false; 3],
            ),
            ("a client's port", TraceFilter { port: port(two.port()), ..EVERYTHING }, [true; 3]),
            ("the listener's port", TraceFilter { port: port(80), ..EVERYTHING }, [true; 3]),
            ("another port", TraceFilter { port: port(81), ..EVERYTHING }, [false; 3]),
            ("UDP", TraceFilter { protocol: protocol::UDP, ..EVERYTHING }, [false, false, true]),
            (
                "a client's TCP",
                TraceFilter {
                    address: two.ip().into(),
                    mask: whole,
                    protocol: protocol::TCP,
                    ..EVERYTHING
                },
                [false, true, false],
            ),
        ];
        let table = table.map(|(name, filter, chosen)| (name, (filter, chosen)));
        let count = rows(table, |(filter, chosen)| {
            trace(&mut lab, filter);
            let packets = [lab.syn(1), lab.syn(2), lab.query(1)];
            for (packet, chosen) in packets.iter().zip(chosen) {
                lab.step(packet, Outcome::Forwarded);
                assert_eq!(traced(&mut lab).len(), usize::from(chosen), "{packet:?}");
            }
        });
        assert_eq!(count, 9);
    });
}

#[test]
fn a_filter_with_a_mask_chooses_a_network() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        // All but the last sixteen bits.
        let mask = Ipv6Be::from_words([u32::MAX, u32::MAX, u32::MAX, 0xffff_0000_u32.to_be()]);
        let network = lab.client(1).ip().into();
        trace(&mut lab, TraceFilter { address: network, mask, ..EVERYTHING });
        lab.step(&lab.syn(1), Outcome::Forwarded);
        let neighbour: IpAddr = match lab.client(1).ip() {
            IpAddr::V4(v4) => [v4.octets()[0], v4.octets()[1], 200, 1].into(),
            IpAddr::V6(v6) => (u128::from(v6) ^ 0xff).to_be_bytes().into(),
        };
        let syn = Packet::tcp((neighbour, 40_000), lab.listener_address(), SYN);
        lab.step(&syn, Outcome::Forwarded);
        assert_eq!(traced(&mut lab).len(), 2);
        let away: IpAddr = match lab.client(1).ip() {
            IpAddr::V4(_) => [198, 18, 0, 1].into(),
            IpAddr::V6(v6) => (u128::from(v6) ^ (1 << 80)).to_be_bytes().into(),
        };
        // Not sent on: to a server, it would leave with an address of the network.
        let stray = Packet::tcp((away, 40_000), lab.listener_address(), ACK);
        lab.step(&stray, Outcome::NoFlow);
        assert_eq!(traced(&mut lab), []);
    });
}

#[test]
fn a_filter_of_the_client_chooses_both_directions() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let client = lab.client(1);
        trace(
            &mut lab,
            TraceFilter {
                address: client.ip().into(),
                mask: Ipv6Be::from_words([u32::MAX; 4]),
                port: Be16::from_host(80),
                ..EVERYTHING
            },
        );
        // A reply names the client only once it is translated.
        lab.establish(1);
        let outcomes: Vec<u32> = traced(&mut lab).iter().map(|told| told.outcome).collect();
        assert_eq!(
            outcomes,
            [Outcome::Forwarded, Outcome::Replied, Outcome::Forwarded].map(|it| it as u32)
        );
        lab.establish(2);
        assert_eq!(traced(&mut lab), []);
    });
}

#[test]
fn a_foreign_packet_is_told_of_with_its_ports_and_time() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        trace(&mut lab, TraceFilter { port: Be16::from_host(81), ..EVERYTHING });
        let packet = Packet::tcp(lab.client(1), (setting.family.stranger(), 81), SYN);
        lab.step(&packet, Outcome::Unrelated);
        let told = traced(&mut lab);
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].key.destination_port.to_host(), told[0].at_ns), (81, lab.now()));
    });
}

#[test]
fn no_more_packets_are_told_of_than_the_budget_says() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        trace(&mut lab, TraceFilter { budget: 3, ..EVERYTHING });
        for client in 1..=10 {
            lab.open(client);
        }
        assert_eq!(traced(&mut lab).len(), 3);
        assert_eq!(lab.kernel.trace().unwrap().budget, 0);
    });
}

#[test]
fn one_packet_of_a_sample_is_told_of() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        trace(&mut lab, TraceFilter { sample: 4, ..EVERYTHING });
        for port in 0..400 {
            let syn = Packet::tcp(lab.client_at(1, 1_000 + port), lab.listener_address(), SYN);
            lab.step(&syn, Outcome::Forwarded);
        }
        // Chosen at random or by counting: about a quarter.
        let told = traced(&mut lab).len();
        assert!((50..=150).contains(&told), "{told} of 400");
    });
}

#[test]
fn without_the_setting_nothing_is_told() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        lab.kernel.put_trace(&EVERYTHING).unwrap();
        let connection = lab.establish(1);
        lab.close(&connection);
        lab.opens(&lab.syn(1).seq(90_000));
        assert_eq!(lab.events(), []);
    });
}

/// A lab that tells of ended flows, and an established connection.
fn logged(setting: Setting) -> (Lab, Connection) {
    let mut lab = Lab::new(setting);
    lab.globals(|globals| globals.flags |= flags::FLOW_LOG);
    let connection = lab.establish(1);
    (lab, connection)
}

fn sweep(lab: &Lab) {
    lab.kernel.expire(Duration::from_nanos(lab.now()), |_| false).unwrap();
}

#[test]
fn an_ended_flow_tells_who_when_how_much_and_why() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let (mut lab, connection) = logged(setting);
        let opened_ns = lab.now();
        lab.wait(SECOND);
        let (request, response) = (
            connection.from_client(ACK).payload(&[0; 100]),
            connection.from_server(ACK).payload(&[0; 1_000]),
        );
        lab.forwards(&connection, &request);
        lab.replies(&connection, &response);
        let (flow, reply) = (lab.flow(&connection).unwrap(), lab.reply(&connection).unwrap());
        let last_seen_ns = lab.now();
        lab.wait(TIMEOUTS.tcp_established_ns + 1);
        sweep(&lab);
        let bytes = |packets: &[&Packet]| {
            packets.iter().map(|packet| packet.ip_bytes().len() as u64).sum::<u64>()
        };
        let ack = connection.from_client(ACK);
        let answer = connection.from_server(SYN | ACK);
        assert_eq!(flow.bytes, bytes(&[&lab.syn(1), &ack, &request]));
        assert_eq!(reply.bytes, bytes(&[&answer, &response]));
        let expected = Ended {
            kind: kind::ENDED,
            reason: reason::IDLE,
            flow: connection.key(),
            reply: connection.reply_key(),
            opened_ns,
            last_seen_ns,
            forward_bytes: flow.bytes,
            reply_bytes: reply.bytes,
            listener: TCP_LISTENER,
            server: ServerId(1),
            pad: 0,
        };
        assert_eq!(ended(&mut lab), [expected]);
    });
}

#[test]
fn each_way_to_end_has_its_reason() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        type End = fn(&mut Lab, &Connection);
        let table: [(&str, End, u32); 6] = [
            (
                "both sides closed",
                |lab, connection| {
                    lab.close(connection);
                    lab.wait(SECOND + 1);
                    sweep(lab);
                },
                reason::CLOSED,
            ),
            (
                "the server reset it",
                |lab, connection| {
                    lab.replies(connection, &connection.from_server(RST | ACK));
                    lab.wait(TIMEOUTS.tcp_rst_ns + 1);
                    sweep(lab);
                },
                reason::RESET,
            ),
            (
                "silence",
                |lab, connection| {
                    lab.wait(TIMEOUTS.tcp_established_ns + 1);
                    lab.passes(&connection.from_client(ACK), Outcome::NoFlow);
                },
                reason::IDLE,
            ),
            (
                "its server is down",
                |lab, connection| {
                    lab.server(1, |entry| {
                        entry.state = ServerState::Down as u8;
                        entry.on_down = OnDown::Reset as u8;
                    });
                    lab.emits(&connection.from_client(ACK), Outcome::ResetSent);
                },
                reason::DOWN,
            ),
            (
                "the client began anew",
                |lab, connection| {
                    lab.close(connection);
                    lab.opens(&lab.syn(1).seq(90_000));
                },
                reason::REOPENED,
            ),
            (
                "its port was needed",
                |lab, connection| {
                    let port = connection.source.port();
                    lab.listener(|entry| {
                        (entry.snat_port_min, entry.snat_port_max) = (port, port);
                    });
                    lab.replies(connection, &connection.from_server(FIN_ACK));
                    lab.forwards(connection, &connection.from_client(FIN_ACK));
                    lab.opens(&lab.syn(2).seq(CLIENT_ISN + 1_000));
                },
                reason::CLOSED,
            ),
        ];
        let table = table.map(|(name, end, reason)| (name, (end, reason)));
        let count = rows(table, |(end, reason)| {
            let (mut lab, connection) = logged(setting);
            end(&mut lab, &connection);
            let told = ended(&mut lab);
            assert_eq!(told.len(), 1, "{told:?}");
            assert_eq!((told[0].reason, told[0].flow), (reason, connection.key()));
        });
        assert_eq!(count, 6);
    });
}

#[test]
fn half_open_flows_end_without_a_word() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let (mut lab, _) = logged(setting);
        let half_open = lab.open(2);
        lab.wait(TIMEOUTS.tcp_syn_ns + 1);
        lab.passes(&half_open.from_client(ACK), Outcome::NoFlow);
        assert_eq!(lab.events(), []);
    });
}

#[test]
fn a_full_ring_loses_events_and_no_packets() {
    require_kernel!();
    each(Setting::XDP, |setting| {
        let mut lab = Lab::new(setting);
        trace(&mut lab, TraceFilter { budget: BUDGET_MAX, ..EVERYTHING });
        let connection = lab.establish(1);
        let data = connection.from_client(ACK).payload(b"data");
        for _ in 0..12_000 {
            lab.run(&data);
        }
        lab.outcomes();
        lab.forwards(&connection, &data);
        let told = traced(&mut lab).len();
        assert!((5_000..12_000).contains(&told), "{told} events");
        lab.forwards(&connection, &data);
        assert_eq!(traced(&mut lab).len(), 1);
    });
}

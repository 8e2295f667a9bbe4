//! Live frames: one processor injects frames at a balancer's interface; a server's end counts them.

use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use deston::datapath::{Hook, Kernel, Sizes};
use deston::model::XdpMode;
use deston_common::address::{AddressEntry, flags};
use deston_common::hop::Hop;
use deston_common::net::{Be16, Mac, UDP};
use deston_common::sequence;
use deston_common::server::{ServerEntry, ServerId, ServerState};
use deston_common::table::Table;
use deston_tests::kernel;
use deston_tests::lab::{BALANCER, CLIENT, Lab, server_address};
use deston_tests::packet::{Packet, Transport};

use crate::inject::{FRAME, Frames, Injector, Then, Varies};
use crate::stats::Rounds;

/// Frames of one measurement.
const FRAMES: u32 = 500_000;
/// Rounds, each with every contender.
const ROUNDS: usize = 7;
/// Flows, by source port.
const FLOWS: u32 = 1_024;
/// Port of the listener and of the server.
const PORT: u16 = 8_000;

/// Who carries the frames.
#[derive(Clone, Copy)]
enum Contender {
    Injecting,
    Xdp,
    Forwarding,
    Nftables,
}

const CONTENDERS: [(Contender, &str); 4] = [
    (Contender::Injecting, "injecting alone (dropped at once)"),
    (Contender::Xdp, "deston, xdp nat"),
    (Contender::Forwarding, "kernel forwarding, no nat"),
    (Contender::Nftables, "nftables dnat + masquerade"),
];

pub(crate) fn measure() -> Result<()> {
    let lab = Lab::new(1);
    lab.balancer.run(&["sysctl", "-qw", "net.ipv4.ip_forward=1"]);
    lab.balancer.run(&["sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0"]);
    // The neighbours are known before anything is measured.
    lab.balancer.within(|| {
        for host in [server_address(1), CLIENT] {
            // Refused, which takes a packet there and one back.
            let _ = TcpStream::connect_timeout(&(host, PORT).into(), Duration::from_secs(2));
        }
    });

    let inside = lab.balancer.name().to_owned();
    let server = lab.servers[0].name().to_owned();
    let rounds = lab.balancer.within(move || run(&inside, &server))?;

    println!(
        "\nLive frames of {FRAME} bytes, {FRAMES} x {ROUNDS} rounds, {FLOWS} flows, one processor,"
    );
    println!("ns a frame with delivery to the server's end, median [min-max]:\n");
    println!("| carried by | ns | ratio to deston |");
    println!("|---|---|---|");
    let deston = rounds[1].median();
    for ((_, name), rounds) in CONTENDERS.iter().zip(&rounds) {
        println!("| {name} | {} | {:.2} |", rounds.show(), rounds.median() / deston);
    }
    Ok(())
}

fn run(balancer: &str, server: &str) -> Result<Vec<Rounds>> {
    let mut injector = Injector::load()?;
    enter(server)?;
    injector.count_on("eth0")?;
    enter(balancer)?;
    let mut kernel = deston()?;
    let clients = kernel.attach("clients", Hook::Xdp, XdpMode::Native)?;
    let servers = kernel.attach("server1", Hook::Xdp, XdpMode::Native)?;
    injector.call(&kernel)?;
    let ifindex = nix::net::if_::if_nametoindex("clients")?;

    let mut rounds: Vec<Rounds> = CONTENDERS.iter().map(|_| Rounds::default()).collect();
    for round in 0..ROUNDS {
        let mut order: Vec<usize> = (0..CONTENDERS.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for place in order {
            let spent = contend(&mut injector, CONTENDERS[place].0, ifindex)?;
            rounds[place].push(spent.as_nanos() as f64 / f64::from(FRAMES));
        }
    }
    kernel.detach(servers)?;
    kernel.detach(clients)?;
    Ok(rounds)
}

fn contend(injector: &mut Injector, contender: Contender, ifindex: u32) -> Result<Duration> {
    let (destination, then) = match contender {
        Contender::Injecting => (BALANCER, Then::Drop),
        Contender::Xdp => (BALANCER, Then::Balance),
        Contender::Forwarding => (server_address(1), Then::Pass),
        Contender::Nftables => (BALANCER, Then::Pass),
    };
    let packet = Packet {
        source_mac: mac("clients")?,
        destination_mac: mac("clients")?,
        transport: Transport::Udp { checksum: false },
        ..Packet::udp((CLIENT, 32_768), (destination, PORT), &[0; FRAME - 42])
    };
    let frames = Frames { packet, flows: FLOWS, varies: Varies::Source };
    injector.order(&frames, 0, then, 1)?;
    if matches!(contender, Contender::Nftables) {
        nft(&format!(
            "table ip bench {{ chain pre {{ type nat hook prerouting priority dstnat; udp dport {PORT} \
             dnat to {}; }}; chain post {{ type nat hook postrouting priority srcnat; oifname server1 \
             masquerade; }}; }}",
            server_address(1)
        ))?;
    }
    // Opens the flows, and answers the first packets of each: a flow without a reply is another
    // matter, and a client's next packet comes after one as a rule.
    if then != Then::Drop {
        injector.answer(2 * u64::from(FLOWS))?;
    }
    injector.live(ifindex, 4 * FLOWS)?;
    let begun = Instant::now();
    while then != Then::Drop && injector.unanswered()? > 0 {
        ensure!(begun.elapsed() < Duration::from_secs(2), "flows were not answered");
        std::thread::yield_now();
    }
    let before = injector.counted()?;
    let start = Instant::now();
    injector.live(ifindex, FRAMES)?;
    let expected = if then == Then::Drop { 0 } else { u64::from(FRAMES) };
    let mut last = (0, Instant::now());
    // What is still queued is delivered on this processor as soon as it is left alone.
    while injector.counted()? - before < expected {
        let counted = injector.counted()?;
        if counted != last.0 {
            last = (counted, Instant::now());
        }
        ensure!(
            last.1.elapsed() < Duration::from_secs(2),
            "only {} of {expected} frames arrived",
            counted - before
        );
        std::thread::yield_now();
    }
    let spent = start.elapsed();
    if matches!(contender, Contender::Nftables) {
        nft("delete table ip bench")?;
    }
    Ok(spent)
}

/// A balancer of this lab: one UDP listener, one server.
fn deston() -> Result<Kernel> {
    let mut kernel = Kernel::load(Sizes { flows: 65_536, half_open: 65_536 })?;
    let gateway = Ipv4Addr::new(203, 0, 113, 17);
    let entry = ServerEntry {
        address: IpAddr::from(server_address(1)).into(),
        snat_address: IpAddr::from(gateway).into(),
        port: Be16::from_host(PORT),
        state: ServerState::Active as u8,
        reachable: 1,
        max_connections: u32::MAX,
        hop: Hop {
            ifindex: nix::net::if_::if_nametoindex("server1")?,
            source_mac: Mac::from_octets(mac("server1")?),
            next_hop_mac: Mac::from_octets(neighbour(server_address(1))?),
            ..Hop::default()
        },
        ..ServerEntry::default()
    };
    kernel.put_server(ServerId(1), &entry)?;
    let mut table = Box::new(Table::EMPTY);
    sequence::fill(&mut table, &kernel::members([(1, 1)]))
        .map_err(|error| anyhow::anyhow!("{error:?}"))?;
    kernel.put_table(0, &table)?;
    for (address, flags) in [(BALANCER, flags::LISTENER), (gateway, flags::SNAT)] {
        let entry = AddressEntry {
            flags,
            snat_port_min: *kernel::SNAT_PORTS.start(),
            snat_port_max: *kernel::SNAT_PORTS.end(),
            ..AddressEntry::default()
        };
        kernel.put_address(address.into(), &entry)?;
    }
    kernel.put_listener(BALANCER.into(), PORT, UDP, &kernel::listener_entry(Hook::Xdp))?;
    Ok(kernel)
}

fn enter(namespace: &str) -> Result<()> {
    let file = std::fs::File::open(format!("/run/netns/{namespace}"))?;
    nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET)?;
    Ok(())
}

fn nft(rules: &str) -> Result<()> {
    let status = Command::new("nft").arg(rules).status().context("nftables is not installed")?;
    ensure!(status.success(), "nft refused: {rules}");
    Ok(())
}

fn mac(interface: &str) -> Result<[u8; 6]> {
    let output = Command::new("ip").args(["-brief", "link", "show", "dev", interface]).output()?;
    let text = String::from_utf8(output.stdout)?;
    parse_mac(text.split_whitespace().nth(2).context("no Ethernet address")?)
}

fn neighbour(address: Ipv4Addr) -> Result<[u8; 6]> {
    let output = Command::new("ip").args(["neigh", "show", &address.to_string()]).output()?;
    let text = String::from_utf8(output.stdout)?;
    let mut words = text.split_whitespace().skip_while(|word| *word != "lladdr");
    parse_mac(words.nth(1).context("the neighbour is not resolved")?)
}

fn parse_mac(text: &str) -> Result<[u8; 6]> {
    let octets: Result<Vec<u8>, _> =
        text.split(':').map(|octet| u8::from_str_radix(octet, 16)).collect();
    octets?.try_into().map_err(|_| anyhow::anyhow!("{text} is no Ethernet address"))
}

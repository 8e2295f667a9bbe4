//! The flow log beside what hosts have sent.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use deston::datapath::Hook;
use deston_tests::kernel::Family;
use deston_tests::lab::body::{bytes, datagram_echoed, echoed};
use deston_tests::lab::visit::{LIMIT, PORT};
use deston_tests::lab::{
    Config, Deston, EndedFlow, Lab, Links, Sent, TcpServer, UdpServer, gateway_of, listener_of,
    pause, server_of,
};
use deston_tests::require_lab;
use nix::sys::signal::Signal;

/// Between the halves of a conversation, so that it has a duration that can be told from none.
const SILENCE: Duration = Duration::from_millis(1_500);

/// How a client speaks, and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Closed,
    Reset,
    Datagrams,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Closed, Self::Reset, Self::Datagrams];

    fn protocol(self) -> &'static str {
        if self == Self::Datagrams { "udp" } else { "tcp" }
    }

    fn end(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::Datagrams => "idle",
        }
    }
}

/// A conversation, as its client knows it.
struct Had {
    kind: Kind,
    family: Family,
    client: SocketAddr,
    took: Duration,
    /// Bytes of IP packets each way, where the client knows them all.
    bytes: Option<[u64; 2]>,
}

/// Lengths of the bodies before and after the silence.
const BODIES: [usize; 2] = [40_000, 700];

fn converse(kind: Kind, family: Family) -> Had {
    let to = listener_of(family, PORT);
    let began = Instant::now();
    let (client, bytes) = match kind {
        Kind::Closed | Kind::Reset => (stream(to, kind == Kind::Reset), None),
        Kind::Datagrams => {
            let (client, bytes) = datagrams(to);
            (client, Some(bytes))
        }
    };
    Had { kind, family, client, took: began.elapsed(), bytes }
}

fn stream(to: SocketAddr, resets: bool) -> SocketAddr {
    let mut stream = TcpStream::connect_timeout(&to, LIMIT).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let client = stream.local_addr().unwrap();
    stream.write_all(b"x").unwrap();
    stream.read_exact(&mut [0; 2]).unwrap();
    for (place, length) in BODIES.into_iter().enumerate() {
        if place > 0 {
            pause(SILENCE);
        }
        stream.write_all(&bytes(length, 1)).unwrap();
        stream.read_exact(&mut vec![0; length]).unwrap();
    }
    if resets {
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    } else {
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }
    client
}

fn datagrams(to: SocketAddr) -> (SocketAddr, [u64; 2]) {
    let (any, headers) = if to.is_ipv4() { ("0.0.0.0:0", 28) } else { ("[::]:0", 48) };
    let socket = UdpSocket::bind(any).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket.connect(to).unwrap();
    let (mut sent, mut received) = (0, 0);
    for length in [0, 1, 500, 1_000] {
        if length == 1_000 {
            pause(SILENCE);
        }
        sent += headers + socket.send(&bytes(length, 1)).unwrap() as u64;
        received += headers + socket.recv(&mut [0; 2_000]).unwrap() as u64;
    }
    (socket.local_addr().unwrap(), [sent, received])
}

/// A server for every listener, and what they are.
struct Setup {
    lab: Lab,
    config: String,
    forwarding: &'static str,
    _tcp: Vec<TcpServer>,
    _udp: Vec<UdpServer>,
}

impl Setup {
    fn new(hook: Hook, forwarding: &'static str) -> Self {
        let links = if hook == Hook::Xdp { Links::Xdp } else { Links::Completed };
        let lab = Lab::with(1, links);
        let is_direct = forwarding == "dsr-l2";
        if is_direct {
            lab.join_direct(1);
        }
        let (mut tcp, mut udp, mut config) = (Vec::new(), Vec::new(), Config::new());
        for family in Family::BOTH {
            let listener = listener_of(family, PORT);
            if is_direct {
                lab.share_address(1, listener.ip());
            } else if forwarding == "dnat" {
                let gateway = gateway_of(family, 1);
                lab.server(1).batch(&[format!("route add default via {gateway}")]);
            }
            let at = if is_direct { listener } else { server(family, forwarding) };
            tcp.push(TcpServer::start_at(lab.server(1), 1, at));
            udp.push(UdpServer::start_at(lab.server(1), 1, at));
            for protocol in ["tcp", "udp"] {
                let name = format!("{protocol}-{family:?}");
                let keys = format!(
                    "protocol = \"{protocol}\"\nforwarding = \"{forwarding}\"\n[listener.flows]\n\
                     tcp_fin = \"1s\"\ntcp_rst = \"1s\"\nudp_one_way = \"1s\"\nudp_two_way = \"3s\""
                );
                config = config.listener(&name, hook, listener, &keys).pool(
                    &name,
                    "[pool.health]\nkind = \"off\"",
                    &[server(family, forwarding)],
                );
            }
        }
        let log = "[log]\naccess = \"json\"\n[runtime]\ndrain_timeout = \"0\"";
        let config = config.section(log).text();
        Self { lab, config, forwarding, _tcp: tcp, _udp: udp }
    }

    /// Has one conversation of each kind and family, at once.
    fn converse(&self) -> Vec<Had> {
        let threads: Vec<_> = Family::BOTH
            .into_iter()
            .flat_map(|family| Kind::ALL.map(|kind| (kind, family)))
            .map(|(kind, family)| self.lab.client.spawn(move || converse(kind, family)))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    }

    /// Lets everybody learn where the others are: a packet that is sent once more is counted twice.
    fn warm_up(&self) {
        for family in Family::BOTH {
            let to = listener_of(family, PORT);
            self.lab.client.within(move || {
                echoed(to, b"warm").unwrap();
                datagram_echoed(to, b"warm").unwrap();
            });
        }
    }
}

/// Where the server stands for the balancer.
fn server(family: Family, forwarding: &str) -> SocketAddr {
    (server_of(family, 1), if forwarding == "dsr-l2" { PORT } else { 3_000 }).into()
}

fn log_tells_what_was_sent(hook: Hook, forwarding: &'static str) {
    let setup = Setup::new(hook, forwarding);
    let mut deston = Deston::serving(&setup.lab.balancer, &setup.config);
    setup.warm_up();
    let wires = [&setup.lab.client, setup.lab.server(1)].map(Sent::by);
    let had = setup.converse();
    // With direct return nobody sees a datagram answered: its flow stays half open, and those are
    // not logged.
    let is_logged = |had: &Had| forwarding != "dsr-l2" || had.kind != Kind::Datagrams;
    let mut logged = BTreeMap::new();
    let (expected, unseen): (Vec<_>, Vec<_>) = had.into_iter().partition(is_logged);
    while expected.iter().any(|had| !logged.contains_key(&(had.kind.protocol(), had.client))) {
        let ended = deston.wait_for_ended_flow();
        let protocol = if ended.protocol == "udp" { "udp" } else { "tcp" };
        assert!(logged.insert((protocol, ended.client), ended).is_none(), "logged twice");
    }
    let [by_client, by_server] = wires.map(Sent::bytes);
    for had in &expected {
        let protocol = had.kind.protocol();
        let ended = &logged[&(protocol, had.client)];
        setup.is_right(ended, had);
        let listener = listener_of(had.family, PORT);
        assert_eq!(Some(&ended.sent), by_client.get(&(protocol, had.client, listener)));
        if let Some(received) = &ended.received {
            let seen = ended.snat.unwrap_or(had.client);
            assert_eq!(Some(received), by_server.get(&(protocol, ended.server, seen)), "{ended:?}");
        }
    }
    deston.signal(Signal::SIGTERM);
    assert!(deston.wait().success());
    let rest = deston.rest_of_flow_log();
    let is_told = |had: &Had| rest.iter().any(|ended| ended.client == had.client);
    assert!(!unseen.iter().chain(&expected).any(is_told), "{rest:?}");
}

impl Setup {
    /// All of a line but the bytes of TCP, of which a client knows no headers.
    fn is_right(&self, ended: &EndedFlow, had: &Had) {
        let of = format!("{:?}, {:?}, {ended:?}", had.kind, had.family);
        assert_eq!(ended.listener, listener_of(had.family, PORT), "{of}");
        assert_eq!(ended.server, server(had.family, self.forwarding), "{of}");
        let snat: Option<IpAddr> = (self.forwarding == "nat").then(|| gateway_of(had.family, 1));
        assert_eq!(ended.snat.map(|snat| snat.ip()), snat, "{of}");
        assert_eq!(ended.received.is_some(), self.forwarding != "dsr-l2", "{of}");
        if let Some([sent, received]) = had.bytes {
            assert_eq!((ended.sent, ended.received), (sent, Some(received)), "{of}");
        }
        let took = had.took.as_secs_f64();
        assert!((took - 1.0..=took + 2.0).contains(&ended.duration), "{took} s, {of}");
        assert_eq!(ended.end, had.kind.end(), "{of}");
    }
}

#[test]
fn the_log_of_nat_tells_what_was_sent_and_from_where() {
    require_lab!();
    log_tells_what_was_sent(Hook::Xdp, "nat");
    log_tells_what_was_sent(Hook::Tc, "nat");
}

#[test]
fn the_log_of_dnat_tells_what_was_sent() {
    require_lab!();
    log_tells_what_was_sent(Hook::Xdp, "dnat");
    log_tells_what_was_sent(Hook::Tc, "dnat");
}

#[test]
fn the_log_of_direct_return_tells_what_clients_sent() {
    require_lab!();
    log_tells_what_was_sent(Hook::Xdp, "dsr-l2");
    log_tells_what_was_sent(Hook::Tc, "dsr-l2");
}

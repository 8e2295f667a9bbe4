//! The kernel datapath among real hosts.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use deston_tests::lab::{
    BALANCER, Deston, Lab, TcpServer, UdpServer, listener, pause, server_address, wait_until,
};
use deston_tests::require_lab;
use nix::sys::signal::Signal;

const PORT: u16 = 8_000;
const LIMIT: Duration = Duration::from_secs(20);

/// A configuration with one listener on the kernel datapath.
fn config(listener_keys: &str, pool_keys: &str, servers: &[(SocketAddr, &str)]) -> String {
    let mut text = format!(
        "[load_balancer]\naddress = \"{BALANCER}\"\nport = {PORT}\ndatapath = \"xdp\"\n\
         {listener_keys}\n{pool_keys}\n"
    );
    for (address, keys) in servers {
        text += &format!(
            "[[server]]\naddress = \"{}\"\nport = {}\n{keys}\n",
            address.ip(),
            address.port()
        );
    }
    text
}

/// One connection: sends a byte, reads who answers and the echo, and closes.
fn visit(to: SocketAddr) -> std::io::Result<u8> {
    let mut stream = TcpStream::connect_timeout(&to, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(b"x")?;
    let mut answer = [0; 2];
    stream.read_exact(&mut answer)?;
    assert_eq!(stream.peer_addr()?, to);
    assert_eq!(answer[1], b'x');
    Ok(answer[0])
}

#[test]
fn ten_thousand_connections_succeed_while_the_process_is_stopped() {
    require_lab!();
    let lab = Lab::new(2);
    let servers =
        [TcpServer::start(&lab.servers[0], 1, 0), TcpServer::start(&lab.servers[1], 2, 0)];
    let addresses = [(servers[0].address(), ""), (servers[1].address(), "")];
    let deston = Deston::serving(&lab.balancer, &config("", "", &addresses));

    let links = lab.balancer.run(&["ip", "-details", "-json", "link", "show"]);
    // "mode": 1 is XDP_ATTACHED_DRV: native (linux/if_link.h). One for each of the three links.
    assert_eq!(links.matches("\"xdp\":{\"mode\":1").count(), 3, "{links}");

    let before = lab.client.within(|| {
        let mut stream = TcpStream::connect(listener(PORT)).unwrap();
        stream.write_all(b"before").unwrap();
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).unwrap();
        stream
    });
    deston.freeze();

    let threads: Vec<_> = (0..8)
        .map(|_| {
            lab.client
                .spawn(|| (0..1_250).map(|_| visit(listener(PORT)).unwrap()).collect::<Vec<_>>())
        })
        .collect();
    while threads.iter().any(|thread| !thread.is_finished()) {
        assert_eq!(deston.state(), 'T');
        pause(Duration::from_millis(2));
    }
    let answers: Vec<u8> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    assert_eq!(deston.state(), 'T');

    let mut before = before;
    before.write_all(b"still").unwrap();
    let mut echo = [0; 5];
    before.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"still");

    let count = |n| answers.iter().filter(|answer| **answer == n).count();
    assert_eq!((count(1), count(2)), (5_000, 5_000));
    // The connection from before the stop is one more.
    assert_eq!(servers[0].served() + servers[1].served(), 10_001);
}

#[test]
fn datagrams_are_answered_from_the_listeners_address() {
    require_lab!();
    let lab = Lab::new(2);
    let servers =
        [UdpServer::start(&lab.servers[0], 1, 0), UdpServer::start(&lab.servers[1], 2, 0)];
    let addresses = [(servers[0].address(), ""), (servers[1].address(), "")];
    let config = config("protocol = \"udp\"", "[load_balancer.health]\nkind = \"off\"", &addresses);
    let _deston = Deston::serving(&lab.balancer, &config);

    let answers = lab.client.within(|| {
        (0..4)
            .map(|n: u8| {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                socket.set_read_timeout(Some(LIMIT)).unwrap();
                // Connected: the socket takes datagrams of the listener's address alone.
                socket.connect(listener(PORT)).unwrap();
                let mut servers = Vec::new();
                for round in 0..3 {
                    socket.send(&[n, round]).unwrap();
                    let mut answer = [0; 16];
                    let len = socket.recv(&mut answer).unwrap();
                    assert_eq!(answer[1..len], [n, round]);
                    servers.push(answer[0]);
                }
                servers
            })
            .collect::<Vec<_>>()
    });
    assert_eq!(answers, [[1; 3], [2; 3], [1; 3], [2; 3]]);
}

#[test]
fn curl_fetches_a_large_file_from_nginx_unchanged() {
    require_lab!();
    let lab = Lab::new(1);
    let folder = std::env::temp_dir().join(lab.servers[0].name());
    std::fs::create_dir_all(&folder).unwrap();
    let body: Vec<u8> =
        (0..20_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(folder.join("body"), &body).unwrap();
    let conf = folder.join("nginx.conf");
    std::fs::write(
        &conf,
        format!(
            "daemon off; master_process off; pid {0}/pid; error_log stderr; worker_rlimit_nofile 1024;\n\
             events {{}}\nhttp {{ access_log off; server {{ listen {1}:80; root {0}; }} }}",
            folder.display(),
            server_address(1)
        ),
    )
    .unwrap();
    let mut nginx = lab.servers[0].command("nginx").arg("-c").arg(&conf).spawn().unwrap();
    let target = SocketAddr::from((server_address(1), 80));
    wait_until("nginx listens", || lab.balancer.within(move || TcpStream::connect(target).is_ok()));

    let _deston = Deston::serving(&lab.balancer, &config("", "", &[(target, "")]));
    let fetched = lab
        .client
        .command("curl")
        .args([
            "--silent",
            "--fail",
            "--max-time",
            "60",
            &format!("http://{}/body", listener(PORT)),
        ])
        .output();
    nginx.kill().unwrap();
    nginx.wait().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let fetched = fetched.unwrap();
    assert!(fetched.status.success());
    assert!(fetched.stdout == body, "{} bytes came", fetched.stdout.len());
    let counters = lab.client.run(&["cat", "/proc/net/netstat"]);
    assert_eq!(tcp_ext(&counters, "TCPBacklogDrop"), 0);
    let snmp = lab.client.run(&["cat", "/proc/net/snmp"]);
    assert_eq!(checksum_errors(&snmp), 0, "checksums were wrong on the way");
}

/// A counter of /proc/net/netstat.
fn tcp_ext(netstat: &str, name: &str) -> u64 {
    let mut lines = netstat.lines().filter(|line| line.starts_with("TcpExt:"));
    let names = lines.next().unwrap().split_whitespace();
    let values = lines.next().unwrap().split_whitespace();
    names.zip(values).find(|(n, _)| *n == name).unwrap().1.parse().unwrap()
}

/// TCP segments that arrived with a wrong checksum, of /proc/net/snmp.
fn checksum_errors(snmp: &str) -> u64 {
    let mut lines = snmp.lines().filter(|line| line.starts_with("Tcp:"));
    let names = lines.next().unwrap().split_whitespace();
    let values = lines.next().unwrap().split_whitespace();
    names.zip(values).find(|(n, _)| *n == "InCsumErrors").unwrap().1.parse().unwrap()
}

#[test]
fn the_balancers_own_services_stay_reachable() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(&lab.servers[0], 1, 0);
    let _deston = Deston::serving(&lab.balancer, &config("", "", &[(server.address(), "")]));

    lab.client.run(&["ping", "-c", "1", "-W", "5", &BALANCER.to_string()]);
    let own = lab.balancer.within(|| TcpListener::bind((BALANCER, 0)).unwrap());
    let to = own.local_addr().unwrap();
    let client = lab.client.spawn(move || TcpStream::connect_timeout(&to, LIMIT).map(drop));
    own.accept().unwrap();
    client.join().unwrap().unwrap();
}

#[test]
fn a_dead_server_gets_no_connection_and_comes_back() {
    require_lab!();
    let lab = Lab::new(2);
    let first = TcpServer::start(&lab.servers[0], 1, 0);
    let second = TcpServer::start(&lab.servers[1], 2, 0);
    let health =
        "[load_balancer.health]\ninterval = \"50ms\"\ntimeout = \"500ms\"\nrise = 1\nfall = 2";
    let addresses = [(first.address(), ""), (second.address(), "")];
    let mut deston = Deston::serving(&lab.balancer, &config("", health, &addresses));
    let visits = |lab: &Lab| {
        lab.client.within(|| (0..10).map(|_| visit(listener(PORT)).unwrap()).collect::<Vec<_>>())
    };
    assert_eq!(visits(&lab).iter().filter(|n| **n == 1).count(), 5);

    let port = first.address().port();
    first.stop();
    deston.wait_for_log("server is down");
    assert_eq!(visits(&lab), [2; 10]);

    let _first = TcpServer::start(&lab.servers[0], 1, port);
    deston.wait_for_log("server is up");
    assert_eq!(visits(&lab).iter().filter(|n| **n == 1).count(), 5);
}

#[test]
fn no_server_ever_has_more_connections_than_its_limit() {
    require_lab!();
    let lab = Lab::new(2);
    let servers =
        [TcpServer::start(&lab.servers[0], 1, 0), TcpServer::start(&lab.servers[1], 2, 0)];
    let limit = "max_connections = 5";
    let addresses = [(servers[0].address(), limit), (servers[1].address(), limit)];
    let _deston = Deston::serving(&lab.balancer, &config("", "", &addresses));

    // 20 clients at a time for 10 places: some SYNs are dropped and sent again a second later.
    let threads: Vec<_> = (0..20)
        .map(|_| {
            lab.client.spawn(|| {
                for _ in 0..10 {
                    visit(listener(PORT)).unwrap();
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    for server in &servers {
        let most = server.most_open();
        assert!((1..=5).contains(&most), "{most} connections at once");
    }
    assert_eq!(servers[0].served() + servers[1].served(), 200);
}

#[test]
fn a_stopped_process_leaves_no_program_behind() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(&lab.servers[0], 1, 0);
    let mut deston = Deston::serving(&lab.balancer, &config("", "", &[(server.address(), "")]));
    assert_eq!(lab.client.within(|| visit(listener(PORT)).unwrap()), 1);
    deston.signal(Signal::SIGTERM);
    assert_eq!(deston.wait().code(), Some(0));
    let log = deston.rest_of_log();
    assert!(log.contains("forwarded="), "{log}");
    let links = lab.balancer.run(&["ip", "-details", "-json", "link", "show"]);
    assert!(!links.contains("\"xdp\":{"), "{links}");
}

#[test]
fn stopping_lets_a_flow_of_the_kernel_finish() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(&lab.servers[0], 1, 0);
    let mut deston = Deston::serving(&lab.balancer, &config("", "", &[(server.address(), "")]));
    let mut open = lab.client.within(|| greeted(listener(PORT)));
    deston.signal(Signal::SIGTERM);
    deston.wait_for_log("stopping");
    wait_until("new connections are refused", || {
        let refused = lab.client.within(|| TcpStream::connect_timeout(&listener(PORT), LIMIT));
        refused.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    });
    echo(&mut open);
    assert_eq!(attached(&lab), ["clients", "server1"]);
    drop(open);
    assert_eq!(deston.wait().code(), Some(0));
    assert_eq!(attached(&lab), [""; 0]);
}

#[test]
fn next_hops_are_followed_while_flows_drain() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(&lab.servers[0], 1, 0);
    let mut deston = Deston::serving(&lab.balancer, &config("", "", &[(server.address(), "")]));
    let mut open = lab.client.within(|| greeted(listener(PORT)));
    deston.signal(Signal::SIGTERM);
    deston.wait_for_log("stopping");
    lab.servers[0].run(&["ip", "link", "set", "eth0", "address", "02:00:00:00:77:01"]);
    lab.balancer.run(&["ip", "neighbour", "flush", "all"]);
    echo(&mut open);
    drop(open);
    assert_eq!(deston.wait().code(), Some(0));
}

#[test]
fn a_second_signal_ends_flows_of_the_kernel_at_once() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(&lab.servers[0], 1, 0);
    let mut deston = Deston::serving(&lab.balancer, &config("", "", &[(server.address(), "")]));
    let _open = lab.client.within(|| greeted(listener(PORT)));
    deston.signal(Signal::SIGTERM);
    deston.wait_for_log("stopping");
    deston.signal(Signal::SIGINT);
    assert_eq!(deston.wait().code(), Some(130));
    assert_eq!(attached(&lab), [""; 0]);
}

#[test]
fn auto_takes_xdp_where_it_is_the_better_choice() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(&lab.servers[0], 1, 0);
    let generic = "[kernel]\nxdp_mode = \"generic\"\n";
    let auto = config("", generic, &[(server.address(), "")]).replace("\"xdp\"", "\"auto\"");
    let mut deston = Deston::start(&lab.balancer, &auto);
    let line = deston.wait_for_log("datapath chosen");
    assert!(line.contains("xdp") && !line.contains("userspace"), "{line}");
    deston.wait_for_log("ready");
    let links = lab.balancer.run(&["ip", "-oneline", "link", "show"]);
    assert_eq!(links.matches("prog/xdp").count(), 2, "{links}");
    assert_eq!(lab.client.within(|| visit(listener(PORT)).unwrap()), 1);
}

#[test]
fn auto_takes_userspace_for_servers_on_loopback_and_says_why() {
    require_lab!();
    let lab = Lab::new(1);
    let own = lab.balancer.within(|| TcpListener::bind("127.0.0.1:0").unwrap());
    let address = own.local_addr().unwrap();
    let auto = config("", "", &[(address, "")]).replace("\"xdp\"", "\"auto\"");
    let mut deston = Deston::start(&lab.balancer, &auto);
    let line = deston.wait_for_log("datapath chosen");
    assert!(line.contains("userspace") && line.contains("127.0.0.1 is a loopback"), "{line}");
    deston.wait_for_log("ready");
    let client = lab.client.spawn(|| TcpStream::connect_timeout(&listener(PORT), LIMIT));
    own.accept().unwrap();
    client.join().unwrap().unwrap();
}

#[test]
fn that_no_server_is_reachable_is_logged() {
    require_lab!();
    let lab = Lab::new(2);
    let servers =
        [TcpServer::start(&lab.servers[0], 1, 0), TcpServer::start(&lab.servers[1], 2, 0)];
    let health = "[load_balancer.health]\ninterval = \"50ms\"\ntimeout = \"500ms\"\nfall = 1";
    let addresses = [(servers[0].address(), ""), (servers[1].address(), "")];
    let mut deston = Deston::serving(&lab.balancer, &config("", health, &addresses));
    servers.into_iter().for_each(TcpServer::stop);
    let line = deston.wait_for_log("no server is reachable");
    assert!(line.contains("ERROR"), "{line}");
}

#[test]
fn a_datagram_flow_takes_one_of_the_servers_connections() {
    require_lab!();
    let lab = Lab::new(1);
    let server = UdpServer::start(&lab.servers[0], 1, 0);
    let one = [(server.address(), "max_connections = 1")];
    let mut deston = Deston::serving(&lab.balancer, &config("protocol = \"udp\"", NO_HEALTH, &one));
    let answered = |socket: &UdpSocket| {
        socket.send(b"x").unwrap();
        socket.recv(&mut [0; 16]).is_ok()
    };
    let [first, second] = [(); 2].map(|()| {
        lab.client.within(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            socket.connect(listener(PORT)).unwrap();
            socket
        })
    });
    wait_until("the first client is answered", || answered(&first));
    assert!(!answered(&second), "the server has one flow, and room for one");
    assert!(answered(&first));
    deston.signal(Signal::SIGTERM);
    assert_eq!(deston.wait().code(), Some(0), "datagrams are not waited for");
    assert_eq!(counted(&deston.rest_of_log(), "servers_full"), 1);
}

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
fn auto_takes_userspace_on_veth_and_says_why() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(&lab.servers[0], 1, 0);
    let config = config("", "", &[(server.address(), "")]).replace("\"xdp\"", "\"auto\"");
    let mut deston = Deston::start(&lab.balancer, &config);
    let line = deston.wait_for_log("datapath");
    assert!(line.contains("userspace") && line.contains("veth"), "{line}");
    deston.wait_for_log("ready");
    assert_eq!(lab.client.within(|| visit(listener(PORT)).unwrap()), 1);
}

#[test]
fn an_explicit_xdp_that_cannot_be_had_is_an_error() {
    require_lab!();
    let lab = Lab::new(1);
    let loopback = SocketAddr::from(([127, 0, 0, 1], 3_000));
    let cases = [
        (config("", "", &[(loopback, "")]), "loopback"),
        (config("", "", &[(SocketAddr::from(([203, 0, 113, 17], 80)), "")]), "on this host"),
        (config("", "", &[(SocketAddr::from(([192, 0, 2, 7], 80)), "")]), "no route"),
        (
            config(
                "interfaces = [\"nic9\"]",
                "",
                &[(SocketAddr::from((server_address(1), 80)), "")],
            ),
            "no interface `nic9`",
        ),
    ];
    for (config, reason) in cases {
        let mut deston = Deston::start(&lab.balancer, &config);
        let status = deston.wait();
        let log = deston.rest_of_log();
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(log.contains(reason), "{log}");
    }
    let links = lab.balancer.run(&["ip", "-details", "-json", "link", "show"]);
    assert!(!links.contains("\"xdp\":{"), "{links}");
}

#[test]
fn without_privileges_auto_takes_userspace_and_says_what_is_missing() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(&lab.servers[0], 1, 0);
    let generic = "[kernel]\nxdp_mode = \"generic\"\n";
    let explicit = config("", generic, &[(server.address(), "")]);
    let auto = explicit.replace("\"xdp\"", "\"auto\"");
    let mut deston = Deston::start_as_nobody(&lab.balancer, &auto);
    let line = deston.wait_for_log("datapath chosen");
    assert!(line.contains("userspace") && line.contains("CAP_BPF"), "{line}");
    deston.wait_for_log("ready");
    assert_eq!(lab.client.within(|| visit(listener(PORT)).unwrap()), 1);
    drop(deston);

    let mut deston = Deston::start_as_nobody(&lab.balancer, &explicit);
    assert_eq!(deston.wait().code(), Some(1));
    assert!(deston.rest_of_log().contains("CAP_BPF"));
}

#[test]
fn generic_mode_is_had_where_it_is_asked_for() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(&lab.servers[0], 1, 0);
    let generic = "[kernel]\nxdp_mode = \"generic\"\n";
    let _deston = Deston::serving(&lab.balancer, &config("", generic, &[(server.address(), "")]));
    let links = lab.balancer.run(&["ip", "-details", "-json", "link", "show"]);
    // XDP_ATTACHED_SKB (linux/if_link.h).
    assert_eq!(links.matches("\"xdp\":{\"mode\":2").count(), 2, "{links}");
    assert_eq!(lab.client.within(|| visit(listener(PORT)).unwrap()), 1);
}

#[test]
fn an_interface_with_another_xdp_program_is_refused_clearly() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(&lab.servers[0], 1, 0);
    let config = config("", "", &[(server.address(), "")]);
    let _first = Deston::serving(&lab.balancer, &config);
    let mut second = Deston::start(&lab.balancer, &config);
    let status = second.wait();
    let log = second.rest_of_log();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("has another XDP program"), "{log}");
    assert_eq!(lab.client.within(|| visit(listener(PORT)).unwrap()), 1);
}

/// The balancer's interfaces that have an XDP program.
fn attached(lab: &Lab) -> Vec<String> {
    let links = lab.balancer.run(&["ip", "-oneline", "link", "show"]);
    let with_program = links.lines().filter(|line| line.contains("prog/xdp"));
    // "7: clients@if2: <...": the name is the second word.
    with_program
        .filter_map(|line| line.split([' ', '@', ':']).filter(|word| !word.is_empty()).nth(1))
        .map(str::to_owned)
        .collect()
}

/// A second listener on the kernel datapath, with a pool of its own.
fn second_listener(port: u16, server: SocketAddr) -> String {
    format!(
        "[[listener]]\nname = \"second\"\naddress = \"{BALANCER}\"\nport = {port}\ndatapath = \"xdp\"\n\
         pool = \"second\"\n[listener.flows]\ntcp_fin = \"100ms\"\n\
         [[pool]]\nname = \"second\"\n\
         [[server]]\npool = \"second\"\naddress = \"{}\"\nport = {}\n",
        server.ip(),
        server.port()
    )
}

#[test]
fn a_refused_reload_attaches_to_nothing_new() {
    require_lab!();
    let lab = Lab::new(2);
    let servers =
        [TcpServer::start(&lab.servers[0], 1, 0), TcpServer::start(&lab.servers[1], 2, 0)];
    let first = config("", "", &[(servers[0].address(), "")]);
    let mut deston = Deston::serving(&lab.balancer, &first);
    assert_eq!(attached(&lab), ["clients", "server1"]);

    let nowhere = second_listener(PORT + 2, SocketAddr::from(([192, 0, 2, 7], 80)));
    let nowhere = nowhere.replace("\"second\"", "\"third\"");
    deston.reload(&(first + &second_listener(PORT + 1, servers[1].address()) + &nowhere));
    deston.wait_for_log("not reloaded");
    assert_eq!(attached(&lab), ["clients", "server1"]);
    assert_eq!(lab.client.within(|| visit(listener(PORT)).unwrap()), 1);
}

#[test]
fn an_interface_is_let_go_once_the_last_flow_that_needs_it_has_ended() {
    require_lab!();
    let lab = Lab::new(2);
    let servers =
        [TcpServer::start(&lab.servers[0], 1, 0), TcpServer::start(&lab.servers[1], 2, 0)];
    let first = config("", "", &[(servers[0].address(), "")]);
    let both = first.clone() + &second_listener(PORT + 1, servers[1].address());
    let mut deston = Deston::serving(&lab.balancer, &both);
    assert_eq!(attached(&lab), ["clients", "server1", "server2"]);
    let mut open = lab.client.within(|| greeted(listener(PORT + 1)));

    deston.reload(&first);
    assert!(!deston.wait_for_log("reloaded").contains("not reloaded"));
    assert_eq!(attached(&lab), ["clients", "server1", "server2"]);
    echo(&mut open);
    drop(open);
    wait_until("server2's interface is let go", || attached(&lab) == ["clients", "server1"]);

    deston.reload(&first.replace("\"xdp\"", "\"userspace\""));
    assert!(!deston.wait_for_log("reloaded").contains("not reloaded"));
    wait_until("every interface is let go", || attached(&lab).is_empty());
    assert_eq!(lab.client.within(|| visit(listener(PORT)).unwrap()), 1);
}

/// Visits until somebody answers: what the balancer is told of takes a moment to be noticed.
fn visit_soon(lab: &Lab) -> u8 {
    let mut answer = None;
    wait_until("a visit is answered", || {
        answer = lab.client.within(|| briefly(listener(PORT)));
        answer.is_some()
    });
    answer.unwrap()
}

/// As `visit`, but gives up soon.
fn briefly(to: SocketAddr) -> Option<u8> {
    let limit = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&to, limit).ok()?;
    stream.set_read_timeout(Some(limit)).unwrap();
    stream.write_all(b"x").ok()?;
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).ok()?;
    Some(answer[0])
}

const NO_HEALTH: &str = "[load_balancer.health]\nkind = \"off\"";

#[test]
fn a_next_hop_nobody_has_asked_for_is_resolved_at_start() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(&lab.servers[0], 1, 0);
    lab.balancer.run(&["ip", "neighbour", "flush", "all"]);
    let _deston = Deston::serving(&lab.balancer, &config("", NO_HEALTH, &[(server.address(), "")]));
    assert_eq!(visit_soon(&lab), 1);
}

#[test]
fn next_hops_are_kept_resolved() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(&lab.servers[0], 1, 0);
    let _deston = Deston::serving(&lab.balancer, &config("", NO_HEALTH, &[(server.address(), "")]));
    assert_eq!(visit_soon(&lab), 1);
    lab.servers[0].run(&["ip", "link", "set", "eth0", "address", "02:00:00:00:77:01"]);
    lab.balancer.run(&["ip", "neighbour", "flush", "all"]);
    assert_eq!(visit_soon(&lab), 1);
}

#[test]
fn an_interface_that_is_made_anew_is_attached_again() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(&lab.servers[0], 1, 0);
    let mut deston =
        Deston::serving(&lab.balancer, &config("", NO_HEALTH, &[(server.address(), "")]));
    assert_eq!(visit_soon(&lab), 1);
    lab.balancer.run(&["ip", "link", "del", "server1"]);
    deston.wait_for_log("an interface is gone");
    lab.join(1);
    deston.wait_for_log("attached: traffic moved here");
    assert_eq!(attached(&lab), ["clients", "server1"]);
    assert_eq!(visit_soon(&lab), 1);

    lab.balancer.run(&["ip", "link", "del", "clients"]);
    deston.wait_for_log("an interface is gone");
    lab.join_client();
    deston.wait_for_log("attached: traffic moved here");
    assert_eq!(visit_soon(&lab), 1);
}

#[test]
fn a_server_behind_an_interface_that_takes_no_program_gets_no_new_connection() {
    require_lab!();
    let lab = Lab::new(2);
    let servers =
        [TcpServer::start(&lab.servers[0], 1, 0), TcpServer::start(&lab.servers[1], 2, 0)];
    let addresses = [(servers[0].address(), ""), (servers[1].address(), "")];
    let mut deston = Deston::serving(&lab.balancer, &config("", NO_HEALTH, &addresses));
    let to_first = format!("{}/32", server_address(1));
    // A bridge has no native XDP.
    lab.balancer.run(&["ip", "link", "add", "other", "type", "bridge"]);
    lab.balancer.run(&["ip", "link", "set", "other", "up"]);
    lab.balancer.run(&[
        "ip",
        "neighbour",
        "add",
        &server_address(1).to_string(),
        "lladdr",
        "02:00:00:00:77:02",
        "dev",
        "other",
        "nud",
        "permanent",
    ]);
    lab.balancer.run(&["ip", "route", "add", &to_first, "dev", "other"]);
    let line = deston.wait_for_log("traffic moved to an interface without our program");
    assert!(line.contains("WARN") && line.contains("does not support native XDP"), "{line}");
    deston.wait_for_log("reachable=false");
    assert_eq!(lab.client.within(|| [(); 4].map(|()| visit(listener(PORT)).unwrap())), [2; 4]);

    lab.balancer.run(&["ip", "route", "del", &to_first]);
    deston.wait_for_log("reachable=true");
    let answers = lab.client.within(|| [(); 4].map(|()| visit(listener(PORT)).unwrap()));
    assert_eq!(answers.iter().filter(|n| **n == 1).count(), 2);
}

#[test]
fn a_port_of_another_process_is_not_taken() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(&lab.servers[0], 1, 0);
    let tcp = config("", NO_HEALTH, &[(server.address(), "")]);
    let udp = config("protocol = \"udp\"", NO_HEALTH, &[(server.address(), "")]);
    let refused = |config: &str| {
        let mut deston = Deston::start(&lab.balancer, config);
        assert_eq!(deston.wait().code(), Some(1));
        let log = deston.rest_of_log();
        assert!(log.contains("is in use by another process"), "{log}");
    };
    let other = lab.balancer.within(|| TcpListener::bind(("0.0.0.0", PORT)).unwrap());
    refused(&tcp);
    drop(other);
    let other = lab.balancer.within(|| UdpSocket::bind(("0.0.0.0", PORT)).unwrap());
    refused(&udp);
    drop(other);

    let deston = Deston::serving(&lab.balancer, &tcp);
    let bound = lab.balancer.within(|| TcpListener::bind((BALANCER, PORT)).is_ok());
    assert!(!bound, "nobody else gets the port while the listener is open");
    drop(deston);
    let deston = Deston::serving(&lab.balancer, &udp);
    assert!(lab.balancer.within(|| UdpSocket::bind((BALANCER, PORT)).is_err()));
    drop(deston);
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

/// Sends datagrams until one is answered, and returns who answers.
fn asked(to: SocketAddr) -> u8 {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    socket.connect(to).unwrap();
    let mut answer = [0; 16];
    wait_until("a datagram is answered", || {
        socket.send(b"x").is_ok() && socket.recv(&mut answer).is_ok()
    });
    answer[0]
}

/// A connection that has been answered once.
fn greeted(to: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect_timeout(&to, LIMIT).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(b"x").unwrap();
    stream.read_exact(&mut [0; 2]).unwrap();
    stream
}

/// One more exchange on a connection.
fn echo(stream: &mut TcpStream) {
    stream.write_all(b"still").unwrap();
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"still");
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

/// What the kernel had counted of an outcome when the process stopped.
fn counted(log: &str, outcome: &str) -> u64 {
    let line = log.lines().find(|line| line.contains("the kernel counted packets")).expect(log);
    let value = line.split(' ').find_map(|word| word.strip_prefix(&format!("{outcome}=")));
    value.map_or(0, |value| value.trim_end_matches(';').parse().unwrap())
}

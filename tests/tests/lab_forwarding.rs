//! Traffic through the kernel datapath among real hosts.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use deston_tests::lab::visit::{LIMIT, PORT, config, visit};
use deston_tests::lab::{
    BALANCER, Deston, Lab, TcpServer, UdpServer, listener, pause, server_address, wait_until,
};
use deston_tests::require_lab;

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

//! What the specs of the kernel datapath share: one configuration, clients that say who answered.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use deston::datapath::Hook;

use super::{BALANCER, Lab, listener, listener_of, wait_until};
use crate::kernel::Setting;

/// Port of the listener.
pub const PORT: u16 = 8_000;

/// How long a client waits for anything.
pub const LIMIT: Duration = Duration::from_secs(20);

/// A configuration with one listener at XDP, with an IPv4 address.
pub fn config(listener_keys: &str, pool_keys: &str, servers: &[(SocketAddr, &str)]) -> String {
    config_for(Setting::XDP4, listener_keys, pool_keys, servers)
}

/// A configuration with one listener in the kernel, at a hook and with an address of a family.
pub fn config_for(
    setting: Setting,
    listener_keys: &str,
    pool_keys: &str,
    servers: &[(SocketAddr, &str)],
) -> String {
    let address = listener_of(setting.family, PORT).ip();
    let datapath = match setting.hook {
        Hook::Xdp => "xdp",
        Hook::Tc => "tc",
    };
    let mut text = format!(
        "[load_balancer]\naddress = \"{address}\"\nport = {PORT}\ndatapath = \"{datapath}\"\n\
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
pub fn visit(to: SocketAddr) -> std::io::Result<u8> {
    let mut stream = TcpStream::connect_timeout(&to, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(b"x")?;
    let mut answer = [0; 2];
    stream.read_exact(&mut answer)?;
    assert_eq!(stream.peer_addr()?, to);
    assert_eq!(answer[1], b'x');
    Ok(answer[0])
}

/// As `visit`, but gives up soon.
pub fn briefly(to: SocketAddr) -> Option<u8> {
    visit_within(to, Duration::from_secs(2))
}

/// As `visit`, but gives up after a time.
pub fn visit_within(to: SocketAddr, limit: Duration) -> Option<u8> {
    let mut stream = TcpStream::connect_timeout(&to, limit).ok()?;
    stream.set_read_timeout(Some(limit)).unwrap();
    stream.write_all(b"x").ok()?;
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).ok()?;
    Some(answer[0])
}

/// Visits until somebody answers: what the balancer is told of takes a moment to be noticed.
pub fn visit_soon(lab: &Lab) -> u8 {
    let mut answer = None;
    wait_until("a visit is answered", || {
        answer = lab.client.within(|| briefly(listener(PORT)));
        answer.is_some()
    });
    answer.unwrap()
}

/// The balancer's interfaces that have an XDP program.
pub fn attached(lab: &Lab) -> Vec<String> {
    let links = lab.balancer.run(&["ip", "-oneline", "link", "show"]);
    let with_program = links.lines().filter(|line| line.contains("prog/xdp"));
    // "7: clients@if2: <...": the name is the second word.
    with_program
        .filter_map(|line| line.split([' ', '@', ':']).filter(|word| !word.is_empty()).nth(1))
        .map(str::to_owned)
        .collect()
}

/// A second listener on the kernel datapath, with a pool of its own.
pub fn second_listener(port: u16, server: SocketAddr) -> String {
    format!(
        "[[listener]]\nname = \"second\"\naddress = \"{BALANCER}\"\nport = {port}\ndatapath = \"xdp\"\n\
         pool = \"second\"\n[listener.flows]\ntcp_fin = \"100ms\"\n\
         [[pool]]\nname = \"second\"\n\
         [[server]]\npool = \"second\"\naddress = \"{}\"\nport = {}\n",
        server.ip(),
        server.port()
    )
}

/// Keys of a pool without health checks.
pub const NO_HEALTH: &str = "[load_balancer.health]\nkind = \"off\"";

/// A connection that has been answered once.
pub fn greeted(to: SocketAddr) -> TcpStream {
    greeted_by(to).1
}

/// The same, and the number of the server that answered.
pub fn greeted_by(to: SocketAddr) -> (u8, TcpStream) {
    let mut stream = TcpStream::connect_timeout(&to, LIMIT).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(b"x").unwrap();
    let mut greeting = [0; 2];
    stream.read_exact(&mut greeting).unwrap();
    (greeting[0], stream)
}

/// One more exchange on a connection.
pub fn echo(stream: &mut TcpStream) {
    stream.write_all(b"still").unwrap();
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"still");
}

/// Sends datagrams until one is answered, and returns who answers.
pub fn asked(to: SocketAddr) -> u8 {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    socket.connect(to).unwrap();
    let mut answer = [0; 16];
    wait_until("a datagram is answered", || {
        socket.send(b"x").is_ok() && socket.recv(&mut answer).is_ok()
    });
    answer[0]
}

/// What the kernel had counted of an outcome when the process stopped.
pub fn counted(log: &str, outcome: &str) -> u64 {
    let line = log.lines().find(|line| line.contains("the kernel counted packets")).expect(log);
    let value = line.split(' ').find_map(|word| word.strip_prefix(&format!("{outcome}=")));
    value.map_or(0, |value| value.trim_end_matches(';').parse().unwrap())
}

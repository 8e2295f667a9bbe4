//! What a host has counted: /proc/net, as seen in a namespace.

use super::Namespace;

/// Packets that arrived with a wrong checksum, of every protocol and both families.
pub fn checksum_errors(host: &Namespace) -> u64 {
    let [snmp, netstat] = tables(host);
    let paired = [("Tcp", "InCsumErrors"), ("Udp", "InCsumErrors"), ("Icmp", "InCsumErrors")];
    let of_snmp: u64 = paired.iter().map(|(table, name)| paired_value(&snmp, table, name)).sum();
    let of_netstat = paired_value(&netstat, "IpExt", "InCsumErrors");
    let snmp6 = read(host, "snmp6");
    let of_snmp6: u64 =
        ["Udp6InCsumErrors", "Icmp6InCsumErrors"].iter().map(|name| flat(&snmp6, name)).sum();
    of_snmp + of_netstat + of_snmp6
}

/// TCP segments that a host has sent again.
pub fn retransmitted(host: &Namespace) -> u64 {
    paired_value(&tables(host)[0], "Tcp", "RetransSegs")
}

/// Packets that a host has joined from fragments, of both families.
pub fn reassembled(host: &Namespace) -> u64 {
    paired_value(&tables(host)[0], "Ip", "ReasmOKs") + flat(&read(host, "snmp6"), "Ip6ReasmOKs")
}

/// TCP connections of a host that a reset has ended.
pub fn resets_received(host: &Namespace) -> u64 {
    paired_value(&tables(host)[0], "Tcp", "EstabResets")
}

/// Bytes and packets that came in by a device; one that is left whole by segmentation offload is one
/// packet.
pub fn received(host: &Namespace, device: &str) -> (u64, u64) {
    let prefix = format!("{device}:");
    let table = read(host, "dev");
    let line = table.lines().find_map(|line| line.trim_start().strip_prefix(&prefix));
    let mut values = line.unwrap_or_else(|| panic!("no {device}")).split_whitespace();
    let mut next = || values.next().unwrap().parse().unwrap();
    (next(), next())
}

fn tables(host: &Namespace) -> [String; 2] {
    ["snmp", "netstat"].map(|name| read(host, name))
}

fn read(host: &Namespace, name: &str) -> String {
    // `/proc/net` is that of the process; the thread that entered the namespace has its own.
    let path = format!("/proc/thread-self/net/{name}");
    host.within(move || std::fs::read_to_string(path).unwrap())
}

/// A counter of a table with a line of names above a line of values.
fn paired_value(text: &str, table: &str, name: &str) -> u64 {
    let prefix = format!("{table}:");
    let mut lines = text.lines().filter(|line| line.starts_with(&prefix));
    let names = lines.next().unwrap().split_whitespace();
    let values = lines.next().unwrap().split_whitespace();
    let found = names.zip(values).find(|(n, _)| *n == name);
    found.unwrap_or_else(|| panic!("no {table} {name}")).1.parse().unwrap()
}

/// A counter of a table with a name and a value on each line.
fn flat(text: &str, name: &str) -> u64 {
    let words = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    words.filter(|words| words[0] == name).map(|words| words[1].parse::<u64>().unwrap()).sum()
}

//! Hosts behind a router whose link takes shorter packets.

use std::net::{IpAddr, SocketAddr};

use super::{Lab, Namespace, gateway_of, listener_of, server_of};
use crate::kernel::Family;

/// Longest packet that the routers let through.
pub const SHORT_MTU: u32 = 1_300;

/// A lab's client and first server become routers, each with a host behind it:
///
/// ```text
///   near the client             router = client          balancer     router = server 1     near the server
///   192.0.2.2 ----------------- 192.0.2.1 ...                         ... 192.0.2.17 -------- 192.0.2.18
///   2001:db8:e:1::2 ----------- 2001:db8:e:1::1 ...                   ... 2001:db8:e:2::1 --- 2001:db8:e:2::2
/// ```
/// Every interface takes packets of 1,500 bytes; the routes to the hosts behind take less, so that a
/// router has to tell senders.
pub struct Beyond {
    /// The host behind the client.
    pub client: Namespace,
    /// The host behind the first server.
    pub server: Namespace,
}

impl Beyond {
    /// Puts hosts behind the client and the first server of a lab.
    pub fn new(lab: &Lab) -> Self {
        let beyond = Self { client: Namespace::new("beyond"), server: Namespace::new("served") };
        for (host, router, place) in
            [(&beyond.client, &lab.client, 1), (&beyond.server, lab.server(1), 2)]
        {
            let theirs = Family::BOTH.map(|family| with_prefix(address(family, place, 2)));
            let ours = Family::BOTH.map(|family| with_prefix(address(family, place, 1)));
            host.link_all("eth0", &theirs, router, "behind", &ours);
            router.set("net/ipv4/ip_forward", "1");
            router.set("net/ipv6/conf/all/forwarding", "1");
            for family in Family::BOTH {
                let [near, far] = [1, 2].map(|end| address(family, place, end));
                host.batch(&[format!("route add default via {near}")]);
                // A host's own packets heed a route's limit; packets on their way only a locked one.
                router.batch(&[format!("route add {far} dev behind mtu lock {SHORT_MTU}")]);
            }
        }
        for family in Family::BOTH {
            let near_client = listener_of(family, 0).ip();
            let near_server = gateway_of(family, 1);
            let client = client_of(family);
            lab.client.batch(&[format!("route add default via {near_client}")]);
            lab.server(1).batch(&[format!("route add default via {near_server}")]);
            lab.balancer.batch(&[
                format!("route add {} via {client}", address(family, 1, 2)),
                format!("route add {} via {}", address(family, 2, 2), server_of(family, 1)),
            ]);
        }
        beyond
    }

    /// Where a server on the host behind the first server listens.
    pub fn server_address(family: Family) -> SocketAddr {
        (address(family, 2, 2), 3_000).into()
    }

    /// Longest packet that a host believes to reach an address.
    pub fn known_mtu(host: &Namespace, to: IpAddr) -> u32 {
        let route = host.run(&["ip", "route", "get", &to.to_string()]);
        let mut words = route.split_whitespace().skip_while(|word| *word != "mtu").skip(1);
        words.next().map_or(1_500, |mtu| mtu.parse().unwrap())
    }
}

fn client_of(family: Family) -> IpAddr {
    match family {
        Family::V4 => super::CLIENT.into(),
        Family::V6 => super::CLIENT6.into(),
    }
}

/// An end of the link to the host at a place.
fn address(family: Family, place: u8, end: u8) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([192, 0, 2, 16 * (place - 1) + end]),
        Family::V6 => IpAddr::from([0x2001, 0xdb8, 0xe, place.into(), 0, 0, 0, end.into()]),
    }
}

fn with_prefix(address: IpAddr) -> String {
    let bits = if address.is_ipv4() { 28 } else { 64 };
    format!("{address}/{bits}")
}

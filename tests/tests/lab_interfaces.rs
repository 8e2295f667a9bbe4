//! Clients behind two links of the balancer.

use std::net::SocketAddr;

use deston_common::outcome::Outcome;
use deston_tests::kernel::{Family, Setting};
use deston_tests::lab::visit::{NO_HEALTH, PORT, config_for, visit, visit_within};
use deston_tests::lab::{Deston, Lab, Namespace, TcpServer, listener_of, received, server_of};
use deston_tests::require_lab;

/// The balancer's interface to the other client.
const OTHERS: &str = "others";

/// A client on another link, whose way to the listener leads through the balancer.
fn other_client(lab: &Lab, family: Family) -> Namespace {
    let host = Namespace::new("other");
    let [theirs, ours, gateway] = match family {
        Family::V4 => ["192.0.2.2/28", "192.0.2.1/28", "192.0.2.1"],
        Family::V6 => ["2001:db8:e::2/64", "2001:db8:e::1/64", "2001:db8:e::1"],
    };
    host.link_all("eth0", &[theirs], &lab.balancer, OTHERS, &[ours]);
    host.tune("eth0", &["tx", "off", "gro", "on"]);
    host.batch(&[format!("route add default via {gateway}")]);
    host
}

#[test]
fn clients_of_two_links_are_balanced_where_both_are_named() {
    require_lab!();
    for setting in [Setting::XDP4, Setting::TC6] {
        let lab = Lab::new(1);
        let other = other_client(&lab, setting.family);
        let at = SocketAddr::new(server_of(setting.family, 1), 3_000);
        let _server = TcpServer::start_at(lab.server(1), 1, at);
        let to = listener_of(setting.family, PORT);
        let config = |interfaces: &str| config_for(setting, interfaces, NO_HEALTH, &[(at, "")]);
        {
            let both = format!("interfaces = [\"clients\", \"{OTHERS}\"]");
            let deston = Deston::serving(&lab.balancer, &config(&both));
            for host in [&lab.client, &other] {
                let counts = || [Outcome::Forwarded, Outcome::Replied].map(|o| deston.counted(o));
                let (counted, packets) = (counts(), received(host, "eth0").1);
                assert_eq!(host.within(move || visit(to).unwrap()), 1, "{setting}");
                let carried = counts().iter().zip(counted).all(|(now, then)| now - then >= 3);
                assert!(carried, "{setting}: {:?} after {counted:?}", counts());
                assert!(received(host, "eth0").1 - packets >= 3, "{setting}: by its own link");
            }
            assert_eq!(lab.checksum_errors(), 0, "{setting}");
        }
        // The control: the kernel carries nobody of a link that is not named.
        let deston = Deston::serving(&lab.balancer, &config("interfaces = [\"clients\"]"));
        let limit = std::time::Duration::from_secs(1);
        other.within(move || visit_within(to, limit));
        assert_eq!(deston.counted(Outcome::Forwarded), 0, "{setting}");
        assert_eq!(lab.client.within(move || visit(to).unwrap()), 1, "{setting}");
        assert!(deston.counted(Outcome::Forwarded) >= 3, "{setting}");
    }
}

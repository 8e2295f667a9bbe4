//! Clients behind VLAN tags: what goes back to them has theirs.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use deston_common::outcome::Outcome;
use deston_tests::kernel::{Family, Setting};
use deston_tests::lab::body::{bytes, echoed};
use deston_tests::lab::visit::{NO_HEALTH, PORT, config_for, visit_within};
use deston_tests::lab::{Deston, Lab, TcpServer, Trunk, listener_of, server_of};
use deston_tests::packet::{Tag, ether_type};
use deston_tests::require_lab;

/// Bytes of the body, each way.
const BODY: usize = 1_000_000;

/// The listener's own address, on the clients' VLAN.
fn dedicated(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([192, 0, 2, 200]),
        Family::V6 => IpAddr::from([0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 200]),
    }
}

const INNER: Tag = Tag { tpid: ether_type::VLAN, tci: 10 };
const OUTER: Tag = Tag { tpid: ether_type::SERVICE_VLAN, tci: 0x2000 | 20 };

/// A listener whose clients have tags, and the untagged server behind it.
struct Scene {
    lab: Lab,
    trunk: Trunk,
    deston: Deston,
    to: SocketAddr,
    _server: TcpServer,
}

impl Scene {
    fn new(setting: Setting, tags: &[Tag], expected: &[Tag]) -> Self {
        let lab = Lab::new(1);
        let own = dedicated(setting.family);
        let trunk = Trunk::start(&lab, tags, expected, own);
        let address = (server_of(setting.family, 1), 3_000).into();
        let server = TcpServer::start_at(lab.server(1), 1, address);
        let keys = "interfaces = [\"trunk\"]";
        let here = listener_of(setting.family, 0).ip();
        let text = config_for(setting, keys, NO_HEALTH, &[(address, "")])
            .replace(&format!("\"{here}\""), &format!("\"{own}\""));
        let deston = Deston::serving(&lab.balancer, &text);
        Self { lab, trunk, deston, to: (own, PORT).into(), _server: server }
    }
}

#[test]
fn clients_get_their_tags_back() {
    require_lab!();
    let both = [OUTER, INNER];
    let cases: [(Setting, &[Tag]); 4] = [
        (Setting::XDP4, &both[1..]),
        (Setting::XDP6, &both),
        (Setting::TC4, &both),
        (Setting::TC6, &both[1..]),
    ];
    for (setting, tags) in cases {
        let scene = Scene::new(setting, tags, tags);
        let to = scene.to;
        assert_eq!(scene.lab.client.within(move || echoed(to, &bytes(BODY, 3)).unwrap()), 1);
        scene.lab.client.run(&["ping", "-c", "3", "-i", "0.05", "-W", "5", &to.ip().to_string()]);
        assert_eq!(scene.deston.counted(Outcome::Echoed), 3, "{setting}");
        let [there, back] = scene.trunk.carried();
        let least = (BODY / 1_500) as u64;
        assert!(there > least && back > least, "{setting}: {there}, {back}");
        assert!(scene.deston.counted(Outcome::Forwarded) > least, "{setting}");
        assert_eq!(scene.trunk.other(), 0, "{setting}");
        assert_eq!(scene.lab.checksum_errors(), 0, "{setting}");
    }
}

#[test]
fn a_client_of_another_vlan_hears_nothing() {
    // The control: the far end does heed the tags.
    require_lab!();
    let other = Tag { tci: 11, ..INNER };
    let scene = Scene::new(Setting::TC4, &[INNER], &[other]);
    let to = scene.to;
    let limit = Duration::from_secs(2);
    assert_eq!(scene.lab.client.within(move || visit_within(to, limit)), None);
    assert!(scene.trunk.other() > 0);
    assert_eq!(scene.trunk.carried()[1], 0);
}

//! Pools and servers: tables, identifiers, health.

use deston_common::limits::MAGLEV_SLOTS;
use deston_common::table::Index;
use proptest::prelude::*;

use super::*;

/// The pool `default` with servers on these ports.
fn servers(ports: &[u16]) -> String {
    ports.iter().map(|port| format!("[[server]]\nport = {port}\n")).collect()
}

fn algorithm(name: &str, servers: &str) -> String {
    format!("[load_balancer]\nalgorithm = \"{name}\"\n{servers}")
}

#[test]
fn round_robin_follows_the_file() {
    let mut lab = start(&servers(&[3, 1, 2]));
    assert_eq!(lab.ports("default"), [3, 1, 2]);
    lab.reload(&servers(&[2, 4, 3]));
    assert_eq!(lab.ports("default"), [2, 4, 3]);
}

#[test]
fn weights_are_read_by_weighted_round_robin_alone() {
    let text = "[[server]]\nport = 1\nweight = 3\n[[server]]\nport = 2\n";
    let mut lab = start(&algorithm("weighted_round_robin", text));
    assert_eq!(lab.ports("default"), [1, 1, 2, 1]);
    lab.reload(&algorithm("round_robin", text));
    assert_eq!(lab.ports("default"), [1, 2]);
}

#[test]
fn every_algorithm_has_a_table_of_its_own() {
    let text = "[[server]]\nport = 1\nweight = 3\n[[server]]\nport = 2\n";
    let cases = [
        ("round_robin", Index::Cursor, 2),
        ("weighted_round_robin", Index::Cursor, 4),
        ("ip_hashing", Index::Client, MAGLEV_SLOTS),
        ("maglev", Index::Flow, MAGLEV_SLOTS),
        ("maglev\"\nhash_on = \"ip", Index::Client, MAGLEV_SLOTS),
        ("maglev\"\nhash_on = \"ip+port", Index::ClientPort, MAGLEV_SLOTS),
        ("random", Index::Random, 4),
        ("least_connections", Index::Least, 2),
        ("p2c", Index::Least, 2),
    ];
    for (name, index, len) in cases {
        let lab = start(&algorithm(name, text));
        let view = lab.pool("default").view();
        assert_eq!((view.table.index, view.table.len), (index as u32, len), "{name}");
    }
}

#[test]
fn maglev_gives_shares_by_weight_and_ip_hashing_equal_ones() {
    let text = "[[server]]\nport = 1\nweight = 3\n[[server]]\nport = 2\n";
    let share_of_first = |name: &str| {
        let ports = start(&algorithm(name, text)).ports("default");
        ports.iter().filter(|port| **port == 1).count() * 100 / ports.len()
    };
    assert!((74..=76).contains(&share_of_first("maglev")));
    assert!((49..=51).contains(&share_of_first("ip_hashing")));
}

#[test]
fn a_server_that_drains_leaves_the_table_and_is_still_probed() {
    let text =
        |drain: bool| format!("[[server]]\nport = 1\ndrain = {drain}\n[[server]]\nport = 2\n");
    let mut lab = start(&text(false));
    let server = lab.server("default", 1);
    lab.reload(&text(true));
    assert_eq!(lab.ports("default"), [2]);
    assert_eq!(lab.reconciler.probed().count(), 2);
    assert_eq!(lab.reconciler.up("default"), (1, 2));
    lab.set("default", 1, Condition::Down);
    lab.set("default", 1, Condition::Up);
    assert_eq!(lab.ports("default"), [2], "probes do not end it");
    lab.reload(&text(false));
    assert!(Arc::ptr_eq(&server, &lab.server("default", 1)));
}

#[test]
fn a_server_that_stays_keeps_its_identity_and_its_connections() {
    let mut lab = start(&servers(&[1, 2]));
    let server = lab.server("default", 2);
    let slot = server.claim().unwrap();
    let pool = lab.pool("default");
    lab.reload("[[server]]\nport = 3\n[[server]]\nport = 2\nmax_connections = 1\nweight = 7\n");
    assert!(Arc::ptr_eq(&server, &lab.server("default", 2)));
    assert!(Arc::ptr_eq(&pool, &lab.pool("default")), "the cursor lives on");
    assert!(server.claim().is_none(), "the new limit counts the old connection");
    drop(slot);
    assert!(server.claim().is_some());
}

#[test]
fn an_identifier_is_not_given_away_while_a_connection_is_open() {
    let mut lab = start(&servers(&[1, 2]));
    let slot = lab.server("default", 1).claim().unwrap();
    let id = slot.server().id();
    for port in 3..9 {
        lab.reload(&servers(&[2, port]));
        assert_ne!(lab.server("default", port).id(), id);
    }
    drop(slot);
    lab.reload(&servers(&[2, 20]));
    lab.reload(&servers(&[2, 20, 21]));
    let ids: Vec<u16> = [20, 21].map(|port| lab.server("default", port).id().0).to_vec();
    assert!(ids.contains(&id.0), "{ids:?} has the free identifier {id:?}");
}

#[test]
fn an_identifier_is_not_given_away_while_the_kernel_has_flows() {
    let mut lab = start(&servers(&[1, 2]));
    let id = lab.server("default", 1).id();
    *lab.flows.borrow_mut() = 1;
    lab.reload(&servers(&[2]));
    lab.reload(&servers(&[2, 3]));
    assert_ne!(lab.server("default", 3).id(), id);
    *lab.flows.borrow_mut() = 0;
    lab.reload(&servers(&[2, 3]));
    lab.reload(&servers(&[2, 3, 4]));
    assert_eq!(lab.server("default", 4).id(), id);
}

#[test]
fn a_removed_server_that_comes_back_still_counts_its_connections() {
    let one = "[[server]]\nport = 1\nmax_connections = 1\n[[server]]\nport = 2\n";
    let mut lab = start(one);
    let slot = lab.server("default", 1).claim().unwrap();
    lab.reload(&servers(&[2]));
    assert_eq!(lab.ports("default"), [2]);
    lab.reload(one);
    assert!(lab.server("default", 1).claim().is_none());
    drop(slot);
    assert!(lab.server("default", 1).claim().is_some());
}

#[test]
fn a_server_that_is_down_is_in_no_table_until_it_is_up() {
    let mut lab = start(&servers(&[1, 2, 3]));
    assert!(lab.set("default", 2, Condition::Down));
    assert!(!lab.set("default", 2, Condition::Down), "nothing new");
    assert_eq!(lab.ports("default"), [1, 3]);
    assert_eq!(lab.reconciler.up("default"), (2, 3));
    lab.reload(&servers(&[1, 2, 3, 4]));
    assert_eq!(lab.ports("default"), [1, 3, 4], "a reload does not forget");
    assert!(lab.set("default", 2, Condition::Up));
    assert_eq!(lab.ports("default"), [1, 2, 3, 4]);
}

#[test]
fn a_pool_without_a_server_that_is_up_has_an_empty_table() {
    let mut lab = start(&servers(&[1, 2]));
    for port in [1, 2] {
        lab.set("default", port, Condition::Down);
    }
    assert_eq!(lab.ports("default"), [0; 0]);
    assert!(lab.pool("default").view().choose(0, |_| true).is_none());
}

#[test]
fn switching_checks_off_brings_every_server_back() {
    let mut lab = start(&servers(&[1, 2]));
    lab.set("default", 1, Condition::Down);
    lab.reload(&format!("[load_balancer.health]\nkind = \"off\"\n{}", servers(&[1, 2])));
    assert_eq!(lab.ports("default"), [1, 2]);
    assert_eq!(lab.reconciler.probed().count(), 0);
}

#[test]
fn servers_of_probed_pools_are_probed() {
    let mut lab = start(&servers(&[1, 2]));
    let ports = |lab: &Lab| -> Vec<u16> {
        lab.reconciler.probed().map(|(key, ..)| key.address.port()).collect()
    };
    assert_eq!(ports(&lab), [1, 2]);
    lab.reload(&servers(&[2, 3]));
    assert_eq!(ports(&lab), [2, 3]);
    lab.reload(&servers(&[3]));
    assert_eq!(ports(&lab), [0; 0]);
}

#[test]
fn news_of_a_removed_server_changes_nothing() {
    let mut lab = start(&servers(&[1, 2]));
    lab.reload(&servers(&[2]));
    assert!(!lab.set("default", 1, Condition::Down));
    lab.reload(&servers(&[1, 2]));
    assert_eq!(lab.ports("default"), [1, 2]);
}

#[test]
fn another_seed_builds_other_tables() {
    let text = algorithm("ip_hashing", &servers(&[1, 2, 3]));
    let mut lab = start(&text);
    let before = lab.ports("default");
    let same = start(&text);
    assert_eq!(same.ports("default"), before, "a restart builds the same table");
    lab.reload(&format!("{text}[runtime]\nhash_seed = \"other\"\n"));
    assert_ne!(lab.ports("default"), before);
}

#[test]
fn the_same_clients_reach_the_same_servers_whatever_the_order_in_the_file() {
    let one = start(&algorithm("ip_hashing", &servers(&[1, 2, 3])));
    let other = start(&algorithm("ip_hashing", &servers(&[3, 1, 2])));
    assert_eq!(one.ports("default"), other.ports("default"));
}

#[test]
fn a_pool_that_is_removed_can_come_back() {
    let text = "[[listener]]\nname = \"a\"\npool = \"p\"\n[[pool]]\nname = \"p\"\n[[server]]\npool = \"p\"\nport = 1\n";
    let other = text.replace("\"p\"", "\"q\"");
    let mut lab = start(text);
    lab.reload(&other);
    assert_eq!(lab.reconciler.listener("a").unwrap().serving().pool.name(), "q");
    lab.reload(text);
    assert_eq!(lab.reconciler.listener("a").unwrap().serving().pool.name(), "p");
    assert_eq!(lab.ports("p"), [1]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is reloaded and probed in whatever order, with connections open here and there.
    #[test]
    fn tables_hold_what_is_configured_and_up(
        steps in prop::collection::vec((prop::sample::subsequence((1_u16..8).collect::<Vec<_>>(), 1..8), 1_u16..8, any::<bool>()), 1..12)
    ) {
        let mut lab = start(&servers(&[1]));
        let mut down: Vec<u16> = Vec::new();
        let mut slots = Vec::new();
        let mut configured = vec![1];
        for (ports, port, up) in steps {
            lab.reload(&servers(&ports));
            // One server is not probed and counts as up; so does one that was away.
            down.retain(|port| ports.contains(port) && configured.contains(port) && ports.len() > 1);
            configured = ports.clone();
            if ports.contains(&port) && ports.len() > 1 {
                let condition = if up { Condition::Up } else { Condition::Down };
                lab.set("default", port, condition);
                down.retain(|other| *other != port);
                if !up {
                    down.push(port);
                }
            }
            let expected: Vec<u16> = ports.iter().copied().filter(|p| !down.contains(p)).collect();
            prop_assert_eq!(lab.ports("default"), expected.clone());
            slots.extend(expected.first().and_then(|port| lab.server("default", *port).claim()));

            let mut ids: Vec<_> = lab.reconciler.servers.all().map(|known| known.live.id()).collect();
            let count = ids.len();
            ids.sort_unstable();
            ids.dedup();
            prop_assert_eq!(ids.len(), count, "an identifier means two servers");
        }
    }
}

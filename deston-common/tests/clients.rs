//! Where clients go when a server is removed.

#![expect(clippy::unwrap_used, reason = "a helper panics where a test would")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use deston_common::hash::{self, Seed};
use deston_common::server::ServerId;
use deston_common::table::{Member, Table};
use deston_common::{maglev, select};

const CLIENTS: u32 = 100_000;

fn table(seed: Seed, ids: impl Iterator<Item = u16>) -> Box<Table> {
    let members: Vec<Member> = ids
        .map(|id| {
            let address = ([192, 0, 2, id as u8], 80).into();
            Member { id: ServerId(id), identity: hash::server(seed, address), weight: 1 }
        })
        .collect();
    let mut table = Box::new(Table::EMPTY);
    maglev::fill(&mut table, &members, seed).unwrap();
    table
}

fn choice(table: &Table, client: u32) -> ServerId {
    let client = IpAddr::V4(Ipv4Addr::from(client.wrapping_mul(2_654_435_761)));
    select::choose(table, hash::client(table.seed, client), |_| true).unwrap()
}

#[test]
fn removing_one_of_ten_servers_moves_no_more_than_its_clients_and_two_percent() {
    for (seed, removed) in [("one", 1), ("two", 5), ("three", 10)] {
        let seed = Seed::from_text(seed);
        let before = table(seed, 1..=10);
        let after = table(seed, (1..=10).filter(|id| *id != removed));
        let moved = (0..CLIENTS)
            .filter(|client| choice(&before, *client) != choice(&after, *client))
            .count();
        let share = moved as f64 / f64::from(CLIENTS);
        assert!(share <= 0.12, "{share} of the clients moved");
    }
}

#[test]
fn clients_spread_evenly() {
    let table = table(Seed::from_text("spread"), 1..=10);
    let mut counts = BTreeMap::new();
    for client in 0..CLIENTS {
        *counts.entry(choice(&table, client)).or_insert(0_u32) += 1;
    }
    assert_eq!(counts.len(), 10);
    for (server, clients) in counts {
        assert!((9_400..=10_600).contains(&clients), "{server:?} has {clients} clients");
    }
}

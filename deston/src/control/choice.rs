//! Which server a pool gives a client when nothing has happened yet: for `deston route test`.

use std::net::SocketAddr;
use std::sync::Arc;

use deston_common::hash::Seed;
use deston_common::server::ServerId;

use super::tables;
use crate::live::{self, View, flow_key};
use crate::model::{Algorithm, HashOn, Pool, Protocol, Server};

/// What can be told of a choice before a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstChoice<'a> {
    /// No server takes requests.
    None,
    /// The first turn of all goes to this one.
    FirstTurn(&'a Server),
    /// The client's address hashes to this one.
    Hashed(&'a Server),
    /// Each connection of the client may hash to another one of so many.
    ByConnection(usize),
    /// A part of the request hashes to one of so many.
    ByRequest(usize),
    /// One of so many is drawn.
    Drawn(usize),
}

/// The server that `pool` gives a client of `listener`, all servers up and idle.
pub fn first_choice<'a>(
    pool: &'a Pool,
    hash_seed: &str,
    client: SocketAddr,
    listener: SocketAddr,
) -> FirstChoice<'a> {
    let takes = |backup: bool| {
        pool.servers.iter().filter(move |server| !server.drain && server.backup == backup)
    };
    let others = takes(false).next().is_some();
    let eligible: Vec<(ServerId, &Server)> = (1..).map(ServerId).zip(takes(!others)).collect();
    let count = eligible.len();
    if count == 0 {
        return FirstChoice::None;
    }
    let seed = Seed::from_text(hash_seed);
    let Ok(table) = tables::build(pool.algorithm, eligible.iter().copied(), seed) else {
        return FirstChoice::None;
    };
    let server = |(id, server): &(ServerId, &Server)| {
        let limit = server.max_connections.get();
        Arc::new(live::Server::new(*id, server.name.clone(), server.address, limit))
    };
    let servers = eligible.iter().map(server).collect();
    let view = View { treatment: pool.treatment, ..View::new(table, servers, pool.timeouts) };
    let live = live::Pool::new(pool.name.clone(), view);
    let view = live.view();
    let start = live.enter(&view, &flow_key(client, listener, Protocol::Tcp));
    let chosen = view.choose(start, |_| true).map(|server| server.id());
    let chosen = eligible.iter().find(|(id, _)| Some(*id) == chosen).map(|(_, server)| *server);
    match (pool.algorithm, chosen) {
        (_, None) => FirstChoice::None,
        (Algorithm::RoundRobin | Algorithm::WeightedRoundRobin, Some(server)) => {
            FirstChoice::FirstTurn(server)
        }
        (Algorithm::Maglev(_), Some(_)) if pool.hash_key.is_some() => FirstChoice::ByRequest(count),
        (Algorithm::IpHashing | Algorithm::Maglev(HashOn::Ip), Some(server)) => {
            FirstChoice::Hashed(server)
        }
        (Algorithm::Maglev(HashOn::Flow | HashOn::IpPort), Some(_)) => {
            FirstChoice::ByConnection(count)
        }
        (
            Algorithm::LeastConnections | Algorithm::P2c | Algorithm::PeakEwma | Algorithm::Random,
            Some(_),
        ) => FirstChoice::Drawn(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn choice(algorithm: &str, servers: &str, ask: impl FnOnce(FirstChoice<'_>)) {
        let text = format!("[load_balancer]\nlayer = \"L7\"\nalgorithm = {algorithm}\n{servers}");
        let model = config::parse("config.toml", &text).unwrap();
        let client = "198.51.100.7:0".parse().unwrap();
        ask(first_choice(&model.pools[0], "seed", client, model.listeners[0].address));
    }

    const TWO: &str =
        "[[server]]\nport = 1\ndrain = true\n[[server]]\nport = 2\n[[server]]\nport = 3";

    #[test]
    fn the_first_turn_is_the_first_servers_that_does_not_drain() {
        choice("\"round_robin\"", TWO, |choice| {
            let FirstChoice::FirstTurn(server) = choice else { panic!("{choice:?}") };
            assert_eq!(server.address.port(), 2);
        });
    }

    #[test]
    fn a_hash_of_the_clients_address_is_known_and_one_of_its_port_is_not() {
        choice("\"ip_hashing\"", TWO, |choice| {
            assert!(matches!(choice, FirstChoice::Hashed(_)), "{choice:?}");
        });
        choice("\"maglev\"\nhash_on = \"flow\"", TWO, |choice| {
            assert_eq!(choice, FirstChoice::ByConnection(2));
        });
    }

    #[test]
    fn a_hash_of_a_part_of_the_request_is_not_that_of_the_client() {
        choice("\"maglev\"\nhash_on = \"path\"", TWO, |choice| {
            assert_eq!(choice, FirstChoice::ByRequest(2));
        });
    }

    #[test]
    fn a_backup_is_chosen_only_if_nobody_else_is_there() {
        let servers = "[[server]]\nport = 1\nbackup = true\n[[server]]\nport = 2";
        choice("\"round_robin\"", servers, |choice| {
            let FirstChoice::FirstTurn(server) = choice else { panic!("{choice:?}") };
            assert_eq!(server.address.port(), 2);
        });
    }

    #[test]
    fn what_is_drawn_is_not_known() {
        for algorithm in ["\"random\"", "\"p2c\"", "\"peak_ewma\"", "\"least_connections\""] {
            choice(algorithm, TWO, |choice| assert_eq!(choice, FirstChoice::Drawn(2)));
        }
    }

    #[test]
    fn a_pool_that_drains_has_no_choice() {
        choice("\"round_robin\"", "[[server]]\ndrain = true", |choice| {
            assert_eq!(choice, FirstChoice::None);
        });
    }
}

//! Building a pool's table: which algorithm fills it, and which servers are in it.

use deston_common::hash::{self, Seed};
use deston_common::server::ServerId;
use deston_common::table::{Member, Table, TableError};
use deston_common::{maglev, sequence};

use crate::model::{Algorithm, Server};

/// The table of `servers`, in the order given.
pub(super) fn build<'a>(
    algorithm: Algorithm,
    servers: impl Iterator<Item = (ServerId, &'a Server)>,
    seed: Seed,
) -> Result<Box<Table>, TableError> {
    let members: Vec<Member> = servers
        .map(|(id, server)| Member {
            id,
            identity: hash::server(seed, server.address),
            weight: server.weight.get(),
        })
        .collect();
    let mut table = Box::new(Table::EMPTY);
    match algorithm {
        Algorithm::RoundRobin => sequence::fill(&mut table, &members)?,
        Algorithm::WeightedRoundRobin => sequence::fill_weighted(&mut table, &members)?,
        Algorithm::IpHashing => maglev::fill(&mut table, &members, seed)?,
    }
    Ok(table)
}

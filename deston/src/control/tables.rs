//! Building a pool's table: which algorithm fills it, and which servers are in it.

use deston_common::hash::{self, Seed};
use deston_common::server::ServerId;
use deston_common::table::{Member, Table, TableError};
use deston_common::{maglev, sequence};

use crate::model::{Algorithm, Server};

/// Why a pool has no table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoTable {
    /// Its servers make none.
    #[error("its servers make no table: {0:?}")]
    Servers(TableError),
    /// Its algorithm cannot be carried out.
    #[error("its algorithm is not available in this version")]
    NotYet(Algorithm),
}

impl From<TableError> for NoTable {
    fn from(error: TableError) -> Self {
        Self::Servers(error)
    }
}

/// The table of `servers`, in the order given.
pub(super) fn build<'a>(
    algorithm: Algorithm,
    servers: impl Iterator<Item = (ServerId, &'a Server)>,
    seed: Seed,
) -> Result<Box<Table>, NoTable> {
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
        Algorithm::Maglev(_) | Algorithm::LeastConnections | Algorithm::P2c | Algorithm::Random => {
            return Err(NoTable::NotYet(algorithm));
        }
    }
    Ok(table)
}

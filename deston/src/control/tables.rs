//! Building a pool's table: which algorithm fills it, and which servers are in it.

use deston_common::hash::{self, Seed};
use deston_common::limits::MAX_SAMPLES;
use deston_common::server::ServerId;
use deston_common::table::{Index, Member, Table, TableError};
use deston_common::{maglev, sequence};

use crate::model::{Algorithm, HashOn, Server};

/// Servers that `p2c` and `peak_ewma` compare.
const CHOICES: u32 = 2;

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
        Algorithm::Maglev(hash_on) => {
            let index = match hash_on {
                HashOn::Flow => Index::Flow,
                HashOn::Ip => Index::Client,
                HashOn::IpPort => Index::ClientPort,
            };
            maglev::fill_weighted(&mut table, &members, seed, index)?;
        }
        Algorithm::LeastConnections => {
            sequence::fill_least(&mut table, &members, MAX_SAMPLES)?;
        }
        Algorithm::P2c | Algorithm::PeakEwma => {
            sequence::fill_least(&mut table, &members, CHOICES)?
        }
        Algorithm::Random => sequence::fill_random(&mut table, &members)?,
    }
    Ok(table)
}

//! Maglev hashing: a table in which removing a server moves few clients of the others.
//!
//! Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016,
//! section 3.4.

use crate::hash::{Seed, siphash13};
use crate::limits::{MAGLEV_SLOTS, MAX_POOL_SERVERS};
use crate::server::ServerId;
use crate::table::{Index, Member, Table, TableError};

/// Fills `table` with the members, each an equal share, to be entered by the client's hash.
///
/// Members are ranked by `identity`, so their order does not matter.
pub fn fill(table: &mut Table, members: &[Member], seed: Seed) -> Result<(), TableError> {
    fill_by(table, members, seed, Index::Client, |_| 1)
}

/// Fills `table` with the members, each a share as its weight says, to be entered by `index`.
pub fn fill_weighted(
    table: &mut Table,
    members: &[Member],
    seed: Seed,
    index: Index,
) -> Result<(), TableError> {
    fill_by(table, members, seed, index, |member| member.weight)
}

fn fill_by(
    table: &mut Table,
    members: &[Member],
    seed: Seed,
    index: Index,
    weight_of: impl Fn(&Member) -> u16,
) -> Result<(), TableError> {
    if members.len() > MAX_POOL_SERVERS {
        return Err(TableError::TooManyServers);
    }
    let heaviest = members.iter().map(&weight_of).max().unwrap_or(1);
    if members.iter().any(|member| weight_of(member) == 0) {
        return Err(TableError::ZeroWeight);
    }
    *table = Table::EMPTY;
    table.index = index as u32;
    table.seed = seed;
    table.set_members(members);
    if members.is_empty() {
        return Ok(());
    }

    let mut walks =
        [Walk { next: 0, stride: 0, id: ServerId(0), weight: 0, credit: 0 }; MAX_POOL_SERVERS];
    let walks = walks.get_mut(..members.len()).unwrap_or_default();
    // Selection by rank keeps this free of allocation; it runs once for each table.
    for (rank, walk) in walks.iter_mut().enumerate() {
        if let Some(member) = member_of_rank(members, rank) {
            let identity = member.identity;
            walk.next = (siphash13(seed, identity, 1) % u64::from(MAGLEV_SLOTS)) as u32;
            walk.stride = (siphash13(seed, identity, 2) % u64::from(MAGLEV_SLOTS - 1)) as u32 + 1;
            walk.id = member.id;
            walk.weight = u32::from(weight_of(member));
        }
    }

    let mut left = MAGLEV_SLOTS;
    while left > 0 {
        for walk in walks.iter_mut() {
            // The heaviest claims a slot each round, a lighter one as often as its weight says.
            walk.credit += walk.weight;
            if walk.credit < u32::from(heaviest) {
                continue;
            }
            walk.credit -= u32::from(heaviest);
            if walk.claim(table) {
                left -= 1;
            }
            if left == 0 {
                break;
            }
        }
    }
    table.len = MAGLEV_SLOTS;
    Ok(())
}

/// A member's permutation of the slots.
#[derive(Clone, Copy)]
struct Walk {
    next: u32,
    stride: u32,
    id: ServerId,
    weight: u32,
    credit: u32,
}

impl Walk {
    /// Takes the next free slot of the permutation.
    fn claim(&mut self, table: &mut Table) -> bool {
        for _ in 0..MAGLEV_SLOTS {
            let slot = self.next as usize;
            self.next = (self.next + self.stride) % MAGLEV_SLOTS;
            if let Some(free) = table.slots.get_mut(slot).filter(|slot| slot.0 == 0) {
                *free = self.id;
                return true;
            }
        }
        false
    }
}

fn member_of_rank(members: &[Member], rank: usize) -> Option<&Member> {
    members.iter().enumerate().find_map(|(place, member)| {
        let below = members
            .iter()
            .enumerate()
            .filter(|(other, m)| (m.identity, *other) < (member.identity, place))
            .count();
        (below == rank).then_some(member)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::boxed::Box;
    use std::vec::Vec;

    fn members(ids: impl IntoIterator<Item = u16>) -> Vec<Member> {
        ids.into_iter()
            .map(|id| Member {
                id: ServerId(id),
                identity: siphash13(Seed::default(), id.into(), 0),
                weight: 1,
            })
            .collect()
    }

    fn table(members: &[Member]) -> Box<Table> {
        let mut table = Box::new(Table::EMPTY);
        fill(&mut table, members, Seed::from_text("test")).unwrap();
        table
    }

    fn slots(table: &Table) -> &[ServerId] {
        &table.slots[..table.len as usize]
    }

    #[test]
    fn every_server_gets_an_equal_share() {
        let table = table(&members(1..=10));
        for id in 1..=10 {
            let share = slots(&table).iter().filter(|slot| slot.0 == id).count();
            assert!((1_635..=1_642).contains(&share), "server {id} has {share} slots");
        }
    }

    #[test]
    fn removing_one_of_ten_moves_few_slots_of_the_others() {
        let before = table(&members(1..=10));
        let after = table(&members((1..=10).filter(|&id| id != 4)));
        let moved =
            slots(&before).iter().zip(slots(&after)).filter(|(old, new)| old != new).count();
        assert!(moved as f64 / 16_381.0 <= 0.12, "{moved} of 16381 slots moved");
    }

    #[test]
    fn the_order_of_servers_does_not_matter() {
        let forward = table(&members(1..=7));
        let backward = table(&members((1..=7).rev()));
        assert!(slots(&forward) == slots(&backward));
    }
}

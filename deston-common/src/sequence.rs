//! Round robin, plain and weighted: a sequence of servers that a cursor walks.

use crate::hash::Seed;
use crate::limits::{MAGLEV_SLOTS, MAX_POOL_SERVERS, MAX_SAMPLES};
use crate::table::{Index, Member, Table, TableError};

/// Fills `table` with each member once, in order.
pub fn fill(table: &mut Table, members: &[Member]) -> Result<(), TableError> {
    fill_by(table, members, |_| 1)
}

/// Fills `table` with the smooth weighted sequence: over one cycle each member stands as often as
/// its weight (divided by the common divisor) says, spread as evenly as can be.
///
/// The method is nginx's: each step every member gains its weight, the richest is chosen and pays
/// the total. Ties go to the first, so every node builds the same sequence.
pub fn fill_weighted(table: &mut Table, members: &[Member]) -> Result<(), TableError> {
    fill_by(table, members, |member| member.weight)
}

/// Fills `table` with the weighted sequence, to be entered at a random slot.
pub fn fill_random(table: &mut Table, members: &[Member]) -> Result<(), TableError> {
    fill_weighted(table, members)?;
    table.index = Index::Random as u32;
    Ok(())
}

/// Fills `table` so that the loads of `samples` members, chosen at random, are compared.
pub fn fill_least(table: &mut Table, members: &[Member], samples: u32) -> Result<(), TableError> {
    fill(table, members)?;
    table.index = Index::Least as u32;
    table.samples = samples.min(MAX_SAMPLES);
    Ok(())
}

fn fill_by(
    table: &mut Table,
    members: &[Member],
    weight_of: impl Fn(&Member) -> u16,
) -> Result<(), TableError> {
    if members.len() > MAX_POOL_SERVERS {
        return Err(TableError::TooManyServers);
    }
    let divisor = members.iter().fold(0, |divisor, member| gcd(divisor, weight_of(member)));
    let share = |member: &Member| weight_of(member).checked_div(divisor).unwrap_or(0);
    if members.iter().any(|member| share(member) == 0) {
        return Err(TableError::ZeroWeight);
    }
    let cycle: u32 = members.iter().map(|member| u32::from(share(member))).sum();
    if cycle > MAGLEV_SLOTS {
        return Err(TableError::CycleTooLong);
    }

    *table = Table::EMPTY;
    table.index = Index::Cursor as u32;
    table.seed = Seed::default();
    table.set_members(members);

    let mut credits = [0_i32; MAX_POOL_SERVERS];
    for slot in table.slots.iter_mut().take(cycle as usize) {
        let mut richest: Option<(usize, i32)> = None;
        for (place, (credit, member)) in credits.iter_mut().zip(members).enumerate() {
            *credit += i32::from(share(member));
            if richest.is_none_or(|(_, most)| *credit > most) {
                richest = Some((place, *credit));
            }
        }
        let Some((place, _)) = richest else { continue };
        if let (Some(credit), Some(member)) = (credits.get_mut(place), members.get(place)) {
            *credit -= cycle as i32;
            *slot = member.id;
        }
    }
    table.len = cycle;
    Ok(())
}

fn gcd(a: u16, b: u16) -> u16 {
    match a.checked_rem(b) {
        None => a,
        Some(rest) => gcd(b, rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::ServerId;
    extern crate std;
    use std::boxed::Box;
    use std::vec::Vec;

    fn members(weights: &[u16]) -> Vec<Member> {
        weights
            .iter()
            .zip(1..)
            .map(|(&weight, id)| Member { id: ServerId(id), identity: id.into(), weight })
            .collect()
    }

    fn sequence(weights: &[u16]) -> Vec<u16> {
        let mut table = Box::new(Table::EMPTY);
        fill_weighted(&mut table, &members(weights)).unwrap();
        table.slots.iter().take(table.len as usize).map(|id| id.0).collect()
    }

    #[test]
    fn round_robin_names_each_server_once() {
        let mut table = Box::new(Table::EMPTY);
        fill(&mut table, &members(&[9, 1, 4])).unwrap();
        assert_eq!(table.len, 3);
        assert_eq!(&table.slots[..3], &[ServerId(1), ServerId(2), ServerId(3)]);
    }

    #[test]
    fn weighted_sequence_is_smooth() {
        assert_eq!(sequence(&[5, 1, 1]), [1, 1, 2, 1, 3, 1, 1]);
    }

    #[test]
    fn weights_are_exact_over_one_cycle_and_reduced_by_their_divisor() {
        let sequence = sequence(&[300, 100, 200]);
        assert_eq!(sequence.len(), 6);
        let count = |id| sequence.iter().filter(|&&slot| slot == id).count();
        assert_eq!((count(1), count(2), count(3)), (3, 1, 2));
    }

    #[test]
    fn a_cycle_longer_than_the_table_is_refused() {
        let mut table = Box::new(Table::EMPTY);
        assert_eq!(
            fill_weighted(&mut table, &members(&[16_381, 1])),
            Err(TableError::CycleTooLong)
        );
    }

    #[test]
    fn no_servers_give_an_empty_table() {
        let mut table = Box::new(Table::EMPTY);
        fill_weighted(&mut table, &[]).unwrap();
        assert_eq!(table.len, 0);
    }
}

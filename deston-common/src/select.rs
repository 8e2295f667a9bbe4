//! Choosing a server from a table: the one implementation, run by kernel and process.

use crate::limits::{MAX_POOL_SERVERS, MAX_SAMPLES, TABLE_PROBES, TABLE_ROOM};
use crate::server::ServerId;
use crate::table::Table;

/// Walks a table from `start` and returns the first server that `take` accepts.
///
/// `start` is the cursor or the client's hash. The first few slots are tried in table order, so
/// that a full server's clients spread as the algorithm would spread them; then every member once,
/// so that a flow is refused only when all servers refuse it. `take` may see a server twice.
#[inline(always)]
pub fn choose(
    table: &Table,
    start: u64,
    mut take: impl FnMut(ServerId) -> bool,
) -> Option<ServerId> {
    let first = first_slot(table, start)?;
    for step in 0..steps(table) {
        let id = candidate(table, first, step)?;
        if take(id) {
            return Some(id);
        }
    }
    None
}

/// The slot where `start` enters the table; `None` if it has none.
#[inline(always)]
pub fn first_slot(table: &Table, start: u64) -> Option<u32> {
    start.checked_rem(u64::from(table.len)).map(|first| first as u32)
}

/// Steps of a whole walk.
#[inline(always)]
pub fn steps(table: &Table) -> u32 {
    TABLE_PROBES + table.member_count.min(MAX_POOL_SERVERS as u32)
}

/// The server met at a step of the walk from slot `first`.
#[inline(always)]
pub fn candidate(table: &Table, first: u32, step: u32) -> Option<ServerId> {
    if step < TABLE_PROBES {
        let slot = first.wrapping_add(step).checked_rem(table.len)?;
        return table.slots.get(slot as usize & (TABLE_ROOM - 1)).copied();
    }
    member(table, first.wrapping_add(step - TABLE_PROBES))
}

/// The member at a position, counted round and round.
#[inline(always)]
pub fn member(table: &Table, position: u32) -> Option<ServerId> {
    let place = position.checked_rem(table.member_count)?;
    table.members.get(place as usize & (MAX_POOL_SERVERS - 1)).copied()
}

/// The least loaded, for its weight, of `table.samples` members that `random` chooses; all are
/// different. `load` gives open flows and weight of a server that can take another flow.
#[inline(always)]
pub fn least(
    table: &Table,
    random: u64,
    mut load: impl FnMut(ServerId) -> Option<(u64, u16)>,
) -> Option<ServerId> {
    let count = table.member_count;
    let first = (random as u32).checked_rem(count)?;
    // The last sample is less than one turn from the first.
    let most = (count - 1).checked_div(table.samples.saturating_sub(1)).unwrap_or(0);
    let stride = 1 + ((random >> 32) as u32).checked_rem(most).unwrap_or(0);
    // Not an `Option` of all three: the verifier refuses what is only sometimes written.
    let (mut best, mut least, mut heavy) = (0, 0, 1);
    for sample in 0..MAX_SAMPLES {
        if sample >= table.samples || sample >= count {
            break;
        }
        let id = member(table, first.wrapping_add(sample.wrapping_mul(stride)))?;
        let Some((flows, weight)) = load(id) else { continue };
        let weight = u64::from(weight);
        // flows / weight < least / heavy, without a division.
        if best == 0 || flows.wrapping_mul(heavy) < weight.wrapping_mul(least) {
            (best, least, heavy) = (id.0, flows, weight);
        }
    }
    (best != 0).then_some(ServerId(best))
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::boxed::Box;
    use std::collections::HashSet;

    use super::*;
    use crate::sequence;
    use crate::table::Member;

    fn table(servers: u16, samples: u32) -> Box<Table> {
        let mut members = [Member { id: ServerId(0), identity: 0, weight: 1 }; 256];
        for (place, member) in members.iter_mut().enumerate() {
            member.id = ServerId(place as u16 + 1);
        }
        let mut table = Box::new(Table::EMPTY);
        sequence::fill_least(&mut table, &members[..servers.into()], samples).unwrap();
        table
    }

    #[test]
    fn of_four_servers_or_fewer_the_least_loaded_is_always_found() {
        for servers in 1..=4 {
            let table = table(servers, 4);
            for random in 0..1_000_u64 {
                let random = random.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let chosen = least(&table, random, |id| Some((10 - u64::from(id.0), 1)));
                assert_eq!(chosen, Some(ServerId(servers)));
            }
        }
    }

    #[test]
    fn samples_are_all_different_and_reach_every_server() {
        let table = table(9, 4);
        let mut reached = HashSet::new();
        for random in 0..1_000_u64 {
            let mut seen = HashSet::new();
            least(&table, random.wrapping_mul(0x9e37_79b9_7f4a_7c15), |id| {
                assert!(seen.insert(id.0));
                Some((0, 1))
            });
            assert_eq!(seen.len(), 4);
            reached.extend(seen);
        }
        assert_eq!(reached.len(), 9);
    }

    #[test]
    fn a_heavier_server_may_have_more_flows() {
        let table = table(2, 2);
        let load = |id: ServerId| Some(if id.0 == 1 { (2, 1) } else { (5, 3) });
        assert_eq!(least(&table, 7, load), Some(ServerId(2)));
    }
}

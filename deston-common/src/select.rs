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
    let len = u64::from(table.len);
    let first = start.checked_rem(len)? as u32;
    for step in 0..TABLE_PROBES {
        let slot = wrap(first + step, table.len);
        let id = *table.slots.get(slot as usize & (TABLE_ROOM - 1))?;
        if take(id) {
            return Some(id);
        }
    }
    choose_any(table, first, take)
}

/// The scan of all members: apart, so that the kernel can place it in a subprogram.
#[inline(always)]
pub fn choose_any(
    table: &Table,
    first: u32,
    mut take: impl FnMut(ServerId) -> bool,
) -> Option<ServerId> {
    let offset = first.checked_rem(table.member_count)?;
    for step in 0..MAX_POOL_SERVERS as u32 {
        if step >= table.member_count {
            break;
        }
        let member = wrap(offset + step, table.member_count);
        let id = *table.members.get(member as usize & (MAX_POOL_SERVERS - 1))?;
        if take(id) {
            return Some(id);
        }
    }
    None
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
    let mut best: Option<(ServerId, u64, u16)> = None;
    for sample in 0..MAX_SAMPLES {
        if sample >= table.samples || sample >= count {
            break;
        }
        let place = wrap(first + sample * stride, count);
        let id = *table.members.get(place as usize & (MAX_POOL_SERVERS - 1))?;
        let Some((flows, weight)) = load(id) else { continue };
        // flows / weight < best flows / best weight, without a division.
        if best.is_none_or(|(_, least, heavy)| {
            flows.wrapping_mul(heavy.into()) < least.wrapping_mul(weight.into())
        }) {
            best = Some((id, flows, weight));
        }
    }
    best.map(|(id, _, _)| id)
}

/// `position` modulo `len`, for tables as short as one slot.
#[inline(always)]
fn wrap(position: u32, len: u32) -> u32 {
    position.checked_rem(len).unwrap_or(0)
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

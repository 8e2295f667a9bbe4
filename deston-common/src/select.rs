//! Choosing a server from a table: the one implementation, run by kernel and process.

use crate::limits::{MAX_POOL_SERVERS, TABLE_PROBES, TABLE_ROOM};
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

/// `position` modulo `len`, for tables as short as one slot.
#[inline(always)]
fn wrap(position: u32, len: u32) -> u32 {
    position.checked_rem(len).unwrap_or(0)
}

//! Choosing a server for a new flow, and the counts of each server's flows.

use aya_ebpf::bindings::BPF_ANY;
use deston_common::hash;
use deston_common::listener::ListenerEntry;
use deston_common::net::Address;
use deston_common::outcome::Outcome;
use deston_common::select;
use deston_common::server::{Load, ServerEntry, ServerId};
use deston_common::sticky::{StickyEntry, StickyKey};
use deston_common::table::{Index, Table};

use crate::context::Context;
use crate::family::Family;
use crate::repeat::{ONWARD, STOP, repeat};
use crate::{atomic, globals, maps};

/// Chooses a server that is not `but`; the client's own, if it has one.
#[inline(always)]
pub(crate) fn server<F: Family>(
    cx: &Context<F::Address>,
    listener: &ListenerEntry,
    but: ServerId,
) -> Result<ServerId, Outcome> {
    if listener.sticky_ns == 0 {
        return found(from_table::<F>(cx, listener, but));
    }
    let key = StickyKey { client: cx.key.source, pool: listener.pool };
    // SAFETY: copied at once; a recycled element names some server, which is a choice too.
    let bound = unsafe { F::stickies().get(&key).copied() };
    let chosen = match bound {
        Some(bound)
            if cx.now.saturating_sub(bound.last_used_ns) <= listener.sticky_ns
                && bound.server.0 != but.0
                && eligible(u32::from(bound.server.0)) == TAKEN =>
        {
            bound.server
        }
        _ => found(from_table::<F>(cx, listener, but))?,
    };
    let entry = StickyEntry { last_used_ns: cx.now, server: chosen, pad: 0, pad2: 0 };
    let _ = F::stickies().insert(&key, &entry, u64::from(BPF_ANY));
    Ok(chosen)
}

/// What a subprogram's number says.
#[inline(always)]
fn found(said: u32) -> Result<ServerId, Outcome> {
    match said {
        FULL => Err(Outcome::ServersFull),
        NONE => Err(Outcome::NoServer),
        id => Ok(ServerId(id as u16)),
    }
}

#[inline(never)]
fn from_table<F: Family>(cx: &Context<F::Address>, listener: &ListenerEntry, but: ServerId) -> u32 {
    let Some(table) = maps::table(listener.pool) else { return NONE };
    let Some(start) = enter(table, listener.pool, cx, but) else { return NONE };
    choose(table, start, u32::from(but.0))
}

/// The server takes new flows and is below its limit.
const TAKEN: u32 = 0;
/// No server of the table is eligible.
const NONE: u32 = 1 << 16;
/// Servers are eligible, and all are full.
const FULL: u32 = 2 << 16;

/// The server of the table that the algorithm gives, or the next that can take a flow.
#[inline(never)]
fn choose(table: &'static Table, start: u64, but: u32) -> u32 {
    if table.index == Index::Least as u32 {
        let least = select::least(table, start, |id| load(u32::from(id.0), but));
        if let Some(id) = least {
            return u32::from(id.0);
        }
    }
    let Some(first) = select::first_slot(table, start) else { return NONE };
    let mut walk = Walk { table, first, but, said: NONE };
    repeat(select::steps(table), walk_on, &mut walk);
    walk.said
}

/// A walk through a table.
struct Walk {
    table: &'static Table,
    first: u32,
    but: u32,
    /// The server that was found, or why there is none.
    said: u32,
}

extern "C" fn walk_on(step: u32, walk: *mut Walk) -> i64 {
    // SAFETY: `repeat` hands on what `choose` gave it.
    let walk = unsafe { &mut *walk };
    let Some(id) = select::candidate(walk.table, walk.first, step) else { return STOP };
    let id = u32::from(id.0);
    if id == walk.but {
        return ONWARD;
    }
    match eligible(id) {
        TAKEN => {
            walk.said = id;
            STOP
        }
        FULL => {
            walk.said = FULL;
            ONWARD
        }
        _ => ONWARD,
    }
}

/// Open flows and weight of a server that can take another flow.
#[inline(always)]
fn load(id: u32, but: u32) -> Option<(u64, u16)> {
    if id == but || eligible(id) != TAKEN {
        return None;
    }
    let (server, load) = (maps::SERVERS.get(id)?, maps::LOADS.get_ptr(id)?);
    // SAFETY: points into a live map value; others write it at the same time.
    let in_use = unsafe { core::ptr::read_volatile(&raw const (*load).in_use) };
    Some((in_use, server.weight))
}

/// Whether a server takes new flows and is below its limit. The limit is made sure of at promotion,
/// see `claim_slot`: flows that are half open may be nobody's.
#[inline(never)]
fn eligible(id: u32) -> u32 {
    let Some(server) = maps::SERVERS.get(id) else { return NONE };
    if !server.takes_new_flows() {
        return NONE;
    }
    let Some(load) = maps::LOADS.get_ptr(id) else { return NONE };
    // SAFETY: points into a live map value; others write it at the same time.
    let in_use = unsafe { core::ptr::read_volatile(&raw const (*load).in_use) };
    if in_use >= u64::from(server.max_connections) { FULL } else { TAKEN }
}

/// Where a new flow enters the table; the cursor moves on, but not for a flow that only leaves a
/// server: its turn has been counted.
#[inline(always)]
fn enter<A: Address>(table: &Table, pool: u32, cx: &Context<A>, but: ServerId) -> Option<u64> {
    let key = &cx.key;
    let index = table.index;
    if index == Index::Cursor as u32 {
        let cursor = maps::CURSORS.get_ptr_mut(pool)?;
        // SAFETY: points into a live map value.
        return Some(unsafe { atomic::fetch_add(cursor, u64::from(but.0 == 0)) });
    }
    Some(if index == Index::Client as u32 {
        key.source.hash(table.seed)
    } else if index == Index::ClientPort as u32 {
        hash::client_port(table.seed, key.source, key.source_port)
    } else if index == Index::Flow as u32 {
        hash::flow(table.seed, key)
    } else {
        globals::random(key)
    })
}

/// Whether the pool has a server for new flows other than `but`.
#[inline(always)]
pub(crate) fn has_another(pool: u32, but: ServerId) -> bool {
    let Some(table) = maps::table(pool) else { return false };
    another(table, u32::from(but.0))
}

#[inline(never)]
fn another(table: &'static Table, but: u32) -> bool {
    let mut walk = Walk { table, first: 0, but, said: NONE };
    repeat(select::steps(table), walk_on, &mut walk);
    walk.said < NONE
}

/// How packets reach a server.
#[inline(always)]
pub(crate) fn entry(id: ServerId) -> Option<&'static ServerEntry> {
    maps::SERVERS.get(u32::from(id.0))
}

/// A server's counts.
#[inline(always)]
fn counts(id: ServerId) -> Option<*mut Load> {
    maps::LOADS.get_ptr_mut(u32::from(id.0))
}

/// Takes one of a server's slots, if one is free. Everyone adds first and looks at what was there
/// before: those that found the limit reached take theirs back, so the count is never below the
/// slots that are held, and the limit is never passed, whatever races.
#[inline(always)]
pub(crate) fn claim_slot(id: ServerId) -> bool {
    let (Some(server), Some(load)) = (entry(id), counts(id)) else { return false };
    // SAFETY: points into a live map value.
    let before = unsafe { atomic::fetch_add(&raw mut (*load).in_use, 1) };
    if before >= u64::from(server.max_connections) {
        release_slot(id);
        return false;
    }
    true
}

/// Gives a server's slot back.
#[inline(always)]
pub(crate) fn release_slot(id: ServerId) {
    if let Some(load) = counts(id) {
        // SAFETY: points into a live map value; the same below.
        unsafe { atomic::fetch_sub(&raw mut (*load).in_use, 1) };
    }
}

/// Counts a flow that was given to a server.
#[inline(always)]
pub(crate) fn note_opened(id: ServerId) {
    if let Some(load) = counts(id) {
        // SAFETY: as above.
        unsafe { atomic::fetch_add(&raw mut (*load).opened, 1) };
    }
}

/// Counts a promoted flow entry.
#[inline(always)]
pub(crate) fn note_entry(id: ServerId) {
    if let Some(load) = counts(id) {
        // SAFETY: as above.
        unsafe { atomic::fetch_add(&raw mut (*load).entries, 1) };
    }
}

/// Takes a removed flow entry off the count.
#[inline(always)]
pub(crate) fn forget_entry(id: ServerId) {
    if let Some(load) = counts(id) {
        // SAFETY: as above.
        unsafe { atomic::fetch_sub(&raw mut (*load).entries, 1) };
    }
}

/// Counts a SYN that the server left unanswered.
#[inline(always)]
pub(crate) fn note_unanswered(id: ServerId) {
    if let Some(load) = counts(id) {
        // SAFETY: as above.
        unsafe { atomic::fetch_add(&raw mut (*load).unanswered, 1) };
    }
}

/// Counts a SYN that was refused.
#[inline(always)]
pub(crate) fn note_refused(id: ServerId) {
    if let Some(load) = counts(id) {
        // SAFETY: as above.
        unsafe { atomic::fetch_add(&raw mut (*load).refused, 1) };
    }
}

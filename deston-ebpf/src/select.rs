//! Choosing a server for a new flow, and the count of each server's flows.

use deston_common::flow::FlowKey;
use deston_common::hash;
use deston_common::listener::ListenerEntry;
use deston_common::outcome::Outcome;
use deston_common::select;
use deston_common::server::ServerId;
use deston_common::table::{Index, Table};

use crate::{atomic, maps};

/// Chooses a server and claims one of its slots.
#[inline(always)]
pub(crate) fn server(listener: &ListenerEntry, key: &FlowKey) -> Result<ServerId, Outcome> {
    let Some(table) = maps::table(listener.pool) else {
        return Err(Outcome::NoServer);
    };
    let Some(start) = enter(table, listener.pool, key) else { return Err(Outcome::NoServer) };
    // A subprogram returns numbers only.
    match choose(table, start) {
        FULL => Err(Outcome::ServersFull),
        NONE => Err(Outcome::NoServer),
        id => Ok(ServerId(id as u16)),
    }
}

/// A slot was claimed.
const TAKEN: u32 = 0;
/// No server of the table is eligible.
const NONE: u32 = 1 << 16;
/// Servers are eligible, and all are full.
const FULL: u32 = 2 << 16;

/// The first server of the table that is eligible and has a slot left, which is then claimed.
///
/// A subprogram of its own: inlined, the verifier would walk the rest of the pipeline once for
/// every step of the search.
#[inline(never)]
fn choose(table: &Table, start: u64) -> u32 {
    let mut none = NONE;
    let chosen = select::choose(table, start, |id| {
        let claimed = claim(u32::from(id.0));
        if claimed == FULL {
            none = FULL;
        }
        claimed == TAKEN
    });
    match chosen {
        Some(id) => u32::from(id.0),
        None => none,
    }
}

/// Counts the entry of a flow that has a server's slot.
#[inline(always)]
pub(crate) fn record(id: ServerId) {
    if let Some(load) = maps::LOADS.get_ptr_mut(u32::from(id.0)) {
        // SAFETY: points into a live map value.
        unsafe {
            atomic::fetch_add(&raw mut (*load).entries, 1);
            atomic::fetch_add(&raw mut (*load).opened, 1);
        }
    }
}

/// Gives a server's slot back.
#[inline(always)]
pub(crate) fn release(id: ServerId) {
    if let Some(load) = maps::LOADS.get_ptr_mut(u32::from(id.0)) {
        // SAFETY: points into a live map value.
        unsafe { atomic::fetch_sub(&raw mut (*load).in_use, 1) };
    }
}

/// Takes a removed flow entry off its server's count.
#[inline(always)]
pub(crate) fn forget(id: ServerId) {
    if let Some(load) = maps::LOADS.get_ptr_mut(u32::from(id.0)) {
        // SAFETY: points into a live map value.
        unsafe { atomic::fetch_sub(&raw mut (*load).entries, 1) };
    }
}

/// Where a new flow enters the table; the cursor moves on.
#[inline(always)]
fn enter(table: &Table, pool: u32, key: &FlowKey) -> Option<u64> {
    if table.index == Index::Client as u32 {
        return Some(hash::client_v4(table.seed, key.source.octets()));
    }
    let cursor = maps::CURSORS.get_ptr_mut(pool)?;
    // SAFETY: points into a live map value.
    Some(unsafe { atomic::fetch_add(cursor, 1) })
}

/// Takes one of a server's slots, if one is free. Everyone adds first and looks at what was there
/// before: those that found the limit reached take theirs back, so the count is never below the
/// slots that are held, and the limit is never passed, whatever races.
#[inline(never)]
fn claim(id: u32) -> u32 {
    let Some(server) = maps::SERVERS.get(id) else { return NONE };
    if !server.takes_new_flows() {
        return NONE;
    }
    let Some(load) = maps::LOADS.get_ptr_mut(id) else { return NONE };
    let limit = u64::from(server.max_connections);
    // SAFETY: points into a live map value; so below.
    let in_use = unsafe { core::ptr::read_volatile(&raw const (*load).in_use) };
    // Spares the other processors two writes each time while the server is full.
    if in_use >= limit {
        return FULL;
    }
    // SAFETY: as above.
    let before = unsafe { atomic::fetch_add(&raw mut (*load).in_use, 1) };
    if before >= limit {
        release(ServerId(id as u16));
        return FULL;
    }
    TAKEN
}

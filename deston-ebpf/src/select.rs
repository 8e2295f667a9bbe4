//! Choosing a server for a new flow, and the count of each server's flows.

use deston_common::flow::FlowKey;
use deston_common::hash;
use deston_common::listener::ListenerEntry;
use deston_common::outcome::Outcome;
use deston_common::select;
use deston_common::server::ServerId;
use deston_common::table::{Index, Table};

use crate::{atomic, maps};

/// Chooses a server and claims a place among its `max_connections`.
#[inline(always)]
pub(crate) fn server(listener: &ListenerEntry, key: &FlowKey) -> Result<ServerId, Outcome> {
    let Some(table) = maps::POOL_TABLES.get_value(listener.pool, &0) else {
        return Err(Outcome::NoServer);
    };
    let Some(start) = enter(table, listener.pool, key) else { return Err(Outcome::NoServer) };
    let mut full = false;
    let chosen = select::choose(table, start, |id| match claim(id) {
        Claim::Taken => true,
        Claim::Full => {
            full = true;
            false
        }
        Claim::NotEligible => false,
    });
    match chosen {
        Some(id) => Ok(id),
        None if full => Err(Outcome::ServersFull),
        None => Err(Outcome::NoServer),
    }
}

/// Gives a claimed place back.
#[inline(always)]
pub(crate) fn release(id: ServerId) {
    if let Some(load) = maps::LOADS.get_ptr_mut(u32::from(id.0)) {
        // SAFETY: points into a live map value.
        unsafe { atomic::fetch_add(&raw mut (*load).closed, 1) };
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

enum Claim {
    Taken,
    Full,
    NotEligible,
}

/// Takes one of a server's places. Each claim draws a ticket that no other has, and gives it back
/// if the server is full, so that the limit is never passed, whatever races.
#[inline(always)]
fn claim(id: ServerId) -> Claim {
    let Some(server) = maps::SERVERS.get(u32::from(id.0)) else { return Claim::NotEligible };
    if !server.takes_new_flows() {
        return Claim::NotEligible;
    }
    let Some(load) = maps::LOADS.get_ptr_mut(u32::from(id.0)) else { return Claim::NotEligible };
    let limit = u64::from(server.max_connections);
    // SAFETY: points into a live map value; so below.
    let (opened, closed) = unsafe {
        (
            core::ptr::read_volatile(&raw const (*load).opened),
            core::ptr::read_volatile(&raw const (*load).closed),
        )
    };
    if opened.saturating_sub(closed) >= limit {
        return Claim::Full;
    }
    // SAFETY: as above.
    let ticket = unsafe { atomic::fetch_add(&raw mut (*load).opened, 1) };
    // SAFETY: as above.
    let closed = unsafe { core::ptr::read_volatile(&raw const (*load).closed) };
    if ticket.saturating_sub(closed) >= limit {
        release(id);
        return Claim::Full;
    }
    Claim::Taken
}

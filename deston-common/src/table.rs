//! Selection tables: every algorithm is an index into one.

use core::mem::size_of;

use crate::hash::Seed;
use crate::limits::{MAX_POOL_SERVERS, TABLE_ROOM};
use crate::plain_bytes;
use crate::server::ServerId;

/// What gives the index into a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Index {
    /// The pool's cursor, advanced by one for each new flow or request.
    Cursor = 1,
    /// The keyed hash of the client's address.
    Client = 2,
    /// The keyed hash of the client's address and port.
    ClientPort = 3,
    /// The keyed hash of the flow's 5-tuple.
    Flow = 4,
    /// A random number.
    Random = 5,
    /// No slot: of some members, chosen at random, the one with the least load for its weight.
    Least = 6,
}

impl Index {
    /// Whether one client's flows, or at least the packets of one flow, always enter at the same
    /// slot, so that a server can be found again without a flow entry.
    pub const fn is_hash(index: u32) -> bool {
        index == Self::Client as u32
            || index == Self::ClientPort as u32
            || index == Self::Flow as u32
    }
}

/// A pool's lookup table, replaced whole and never changed in place.
///
/// A value of the kernel's map-of-maps POOL_TABLES, and the same bytes in the process.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Table {
    /// An `Index`.
    pub index: u32,
    /// Slots in use; 0 when no server is eligible. The whole sequence for a cursor, so that a
    /// cycle is exact; a prime for a hash.
    pub len: u32,
    /// Key of the client hash.
    pub seed: Seed,
    /// Servers in use in `members`.
    pub member_count: u32,
    /// `Index::Least`: members whose loads are compared, at most `MAX_SAMPLES`.
    pub samples: u32,
    /// Every server of the table once, for the scan when the slots tried first are full.
    pub members: [ServerId; MAX_POOL_SERVERS],
    /// A server for each slot.
    pub slots: [ServerId; TABLE_ROOM],
}
plain_bytes!(Table, 33_312);

/// A table as the kernel's map holds it. Up to Linux 6.1 an inner map that is described as a struct
/// cannot be replaced by one that is not described at all (`bpf_map_meta_equal` compares
/// `timer_off`), and the process creates maps without a description; an array is the same to both.
pub type TableWords = [u64; size_of::<Table>() / 8];

impl Table {
    /// A table without servers.
    pub const EMPTY: Self = Self {
        index: Index::Cursor as u32,
        len: 0,
        seed: Seed { k0: 0, k1: 0 },
        member_count: 0,
        samples: 0,
        members: [ServerId(0); MAX_POOL_SERVERS],
        slots: [ServerId(0); TABLE_ROOM],
    };

    /// Lists the members for the scan.
    pub(crate) fn set_members(&mut self, members: &[Member]) {
        for (place, member) in self.members.iter_mut().zip(members) {
            *place = member.id;
        }
        self.member_count = members.len().min(MAX_POOL_SERVERS) as u32;
    }
}

/// A server as the table builders see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// What the slots will hold.
    pub id: ServerId,
    /// Hash of the server's address and port under the seed: the same on every node.
    pub identity: u64,
    /// Share of traffic, at least 1; read by the weighted sequence alone.
    pub weight: u16,
}

/// Why a table could not be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableError {
    /// More than `MAX_POOL_SERVERS` members.
    TooManyServers,
    /// The weights, divided by their common divisor, add up to more than `MAGLEV_SLOTS`.
    CycleTooLong,
    /// A weight of 0.
    ZeroWeight,
}

//! Every capacity and default, each with its reason.

/// Slots of a Maglev table: a prime, so that every stride visits every slot (Maglev, section 3.4).
/// With 160 servers a removal moves about 1 % more clients than it must.
pub const MAGLEV_SLOTS: u32 = 16_381;

/// Room for slots in a table; a power of two, so that a masked index needs no bounds check.
pub const TABLE_ROOM: usize = 16_384;

/// Servers in one pool. Bounds the kernel's scan of a pool whose servers are nearly all full.
pub const MAX_POOL_SERVERS: usize = 256;

/// Server identifiers, 0 unset: 32 bytes of kernel memory each.
pub const MAX_SERVERS: u32 = 4_096;

/// Pools.
pub const MAX_POOLS: u32 = 1_024;

/// Listeners in the kernel.
pub const MAX_LISTENERS: u32 = 4_096;

/// Flows in the kernel by default (`[kernel] flows`).
pub const DEFAULT_FLOWS: u32 = 262_144;

/// Slots tried in table order before a pool's servers are scanned one by one.
pub const TABLE_PROBES: u32 = 8;

/// Ports tried for one flow: with half of the range taken, all tries fail once in 65,536 flows.
pub const PORT_PROBES: u32 = 16;

/// First port used towards servers (`snat_ports`).
pub const SNAT_PORT_MIN: u16 = 10_240;

/// Last port used towards servers: below Linux's ephemeral ports (`ip_local_port_range`, 32768),
/// which the host's own connections to the same servers take.
pub const SNAT_PORT_MAX: u16 = 32_767;

/// Flows ended by one run of the expiry program; 32 bytes each have to fit a test packet.
pub const EXPIRE_BATCH: usize = 64;

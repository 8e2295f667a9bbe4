//! Every capacity and default, each with its reason.

/// Slots of a Maglev table: a prime, so that every stride visits every slot (Maglev, section 3.4).
/// With 160 servers a removal moves about 1 % more clients than it must.
pub const MAGLEV_SLOTS: u32 = 16_381;

/// Room for slots in a table; a power of two, so that a masked index needs no bounds check.
pub const TABLE_ROOM: usize = 16_384;

/// Servers in one pool. Bounds the kernel's scan of a pool whose servers are nearly all full.
pub const MAX_POOL_SERVERS: usize = 256;

/// Server identifiers, 0 unset: 72 bytes of kernel memory each, and 64 for its load.
pub const MAX_SERVERS: u32 = 4_096;

/// Pools.
pub const MAX_POOLS: u32 = 1_024;

/// Listeners in the kernel.
pub const MAX_LISTENERS: u32 = 4_096;

/// Interfaces whose MTU is known.
pub const MAX_INTERFACES: u32 = 1_024;

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

/// Flows ended by one run of an expiry program: 56 bytes each have to fit a test packet of a page less
/// the room around it (3,520 bytes); a power of two, so that a masked place needs no bounds check.
pub const EXPIRE_BATCH: usize = 32;

/// Half-open flows of each address family by default (`[kernel] half_open`).
pub const DEFAULT_HALF_OPEN: u32 = 65_536;

/// Addresses that mean something to us, of each family: listeners, SNAT, servers of `dnat`.
pub const MAX_ADDRESSES: u32 = 8_192;

/// Prefixes in the source lists of all listeners, of each family.
pub const MAX_SOURCES: u32 = 65_536;

/// Sources whose rate of new flows is remembered, of each family.
pub const MAX_BUCKETS: u32 = 65_536;

/// Clients whose server is remembered (`[pool.sticky]`), of each family.
pub const MAX_STICKY: u32 = 65_536;

/// Fragmented datagrams whose ports are remembered, of each family.
pub const MAX_FRAGMENTS: u32 = 8_192;

/// Servers whose packets are given back the listener's address without a flow, of each family.
pub const MAX_STATIC_REPLIES: u32 = 4_096;

/// New flows a second and processor beyond which more are shed (`[kernel] flood_gate`).
pub const DEFAULT_FLOOD_GATE: u32 = 125_000;

/// Bytes of the ring buffer EVENTS: about 7,700 ended flows wait in it.
pub const EVENTS_BYTES: u32 = 1 << 20;

/// Bytes of the ring buffer TRACES: about 8,700 traced packets wait in it.
pub const TRACES_BYTES: u32 = 1 << 20;

/// Members whose loads are compared at most: four come close to the least of all, and a scan of
/// every member would cost a packet too much.
pub const MAX_SAMPLES: u32 = 4;

/// IPv6 extension headers that are walked; a packet with more is passed.
pub const EXTENSION_HEADERS: usize = 4;

/// A SYN repeated after this time without an answer of the server goes to another one: less than
/// the first second that clients wait (RFC 6298, section 2.1), more than a handshake takes.
pub const RETRY_AFTER_NS: u64 = 800_000_000;

/// A half-open flow of this age may lose its port to another, though its server has answered: its
/// client has had the answer and not acknowledged it, as those of a flood never do.
pub const STEAL_AFTER_NS: u64 = 1_000_000_000;

/// Ports that are tried before one of such an age is taken.
pub const STEAL_PROBES: u32 = 4;

/// How long a flow stays that the client closed first and that both sides have acknowledged: its
/// server has no TIME-WAIT (RFC 9293, section 3.6.1), so the port is free again soon.
pub const CLEAN_CLOSE_NS: u64 = 1_000_000_000;

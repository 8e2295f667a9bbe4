//! `[listener.limits]`: how much a client of a layer 7 listener may ask for.

/// Limits; zero connections or body bytes mean no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections, all workers together. Default: as many as there are descriptors.
    pub connections: u32,
    /// Open connections of one client: an IPv4 address or an IPv6 /64. Default: no limit.
    pub connections_per_ip: u32,
    /// Bytes of a head, of requests and responses. Default 32 KiB.
    pub header_bytes: u32,
    /// Fields of a head, of requests and responses. Default 100.
    pub headers: u16,
    /// Bytes of a request's target. Default 8 KiB.
    pub uri_bytes: u32,
    /// Bytes of a request's body. Default: no limit.
    pub body_bytes: u64,
}

/// Fields of a head that hyper has room for without being told.
pub const DEFAULT_HEADERS: u16 = 100;

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 0,
            connections_per_ip: 0,
            header_bytes: 32 * 1024,
            headers: DEFAULT_HEADERS,
            uri_bytes: 8 * 1024,
            body_bytes: 0,
        }
    }
}

//! How many requests a client may make.

use http::HeaderName;

use super::RateLimit;

/// `[listener.rate_limit]` of requests: a token bucket for each client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestLimit {
    /// What a client is known by.
    pub key: LimitKey,
    /// How many.
    pub rate: RateLimit,
}

/// What a client is known by. Whoever does not have it is known by the address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitKey {
    /// The address: of IPv6, its /64.
    Ip,
    /// The value of a field.
    Header(HeaderName),
    /// The value of a cookie.
    Cookie(String),
}

//! `hash_on` beyond addresses: a part of a request.

use http::HeaderName;

/// What Maglev hashes of a request. One without it goes where its client's address says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// The value of a field, the first if there are several.
    Header(HeaderName),
    /// The value of a cookie.
    Cookie(String),
    /// The path, without the query.
    Path,
    /// The value of a parameter of the query, as it is written.
    Query(String),
}

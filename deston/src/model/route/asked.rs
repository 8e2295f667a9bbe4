//! What routes look at of a request.

use http::{HeaderMap, Method};

use super::Path;
use super::pattern::host_of;

/// A request's head, as far as routes look at it.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// The method.
    pub method: &'a Method,
    /// The host, without port; `None`: the request names none (HTTP/1.0).
    pub host: Option<&'a str>,
    /// The path.
    pub path: Path<'a>,
    /// The query, without `?`.
    pub query: Option<&'a str>,
    /// The fields, as the client sent them.
    pub headers: &'a HeaderMap,
}

impl<'a> Asked<'a> {
    /// A request with this `Host` and target.
    pub fn new(
        method: &'a Method,
        host: Option<&'a str>,
        path: &'a str,
        query: Option<&'a str>,
        headers: &'a HeaderMap,
    ) -> Self {
        Self { method, host: host.map(host_of), path: Path::new(path), query, headers }
    }

    /// Whether the query has a key with a value, both decoded.
    pub(super) fn has_query(&self, key: &str, value: &str) -> bool {
        self.query.is_some_and(|query| {
            query.split('&').any(|pair| {
                let (its_key, its_value) = pair.split_once('=').unwrap_or((pair, ""));
                decoded(its_key).eq(key.bytes()) && decoded(its_value).eq(value.bytes())
            })
        })
    }
}

/// The bytes of a part of a query, as forms write them: `+` is a space.
fn decoded(text: &str) -> impl Iterator<Item = u8> {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        let byte = match (super::path::escaped(bytes, at), bytes.get(at)?) {
            (Some(byte), _) => {
                at += 2;
                byte
            }
            (None, b'+') => b' ',
            (None, &byte) => byte,
        };
        at += 1;
        Some(byte)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(query: &str, key: &str, value: &str) -> bool {
        let headers = HeaderMap::new();
        Asked::new(&Method::GET, None, "/", Some(query), &headers).has_query(key, value)
    }

    #[test]
    fn a_key_has_a_value_if_one_of_its_pairs_has() {
        assert!(has("a=1&b=2&a=3", "a", "1") && has("a=1&b=2&a=3", "a", "3"));
        assert!(!has("a=1", "a", "2") && !has("a=1", "A", "1") && !has("xa=1", "a", "1"));
        assert!(has("a", "a", "") && has("a=", "a", "") && has("a==", "a", "="));
    }

    #[test]
    fn keys_and_values_are_decoded() {
        assert!(has("%61=b+c%26", "a", "b c&"));
        assert!(has("a=%zz", "a", "%zz"));
    }
}

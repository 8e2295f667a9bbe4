//! The part of a request that decides its server: `hash_on`.

use deston_common::hash::{Seed, siphash13};
use http::header::COOKIE;
use http::{HeaderMap, Request};

use crate::model::HashKey;

/// The hash of the part that `key` names, if the request has it.
pub(super) fn hash<B>(seed: Seed, key: &HashKey, request: &Request<B>) -> Option<u64> {
    let part = match key {
        HashKey::Header(name) => request.headers().get(name)?.as_bytes(),
        HashKey::Cookie(name) => cookie(request.headers(), name)?,
        HashKey::Path => request.uri().path().as_bytes(),
        HashKey::Query(name) => query(request.uri().query()?, name)?.as_bytes(),
    };
    Some(bytes(seed, part))
}

/// The value of the first cookie of a name (RFC 6265 4.2.1).
pub(super) fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    let pairs =
        headers.get_all(COOKIE).iter().flat_map(|field| field.as_bytes().split(is_semicolon));
    pairs
        .map(<[u8]>::trim_ascii)
        .find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

fn is_semicolon(byte: &u8) -> bool {
    *byte == b';'
}

fn query<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// Eight bytes at a time, each keyed with what came before; the length first, so that no text is
/// another one's beginning.
fn bytes(seed: Seed, bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(siphash13(seed, bytes.len() as u64, 0), |hash, chunk| {
        let mut word = [0; 8];
        word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
        siphash13(seed, hash, u64::from_le_bytes(word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request, and which others it is alike.
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], char);

    fn request(uri: &str, fields: &[(&str, &str)]) -> Request<()> {
        let builder = Request::get(uri);
        fields
            .iter()
            .fold(builder, |builder, (name, value)| builder.header(*name, *value))
            .body(())
            .unwrap()
    }

    fn hashed(key: &HashKey, uri: &str, fields: &[(&str, &str)]) -> Option<u64> {
        hash(Seed::from_text("test"), key, &request(uri, fields))
    }

    /// Asserts which of some requests share a hash: those with the same letter, `-` with none.
    #[track_caller]
    fn alike(key: &HashKey, requests: &[Case<'_>]) {
        for (uri, fields, letter) in requests {
            let one = hashed(key, uri, fields);
            assert_eq!(one.is_none(), *letter == '-', "{uri} {fields:?}");
            for (other_uri, other_fields, other) in requests {
                let same = one == hashed(key, other_uri, other_fields);
                assert_eq!(same, letter == other, "{uri} {fields:?}, {other_uri} {other_fields:?}");
            }
        }
    }

    #[test]
    fn a_field_is_told_by_its_value() {
        alike(
            &HashKey::Header("x-user".parse().unwrap()),
            &[
                ("/", &[("X-User", "one")], 'a'),
                ("/other", &[("x-user", "one"), ("x-user", "more")], 'a'),
                ("/", &[("x-user", "two")], 'b'),
                ("/", &[("x-user", "")], 'c'),
                ("/", &[("x-users", "one")], '-'),
            ],
        );
    }

    #[test]
    fn the_value_of_a_cookie_is_all_that_follows_its_whole_name() {
        let request = request("/", &[("cookie", "a=1; session=abc;b=2"), ("cookie", "last=x=y")]);
        let found = |name| cookie(request.headers(), name);
        assert_eq!(found("session"), Some(&b"abc"[..]));
        assert_eq!(found("b"), Some(&b"2"[..]));
        assert_eq!(found("last"), Some(&b"x=y"[..]));
        assert_eq!(found("ession"), None);
        assert_eq!(found("Session"), None);
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        alike(
            &HashKey::Cookie("id".to_owned()),
            &[
                ("/", &[("cookie", "id=1")], 'a'),
                ("/", &[("cookie", "a=b; id=1;c=d")], 'a'),
                ("/", &[("cookie", "a=b"), ("cookie", "id=1; id=2")], 'a'),
                ("/", &[("cookie", "id=2")], 'b'),
                ("/", &[("cookie", "xid=1; idx=1; id")], '-'),
            ],
        );
    }

    #[test]
    fn a_path_is_without_its_query() {
        alike(
            &HashKey::Path,
            &[("/a?b", &[], 'a'), ("/a", &[], 'a'), ("/a/", &[], 'b'), ("/", &[], 'c')],
        );
    }

    #[test]
    fn a_parameter_of_the_query_is_told_by_its_value() {
        alike(
            &HashKey::Query("k".to_owned()),
            &[
                ("/?k=1", &[], 'a'),
                ("/x?a=b&k=1&k=2", &[], 'a'),
                ("/?k=2", &[], 'b'),
                ("/?k=", &[], 'c'),
                ("/?kk=1&ak=1&k", &[], '-'),
            ],
        );
    }

    #[test]
    fn long_values_differ_by_every_byte() {
        let long = "x".repeat(100);
        let hashes: std::collections::BTreeSet<u64> = (0..=100)
            .map(|at| bytes(Seed::default(), &long.as_bytes()[..at]))
            .chain((0..100).map(|at| {
                let mut other = long.clone();
                other.replace_range(at..=at, "y");
                bytes(Seed::default(), other.as_bytes())
            }))
            .collect();
        assert_eq!(hashes.len(), 201);
    }
}

//! What tells a request apart: its id, and its place in a trace (W3C Trace Context).

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand;
use deston_common::hash::{Seed, siphash13};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::access::Log;
use crate::access::Word;
use crate::model::Identity;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Where a worker's ids come from: a count, under a key of 128 random bits.
#[derive(Debug)]
pub(crate) struct Ids {
    seed: Seed,
    count: Cell<u64>,
}

impl Default for Ids {
    fn default() -> Self {
        let mut bytes = [0; 16];
        // Without randomness TLS would not have started either; the clock still tells runs apart.
        if rand::fill(&mut bytes).is_err() {
            bytes = nanoseconds().to_be_bytes();
        }
        let key = u128::from_be_bytes(bytes);
        Self { seed: Seed { k0: (key >> 64) as u64, k1: key as u64 }, count: Cell::new(0) }
    }
}

impl Ids {
    /// 128 bits that no other call gives.
    fn bits(&self) -> u128 {
        let count = self.count.get();
        self.count.set(count.wrapping_add(1));
        let half = |which| u128::from(siphash13(self.seed, count, which));
        half(0) << 64 | half(1)
    }

    /// A UUID of version 7 (RFC 9562 5.7): milliseconds, then 74 random bits.
    fn uuid(&self) -> u128 {
        let milliseconds = nanoseconds() / 1_000_000;
        // All but the time, the version and the variant.
        const RANDOM: u128 = u128::MAX >> 52 & !(3 << 62);
        milliseconds << 80 | 7 << 76 | 2 << 62 | self.bits() & RANDOM
    }
}

fn nanoseconds() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()
}

/// The id of one request, and the field that carries it.
pub(super) struct RequestId {
    name: HeaderName,
    value: HeaderValue,
}

impl RequestId {
    /// A fresh id, unless a `trusted` peer has given one. What anybody else says is nobody's
    /// business: it could name another's request.
    pub(super) fn new(
        identity: &Identity,
        ids: &Ids,
        log: &Log,
        trusted: Option<&HeaderMap>,
    ) -> Option<Self> {
        let name = identity.request_id.clone()?;
        let value = match trusted.and_then(|headers| given(headers, &name)) {
            Some(given) => given.clone(),
            None => value(&hyphenated(ids.uuid()))?,
        };
        log.note(|record| record.set(Word::RequestId, value.as_bytes()));
        Some(Self { name, value })
    }

    /// Writes it into a head.
    pub(super) fn insert(&self, headers: &mut HeaderMap) {
        headers.insert(self.name.clone(), self.value.clone());
    }
}

/// Longest id that is kept, in bytes.
const LONGEST: usize = 128;

/// The one id of a head, if it is no longer than it may be.
fn given<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    let fits = (1..=LONGEST).contains(&value.len());
    (fits && value.as_bytes().iter().all(u8::is_ascii_graphic)).then_some(value)
}

/// Makes Deston the parent of what the server does: the trace of a valid `traceparent` goes on, any
/// other begins anew.
pub(super) fn trace(headers: &mut HeaderMap, ids: &Ids) {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let first = values.next().filter(|_| values.next().is_none());
    let (trace, flags) = match first.and_then(|value| parse(value.as_bytes())) {
        Some(known) => known,
        None => {
            // Trace Context 3.3: it belongs to the other trace.
            headers.remove(TRACESTATE);
            // Sampled: whoever samples less decides so by himself, and nobody samples a trace that
            // says it is not.
            (non_zero(ids.bits()), 1)
        }
    };
    let parent = non_zero(ids.bits() >> 64);
    if let Some(value) = value(format!("00-{trace:032x}-{parent:016x}-{flags:02x}").as_bytes()) {
        headers.insert(TRACEPARENT, value);
    }
}

/// Of all ids, the one that stands for none is not given.
fn non_zero(id: u128) -> u128 {
    id.max(1)
}

/// The trace and the flags of a valid `traceparent` (Trace Context 3.2.2), of this version or a
/// later one, whose beginning is the same.
fn parse(value: &[u8]) -> Option<(u128, u8)> {
    const LENGTH: usize = 55;
    /// Of the flags, those that are known: sampled, and random.
    const KNOWN: u8 = 3;
    let (known, more) = value.split_at_checked(LENGTH)?;
    let mut parts = known.split(|byte| *byte == b'-');
    let mut part = |length: usize| hex(parts.next().filter(|part| part.len() == length)?);
    let (version, trace, parent, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
    let fits = match version {
        0 => more.is_empty(),
        0xff => false,
        _ => more.is_empty() || more.starts_with(b"-"),
    };
    (fits && trace != 0 && parent != 0).then_some((trace, flags as u8 & KNOWN))
}

/// A number in lower-case hexadecimal digits.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

/// RFC 9562 4.
fn hyphenated(uuid: u128) -> [u8; 36] {
    let mut digits = (0..32).map(|place| {
        let digit = (uuid >> (124 - 4 * place) & 0xf) as u8;
        if digit < 10 { b'0' + digit } else { b'a' + digit - 10 }
    });
    std::array::from_fn(|place| match place {
        8 | 13 | 18 | 23 => b'-',
        _ => digits.next().unwrap_or(b'0'),
    })
}

/// Hexadecimal digits and hyphens are always valid.
fn value(text: &[u8]) -> Option<HeaderValue> {
    HeaderValue::from_bytes(text).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn traced(values: &[&str]) -> (String, bool) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TRACEPARENT, HeaderValue::from_str(value).unwrap());
        }
        headers.insert(TRACESTATE, HeaderValue::from_static("a=b"));
        trace(&mut headers, &Ids::default());
        assert_eq!(headers.get_all(TRACEPARENT).iter().count(), 1);
        let value = headers[TRACEPARENT].to_str().unwrap().to_owned();
        assert!(parse(value.as_bytes()).is_some(), "{value}");
        (value, headers.contains_key(TRACESTATE))
    }

    #[test]
    fn an_id_is_a_uuid_of_version_7_and_no_two_are_the_same() {
        let (one, other) = (Ids::default(), Ids::default());
        let ids: Vec<_> = (0..1_000).flat_map(|_| [one.uuid(), other.uuid()]).collect();
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
        for id in ids {
            let text = String::from_utf8(hyphenated(id).to_vec()).unwrap();
            let groups: Vec<usize> = text.split('-').map(str::len).collect();
            assert_eq!(groups, [8, 4, 4, 4, 12], "{text}");
            assert_eq!(&text[14..15], "7", "{text}");
            assert!(matches!(&text[19..20], "8" | "9" | "a" | "b"), "{text}");
            let seconds = (id >> 80) / 1_000;
            assert!(nanoseconds() / 1_000_000_000 - seconds < 60, "{text}");
        }
    }

    #[test]
    fn a_valid_trace_goes_on_with_a_new_parent() {
        for (value, begins, ends) in [
            (VALID, "00-4bf92f3577b34da6a3ce929d0e0e4736-", "-01"),
            (&VALID.replace("-01", "-fc"), "00-4bf92f3577b34da6a3ce929d0e0e4736-", "-00"),
            (&format!("cc-{}-more", &VALID[3..]), "00-4bf92f3577b34da6a3ce929d0e0e4736-", "-01"),
        ] {
            let (traced, state) = traced(&[value]);
            assert!(traced.starts_with(begins) && traced.ends_with(ends), "{value}: {traced}");
            assert!(!traced.contains("00f067aa0ba902b7"), "{traced}");
            assert!(state, "{value}");
        }
    }

    #[test]
    fn what_is_no_trace_is_replaced_with_its_state() {
        let invalid = [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736000f067aa0ba902b7-01",
        ];
        for value in invalid {
            let (traced, state) = traced(&[value]);
            assert!(!traced.contains("4bf92f3577b34da6a3ce929d0e0e4736") && !state, "{value}");
        }
        let (traced, state) = traced(&[VALID, VALID]);
        assert!(!traced.contains("4bf92f3577b34da6a3ce929d0e0e4736") && !state, "repeated");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_trace_or_not_but_never_a_panic(
            value in prop::collection::vec(any::<u8>(), 0..70),
        ) {
            let _ = parse(&value);
        }
    }
}

//! Which framing fields a head of HTTP/1 has, as they came: hyper drops `Content-Length` beside
//! `Transfer-Encoding` before a request is seen, though two parties that read such a head
//! differently are how requests are smuggled (RFC 9112 6.1 and 11.2).
//!
//! This is no parser: it finds the line ends of heads, and two names at their beginnings. What it
//! finds can only refuse a request that hyper has accepted, never accept one. It reads on after a
//! head without a body, and past a body of known length. Where a chunked body ends it does not
//! know: it goes on when that body is complete and the last bytes that were read are an empty
//! line, since then no head has begun behind it. A request with `Transfer-Encoding` whose head it
//! has not read from its beginning is refused: chunked requests cannot be sent before the body
//! ahead of them has been taken.

use std::cell::Cell;

use http::HeaderMap;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use memchr::memchr;

use super::validate::Refusal;
use crate::model::Mode;

/// The scan of one connection.
#[derive(Debug)]
pub(super) struct Heads {
    place: Cell<Place>,
    /// What the head under way has so far.
    seen: Cell<Framing>,
    /// What the last head had, if it had anything; its request has not been seen yet.
    found: Cell<Framing>,
    /// The last bytes of a chunked body, and what follows it.
    tail: Cell<[u8; 3]>,
    /// The body whose end is awaited has ended.
    body_ended: Cell<bool>,
}

/// What the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The first of a head, or one of the empty lines that may come before it.
    Start,
    /// The first of a line.
    Line,
    /// What follows a CR at the beginning of a line.
    Return,
    /// Within a line that has begun as a field's name does.
    Name(Field, u8),
    /// Anything else within a line.
    Rest,
    /// Of a body that is as long as its request will say; so much of it has been read.
    Counted(u64),
    /// Of a body of which so much is left.
    Body(u64),
    /// Of a chunked body, or of what follows it.
    Chunks,
    /// Unknown.
    Lost,
}

/// A field that frames a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Length,
    Coding,
}

impl Field {
    fn name(self) -> &'static [u8] {
        match self {
            Self::Length => b"content-length",
            Self::Coding => b"transfer-encoding",
        }
    }
}

/// The framing fields of one head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Framing {
    #[default]
    None,
    Length,
    Coding,
    Both,
}

impl Framing {
    fn with(self, field: Field) -> Self {
        match (self, field) {
            (Self::None | Self::Length, Field::Length) => Self::Length,
            (Self::None | Self::Coding, Field::Coding) => Self::Coding,
            _ => Self::Both,
        }
    }
}

impl Heads {
    /// Nothing has been read.
    pub(super) fn new() -> Self {
        Self {
            place: Cell::new(Place::Start),
            seen: Cell::new(Framing::None),
            found: Cell::new(Framing::None),
            tail: Cell::new([0; 3]),
            body_ended: Cell::new(false),
        }
    }

    /// Looks at what was read.
    pub(super) fn read(&self, bytes: &[u8]) {
        // An empty line at the end of all that was read: no head has begun behind it. This is asked
        // of what came before, for hyper reads on when it has used up what it has.
        if self.place.get() == Place::Chunks
            && self.body_ended.get()
            && self.tail.get() == *b"\n\r\n"
        {
            self.place.set(Place::Start);
        }
        let mut place = self.place.get();
        let mut rest = bytes;
        while let Some((&byte, behind)) = rest.split_first() {
            (place, rest) = match place {
                Place::Start if matches!(byte, b'\r' | b'\n') => (place, behind),
                Place::Start => (Place::Rest, behind),
                Place::Line => match byte {
                    b'\n' => (self.head_ends(), behind),
                    b'\r' => (Place::Return, behind),
                    b'c' | b'C' => (Place::Name(Field::Length, 1), behind),
                    b't' | b'T' => (Place::Name(Field::Coding, 1), behind),
                    _ => (Place::Rest, rest),
                },
                Place::Return if byte == b'\n' => (self.head_ends(), behind),
                // hyper refuses such a head.
                Place::Return => (Place::Rest, rest),
                Place::Name(field, matched) => {
                    match field.name().get(usize::from(matched)) {
                        Some(next) if *next == byte.to_ascii_lowercase() => {
                            (Place::Name(field, matched + 1), behind)
                        }
                        Some(_) => (Place::Rest, rest),
                        None => {
                            // A space before the colon hyper refuses.
                            if matches!(byte, b':' | b' ' | b'\t') {
                                self.seen.set(self.seen.get().with(field));
                            }
                            (Place::Rest, rest)
                        }
                    }
                }
                Place::Rest => match memchr(b'\n', rest) {
                    Some(end) => (Place::Line, rest.get(end + 1..).unwrap_or_default()),
                    None => (place, &[][..]),
                },
                Place::Counted(before) => (Place::Counted(before + rest.len() as u64), &[][..]),
                Place::Body(left) => {
                    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    let left = left - taken as u64;
                    let place = if left == 0 { Place::Start } else { Place::Body(left) };
                    (place, rest.get(taken..).unwrap_or_default())
                }
                Place::Chunks => {
                    self.remember(rest);
                    (place, &[][..])
                }
                Place::Lost => (place, &[][..]),
            };
        }
        self.place.set(place);
    }

    fn head_ends(&self) -> Place {
        let framing = self.seen.replace(Framing::None);
        match framing {
            Framing::None => return Place::Start,
            Framing::Length | Framing::Coding | Framing::Both => self.found.set(framing),
        }
        if framing == Framing::Length {
            return Place::Counted(0);
        }
        self.tail.set([0; 3]);
        self.body_ended.set(false);
        Place::Chunks
    }

    fn remember(&self, bytes: &[u8]) {
        let mut tail = self.tail.get();
        for &byte in bytes.get(bytes.len().saturating_sub(3)..).unwrap_or_default() {
            tail = [tail[1], tail[2], byte];
        }
        self.tail.set(tail);
    }

    /// A chunked body is complete.
    pub(super) fn body_ended(&self) {
        self.body_ended.set(true);
    }

    /// Compares a request, as hyper gives it, with what its head had. Called once for each request of
    /// a connection, in order.
    pub(super) fn check(&self, headers: &HeaderMap, mode: Mode) -> Result<(), Refusal> {
        let chunked = headers.contains_key(TRANSFER_ENCODING);
        let length = headers.get(CONTENT_LENGTH);
        if !chunked && length.is_none() {
            return Ok(());
        }
        let refusal = match (self.found.replace(Framing::None), chunked) {
            (Framing::Coding, true) => return Ok(()),
            (Framing::Length, false) => {
                let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
                self.place.set(self.behind(length));
                return Ok(());
            }
            (Framing::Both, true) => Refusal::FramedTwice,
            (Framing::None | Framing::Length | Framing::Coding | Framing::Both, _) => {
                self.place.set(Place::Lost);
                Refusal::Unseen
            }
        };
        match mode {
            Mode::Strict if chunked => Err(refusal),
            Mode::Strict | Mode::Lenient => Ok(()),
        }
    }

    /// Where the scan goes on when the length of the body is known.
    fn behind(&self, length: Option<u64>) -> Place {
        let Place::Counted(read) = self.place.get() else { return Place::Lost };
        match length.and_then(|length| length.checked_sub(read)) {
            Some(0) => Place::Start,
            Some(left) => Place::Body(left),
            None => Place::Lost,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const CHUNKED: (&str, &str) = ("transfer-encoding", "chunked");
    const HEAD: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    const BOTH: &str = "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n";

    fn check(heads: &Heads, fields: &[(&'static str, &'static str)]) -> Result<(), Refusal> {
        let mut headers = HeaderMap::new();
        for &(name, value) in fields {
            headers.append(name, HeaderValue::from_static(value));
        }
        heads.check(&headers, Mode::Strict)
    }

    /// What is said of a chunked request after these bytes.
    fn chunked(read: &str) -> Result<(), Refusal> {
        let heads = Heads::new();
        heads.read(read.as_bytes());
        check(&heads, &[CHUNKED])
    }

    #[test]
    fn a_coding_alone_is_one_framing() {
        assert_eq!(chunked(HEAD), Ok(()));
        assert_eq!(chunked("POST / HTTP/1.1\ntransfer-encoding: chunked\n\n"), Ok(()));
    }

    /// F1
    #[test]
    fn a_coding_beside_a_length_is_framed_twice_whatever_the_order_and_case() {
        for head in [
            BOTH,
            "POST / HTTP/1.1\r\nTRANSFER-ENCODING: chunked\r\nX: 1\r\ncontent-LENGTH: 3\r\n\r\n",
            "\r\n\r\nPOST / HTTP/1.1\ncontent-length:3\ntransfer-encoding:chunked\n\n",
        ] {
            assert_eq!(chunked(head), Err(Refusal::FramedTwice), "{head:?}");
        }
    }

    #[test]
    fn names_that_only_begin_alike_are_others() {
        let head = "POST /Content-Length: HTTP/1.1\r\nContent-Lengths: 3\r\nX-Content-Length: 3\r\n\
            Content-Type: Content-Length:\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(chunked(head), Ok(()));
    }

    #[test]
    fn heads_without_a_body_are_followed_by_the_next() {
        let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(chunked(&format!("{get}{get}{HEAD}")), Ok(()));
        assert_eq!(chunked(&format!("{get}{get}{BOTH}")), Err(Refusal::FramedTwice));
    }

    #[test]
    fn a_body_of_known_length_is_passed_over() {
        let post = "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n";
        for body in ["", "ab", "abcde"] {
            for next in [HEAD, BOTH] {
                let heads = Heads::new();
                heads.read(format!("{post}{body}").as_bytes());
                assert_eq!(check(&heads, &[("content-length", "5")]), Ok(()));
                let left = &"abcde"[body.len()..];
                heads.read(format!("{left}{next}").as_bytes());
                let expected = if next == BOTH { Err(Refusal::FramedTwice) } else { Ok(()) };
                assert_eq!(check(&heads, &[CHUNKED]), expected, "{body} {next}");
            }
        }
    }

    #[test]
    fn a_chunked_request_after_a_chunked_body_is_seen_again() {
        for body in ["0\r\n\r\n", "3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n"] {
            for next in [HEAD, BOTH] {
                let heads = Heads::new();
                heads.read(HEAD.as_bytes());
                assert_eq!(check(&heads, &[CHUNKED]), Ok(()));
                heads.read(body.as_bytes());
                heads.body_ended();
                heads.read(next.as_bytes());
                let expected = if next == BOTH { Err(Refusal::FramedTwice) } else { Ok(()) };
                assert_eq!(check(&heads, &[CHUNKED]), expected);
            }
        }
    }

    #[test]
    fn a_chunked_request_whose_beginning_came_with_a_body_is_refused() {
        for begun in ["", "P", "POST / HTTP/1.1\r\nContent-Length: 3\r\n"] {
            let heads = Heads::new();
            heads.read(format!("{HEAD}0\r\n\r\nGET / HTTP/1.1\r\n\r\n{begun}").as_bytes());
            assert_eq!(check(&heads, &[CHUNKED]), Ok(()));
            heads.body_ended();
            assert_eq!(check(&heads, &[]), Ok(()));
            heads.read(b"Transfer-Encoding: chunked\r\n\r\n");
            assert_eq!(check(&heads, &[CHUNKED]), Err(Refusal::Unseen), "{begun:?}");
        }
    }

    #[test]
    fn a_body_cannot_pass_for_a_head() {
        let heads = Heads::new();
        heads.read(
            format!("{HEAD}0\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n").as_bytes(),
        );
        assert_eq!(check(&heads, &[CHUNKED]), Ok(()));
        heads.body_ended();
        assert_eq!(check(&heads, &[("content-length", "99")]), Ok(()));
        heads.read(HEAD.as_bytes());
        assert_eq!(check(&heads, &[CHUNKED]), Err(Refusal::Unseen));
    }

    #[test]
    fn a_lenient_listener_takes_what_hyper_takes() {
        let heads = Heads::new();
        heads.read(BOTH.as_bytes());
        let headers =
            HeaderMap::from_iter([(TRANSFER_ENCODING, HeaderValue::from_static("chunked"))]);
        assert_eq!(heads.check(&headers, Mode::Lenient), Ok(()));
    }

    proptest! {
        #[test]
        fn how_the_bytes_come_makes_no_difference(cuts in proptest::collection::vec(1..40_usize, 0..40)) {
            for (head, expected) in [(HEAD, Ok(())), (BOTH, Err(Refusal::FramedTwice))] {
                let text = format!("\r\nGET / HTTP/1.1\r\nTe: x\r\nCookie: c\r\n\r\n{head}");
                let (heads, mut rest) = (Heads::new(), text.as_bytes());
                for &cut in &cuts {
                    let (now, later) = rest.split_at(cut.min(rest.len()));
                    heads.read(now);
                    rest = later;
                }
                heads.read(rest);
                prop_assert_eq!(check(&heads, &[CHUNKED]), expected);
            }
        }
    }
}

//! A request's path as routes see it: escapes decoded, dot segments resolved, slashes merged.
//!
//! A route that was matched against the path as it is sent could be evaded by another spelling of the
//! same path (`/x/../admin`, `/%61dmin`, `//admin`). Escapes are decoded once, `%2F` too, as most
//! servers do. Each byte remembers where it stood, so that a part of the path can be sent on in the
//! client's spelling.

use std::borrow::Cow;
use std::ops::Range;

/// A path, as it was sent and as it is matched.
#[derive(Clone, Debug)]
pub struct Path<'a> {
    sent: &'a str,
    /// What is matched.
    plain: Cow<'a, [u8]>,
    /// Where each byte of `plain` stands in `sent`; empty where they are the same.
    from: Vec<usize>,
}

/// A decoded byte and where it stood.
type Byte = (u8, usize);

impl<'a> Path<'a> {
    /// The path of a target in origin form; anything else, `*` above all, stays as it is.
    pub fn new(sent: &'a str) -> Self {
        let is_plain = !sent.contains('%') && !sent.contains("//") && !sent.contains("/.");
        if is_plain || !sent.starts_with('/') {
            return Self { sent, plain: Cow::Borrowed(sent.as_bytes()), from: Vec::new() };
        }
        let (plain, from) = resolve(sent, &decode(sent)).into_iter().unzip();
        Self { sent, plain: Cow::Owned(plain), from }
    }

    /// What routes are matched against.
    pub fn plain(&self) -> &[u8] {
        &self.plain
    }

    /// The matched path for people.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.plain).escape_debug().to_string()
    }

    /// Appends a part of the matched path in the client's spelling, which decodes to what was
    /// matched.
    pub fn spell(&self, part: Range<usize>, out: &mut String) {
        if self.from.is_empty() {
            out.push_str(self.sent.get(part).unwrap_or_default());
            return;
        }
        for &at in self.from.get(part).unwrap_or_default() {
            match (escaped(self.sent.as_bytes(), at), self.sent.get(at..at + 1)) {
                (Some(_), _) => out.push_str(self.sent.get(at..at + 3).unwrap_or_default()),
                // Alone it could begin an escape with what follows it elsewhere.
                (None, Some("%")) => out.push_str("%25"),
                (None, byte) => out.push_str(byte.unwrap_or_default()),
            }
        }
    }

    /// The whole path in the client's spelling.
    pub fn spell_all(&self, out: &mut String) {
        self.spell(0..self.plain.len(), out);
    }
}

/// What an escape at `at` stands for, if there is one.
pub(super) fn escaped(text: &[u8], at: usize) -> Option<u8> {
    let &[b'%', high, low] = text.get(at..at.checked_add(3)?)? else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// Decodes escapes; a `%` that begins none is itself.
fn decode(sent: &str) -> Vec<Byte> {
    let bytes = sent.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match escaped(bytes, at) {
            Some(byte) => {
                decoded.push((byte, at));
                at += 3;
            }
            None => {
                decoded.push((byte, at));
                at += 1;
            }
        }
    }
    decoded
}

/// RFC 3986 5.2.4, and empty segments are dropped. The last slash stays.
///
/// Of slashes that become one, one that was sent as it is is kept before one that was escaped: the
/// first of a path, which ends the host of a location, is never an escape.
fn resolve(sent: &str, decoded: &[Byte]) -> Vec<Byte> {
    let is_escape = |(_, at): Byte| sent.as_bytes().get(at) != Some(&b'/');
    let mut out: Vec<Byte> = Vec::with_capacity(decoded.len());
    // The slash of segments that were dropped since the last that was kept.
    let mut dropped: Option<Byte> = None;
    let mut rest = decoded;
    while let Some((&slash, behind)) = rest.split_first() {
        let end = behind.iter().position(|&(byte, _)| byte == b'/').unwrap_or(behind.len());
        let (segment, next) = behind.split_at(end);
        rest = next;
        let slash = dropped.take().filter(|&slash| !is_escape(slash)).unwrap_or(slash);
        match segment {
            [] | [(b'.', _)] => dropped = Some(slash),
            [(b'.', _), (b'.', _)] => {
                let parent = out.iter().rposition(|&(byte, _)| byte == b'/').unwrap_or(0);
                let its = out.get(parent).copied().filter(|&slash| !is_escape(slash));
                out.truncate(parent);
                dropped = Some(its.unwrap_or(slash));
            }
            _ => {
                out.push(slash);
                out.extend_from_slice(segment);
            }
        }
    }
    out.extend(dropped);
    out
}

/// Decodes the escapes of a pattern, which is compared with decoded paths.
pub(super) fn decoded(text: &str) -> Vec<u8> {
    decode(text).into_iter().map(|(byte, _)| byte).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(sent: &str) -> String {
        String::from_utf8_lossy(Path::new(sent).plain()).into_owned()
    }

    #[test]
    fn a_plain_path_is_taken_as_it_is() {
        for path in ["/", "/a", "/a/b/", "/a.b/c..d", "*", ""] {
            assert_eq!(plain(path), path);
        }
    }

    #[test]
    fn every_spelling_of_a_path_is_the_same_path() {
        for spelling in [
            "/admin/x",
            "/x/../admin/x",
            "/%61dmin/x",
            "//admin/x",
            "/./admin/./x",
            "/admin//x",
            "/%2e%2e/admin/x",
            "/x/%2E./admin/x",
            "/admin%2Fx",
            "/x%2f..%2fadmin/x",
            "/../admin/x",
            "/a/b/../../admin/x",
            "/%2Fadmin/x",
        ] {
            assert_eq!(plain(spelling), "/admin/x", "{spelling}");
        }
    }

    #[test]
    fn the_last_slash_stays() {
        for (sent, expected) in
            [("/a/.", "/a/"), ("/a/b/..", "/a/"), ("/..", "/"), ("//", "/"), ("/a//", "/a/")]
        {
            assert_eq!(plain(sent), expected, "{sent}");
        }
    }

    #[test]
    fn escapes_are_decoded_once() {
        assert_eq!(plain("/%2561dmin"), "/%61dmin");
        assert_eq!(plain("/100%"), "/100%");
        assert_eq!(plain("/%zz%4"), "/%zz%4");
        assert_eq!(Path::new("/%ff").plain(), b"/\xff");
    }

    #[test]
    fn a_part_is_sent_on_as_the_client_spelled_it() {
        let path = Path::new("/x/../files/a%2Fb%20c");
        let mut out = String::new();
        let from = path.plain().len() - "a/b c".len();
        path.spell(from..path.plain().len(), &mut out);
        assert_eq!(out, "a%2Fb%20c");
        let mut out = String::new();
        Path::new("/100%").spell_all(&mut out);
        assert_eq!(out, "/100%25");
    }

    #[test]
    fn of_slashes_that_become_one_an_escape_goes_first() {
        for (sent, expected) in [
            ("/%2Fadmin", "/admin"),
            ("/a/%2Fb", "/a/b"),
            ("/a%2F/b", "/a/b"),
            ("/a/.%2Fb", "/a/b"),
            ("/a/x%2F..%2Fb", "/a/b"),
            ("/%2F", "/"),
            ("/a%2F%2Fb", "/a%2Fb"),
        ] {
            let mut out = String::new();
            Path::new(sent).spell_all(&mut out);
            assert_eq!(out, expected, "{sent}");
        }
    }

    proptest! {
        #[test]
        fn no_dot_segment_and_no_empty_one_is_left(sent in "/(/|%2F|[.]|%2e|a){0,20}") {
            let plain = plain(&sent);
            prop_assert!(plain.starts_with('/'));
            let inner = plain.strip_suffix('/').unwrap_or(&plain);
            for segment in inner.split('/').skip(1) {
                prop_assert!(!["", ".", ".."].contains(&segment), "{} of {}", plain, sent);
            }
        }

        #[test]
        fn what_is_spelled_decodes_to_what_was_matched(
            sent in "/(/|%2F|%2f|[.]|%2E|[a-c]|%){0,20}",
        ) {
            let path = Path::new(&sent);
            let mut out = String::new();
            path.spell_all(&mut out);
            prop_assert_eq!(decoded(&out), path.plain());
            prop_assert!(out.starts_with('/'), "{}", out);
        }
    }
}

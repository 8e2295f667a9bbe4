//! What a route asks of a request's host and path.

use std::fmt;
use std::ops::Range;

use regex::bytes::{Regex, RegexBuilder};

use super::path::{self, Path};

/// Hosts of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// This one, in lower case.
    Exact(String),
    /// All below this one, which begins with a dot and is in lower case.
    Below(String),
}

impl HostPattern {
    /// Reads `example.com` or `*.example.com`; a name or address without a port.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let text = text.strip_suffix('.').unwrap_or(&text);
        let is_name = |name: &str| {
            let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            let is_label = |label: &str| !label.is_empty() && label.bytes().all(is_part);
            !name.is_empty() && name.split('.').all(is_label)
        };
        if let Some(name) = text.strip_prefix("*.") {
            return is_name(name).then(|| Self::Below(format!(".{name}")));
        }
        let literal = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        let is_literal = literal.is_some_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok());
        (is_literal || is_name(text)).then(|| Self::Exact(text.to_owned()))
    }

    /// Whether a host, without its port, is one of them. Case does not matter.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => name.eq_ignore_ascii_case(host),
            Self::Below(suffix) => {
                let start = host.len().checked_sub(suffix.len()).filter(|&start| start > 0);
                start
                    .and_then(|start| host.get(start..))
                    .is_some_and(|end| end.eq_ignore_ascii_case(suffix))
            }
        }
    }

    /// Whether every host of `other` is one of these.
    pub(super) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(name), Self::Exact(other)) => name == other,
            (Self::Below(_), Self::Exact(other)) => self.matches(other),
            (Self::Below(suffix), Self::Below(other)) => other.ends_with(suffix.as_str()),
            (Self::Exact(_), Self::Below(_)) => false,
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Below(suffix) => write!(f, "*{suffix}"),
        }
    }
}

/// The host in a `Host` field: without the port, and without the dot that ends a full name.
pub(super) fn host_of(field: &str) -> &str {
    let end = match field.strip_prefix('[') {
        Some(literal) => literal.find(']').map_or(field.len(), |end| end + 2),
        None => field.find(':').unwrap_or(field.len()),
    };
    let host = field.get(..end).unwrap_or(field);
    host.strip_suffix('.').unwrap_or(host)
}

/// Paths of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPattern {
    /// This one, decoded.
    Exact(Vec<u8>),
    /// This one and all below it; decoded, without the slash at its end.
    Below(Vec<u8>),
    /// All that an expression matches as a whole.
    Regex(PathRegex),
}

/// Why a text is no pattern of paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPathPattern {
    /// Paths begin with a slash.
    #[error("begin with `/`")]
    NoSlash,
    /// A star stands for whole segments at the end.
    #[error("have `*` only at its end, behind a `/`")]
    Star,
    /// The query is no part of it.
    #[error("have no `?` and no `#`: the query is not part of it")]
    Query,
    /// No path is matched in such a form.
    #[error("have no `//`, no `.` and no `..` as a part, which no matched path has")]
    Unresolved,
}

impl PathPattern {
    /// Reads `/a` or `/a/*`.
    pub fn parse(text: &str) -> Result<Self, NoPathPattern> {
        let (base, is_prefix) = match text.strip_suffix("/*") {
            Some(base) => (base, true),
            None => (text, false),
        };
        if !text.starts_with('/') {
            return Err(NoPathPattern::NoSlash);
        }
        if base.contains('*') {
            return Err(NoPathPattern::Star);
        }
        if base.contains(['?', '#']) {
            return Err(NoPathPattern::Query);
        }
        let decoded = path::decoded(base);
        let is_resolved = base.is_empty() || Path::new(base).plain() == decoded.as_slice();
        if !is_resolved || is_prefix && base.ends_with('/') {
            return Err(NoPathPattern::Unresolved);
        }
        Ok(if is_prefix { Self::Below(decoded) } else { Self::Exact(decoded) })
    }

    /// Whether a path is one of them.
    pub fn matches(&self, path: &Path<'_>) -> bool {
        let plain = path.plain();
        match self {
            Self::Exact(exact) => plain == exact.as_slice(),
            Self::Below(base) => {
                plain.strip_prefix(base.as_slice()).is_some_and(|rest| match rest {
                    [] => !base.is_empty(),
                    [first, ..] => *first == b'/',
                })
            }
            Self::Regex(regex) => regex.0.is_match(plain),
        }
    }

    /// How many parts of a path it tells apart.
    pub fn groups(&self) -> usize {
        match self {
            Self::Exact(_) => 0,
            Self::Below(_) => 1,
            Self::Regex(regex) => regex.0.captures_len() - 1,
        }
    }

    /// Where part `group`, counted from 1, stands in a path that it matches; nowhere: empty.
    pub(super) fn group(&self, group: usize, path: &Path<'_>) -> Range<usize> {
        let plain = path.plain();
        let found = match self {
            Self::Exact(_) => None,
            Self::Below(base) => Some((base.len() + 1).min(plain.len())..plain.len()),
            Self::Regex(regex) => regex
                .0
                .captures(plain)
                .and_then(|captures| captures.get(group))
                .map(|part| part.range()),
        };
        found.unwrap_or(0..0)
    }

    /// Whether every path of `other` is known to be one of these.
    pub(super) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Below(base), Self::Exact(other) | Self::Below(other)) => {
                other.strip_prefix(base.as_slice()).is_some_and(|rest| match rest {
                    [] => true,
                    [first, ..] => *first == b'/',
                })
            }
            (Self::Below(base), Self::Regex(_)) => base.is_empty(),
            (Self::Exact(_) | Self::Regex(_), _) => self == other,
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => f.write_str(&String::from_utf8_lossy(path)),
            Self::Below(base) => write!(f, "{}/*", String::from_utf8_lossy(base)),
            Self::Regex(regex) => f.write_str(&regex.1),
        }
    }
}

/// A regular expression over whole paths, and how it was written. Bytes, not characters: a path may
/// decode to anything, and no byte may slip through a `.`.
#[derive(Clone, Debug)]
pub struct PathRegex(Regex, String);

impl PathRegex {
    /// Compiles an expression.
    pub fn parse(text: &str) -> Result<Self, regex::Error> {
        let build =
            |text: &str| RegexBuilder::new(text).unicode(false).dot_matches_new_line(true).build();
        // By itself first: what is put around it could mend it, or be named in its error.
        build(text)?;
        build(&format!(r"\A(?:{text})\z")).map(|regex| Self(regex, text.to_owned()))
    }
}

impl PartialEq for PathRegex {
    fn eq(&self, other: &Self) -> bool {
        self.1 == other.1
    }
}

impl Eq for PathRegex {}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(pattern: &str, host: &str) -> bool {
        HostPattern::parse(pattern).unwrap().matches(host_of(host))
    }

    fn path(pattern: &str, sent: &str) -> bool {
        PathPattern::parse(pattern).unwrap().matches(&Path::new(sent))
    }

    fn regex(pattern: &str) -> PathPattern {
        PathPattern::Regex(PathRegex::parse(pattern).unwrap())
    }

    #[test]
    fn a_host_is_matched_whatever_its_case_port_and_final_dot() {
        for asked in ["a.example", "A.Example", "a.example:8080", "a.example.", "a.example.:80"] {
            assert!(host("a.EXAMPLE", asked), "{asked}");
        }
        for asked in ["b.example", "a.example.b", "x.a.example", ""] {
            assert!(!host("a.example", asked), "{asked}");
        }
        assert!(host("[2001:db8::1]", "[2001:DB8::1]:80"));
        assert!(host("192.0.2.1", "192.0.2.1:80"));
    }

    #[test]
    fn a_wildcard_matches_every_name_below_and_not_the_name_itself() {
        for asked in ["a.example.com", "a.b.EXAMPLE.com:1"] {
            assert!(host("*.example.com", asked), "{asked}");
        }
        for asked in ["example.com", ".example.com", "aexample.com", "a.example.com.evil"] {
            assert!(!host("*.example.com", asked), "{asked}");
        }
    }

    #[test]
    fn what_is_no_host_is_no_pattern() {
        for text in ["", "*", "*.", "a..b", "a:80", "a.*.b", "http://a", "a/b", "[::1", "é.example"]
        {
            assert_eq!(HostPattern::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_exact_path_is_that_path_alone() {
        assert!(path("/a", "/a") && path("/a", "/%61") && path("/", "/"));
        assert!(!path("/a", "/a/") && !path("/a", "/a/b") && !path("/a", "/A"));
    }

    #[test]
    fn a_prefix_matches_whole_segments_and_the_path_itself() {
        for sent in ["/a", "/a/", "/a/b", "/a/b/c", "/x/../a/b", "//a", "/%61/b", "/a%2Fb"] {
            assert!(path("/a/*", sent), "{sent}");
        }
        for sent in ["/ab", "/", "/b/a", "/a/../b", "*"] {
            assert!(!path("/a/*", sent), "{sent}");
        }
        assert!(path("/*", "/") && path("/*", "/a") && !path("/*", "*"));
    }

    #[test]
    fn a_pattern_may_be_written_with_escapes_or_without() {
        assert!(path("/caf%C3%A9", "/caf%c3%a9"));
        assert!(path("/café/*", "/caf%C3%A9/x"));
    }

    #[test]
    fn patterns_that_no_path_can_match_are_none() {
        for (text, why) in [
            ("a", NoPathPattern::NoSlash),
            ("", NoPathPattern::NoSlash),
            ("/a*", NoPathPattern::Star),
            ("/*/a", NoPathPattern::Star),
            ("/a?b", NoPathPattern::Query),
            ("/a#b/*", NoPathPattern::Query),
            ("/a/../b", NoPathPattern::Unresolved),
            ("/a//b", NoPathPattern::Unresolved),
            ("//*", NoPathPattern::Unresolved),
            ("/a//*", NoPathPattern::Unresolved),
            ("/a/./*", NoPathPattern::Unresolved),
        ] {
            assert_eq!(PathPattern::parse(text), Err(why), "{text}");
        }
    }

    #[test]
    fn an_expression_matches_whole_paths() {
        let pattern = regex("/v[0-9]+|/w");
        for (sent, expected) in
            [("/v1", true), ("/w", true), ("/v1/a", false), ("/x/v1", false), ("/%76%31", true)]
        {
            assert_eq!(pattern.matches(&Path::new(sent)), expected, "{sent}");
        }
    }

    #[test]
    fn no_byte_slips_through_a_dot() {
        for sent in ["/admin/%0a", "/admin/%ff", "/admin/%00"] {
            assert!(regex("/admin/.*").matches(&Path::new(sent)), "{sent}");
        }
    }

    #[test]
    fn what_is_put_around_an_expression_does_not_mend_it() {
        for text in ["a)(b", "(", "[", "(?=a)"] {
            assert!(PathRegex::parse(text).is_err(), "{text}");
        }
    }
}

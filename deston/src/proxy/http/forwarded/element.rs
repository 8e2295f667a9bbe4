//! Elements of `Forwarded` (RFC 7239 section 4), read from the right: the last ones are a trusted
//! proxy's, and whatever stands left of them, an open quote above all, changes nothing about them.

use std::net::IpAddr;

use http::HeaderValue;

/// What one proxy says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Element {
    /// `for`, its quotes removed.
    pub(super) node: Option<String>,
}

/// The elements, the last one first; `None` of one that cannot be read, which is the last given.
pub(super) fn from_the_right(text: &str) -> impl Iterator<Item = Option<Element>> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let (before, last) = split_last(rest?);
        let element = parse(last);
        rest = before.filter(|_| element.is_some());
        Some(element)
    })
}

/// The end of a list that can be read; `None` if that is nothing.
pub(super) fn readable(text: &str) -> Option<&str> {
    let (mut rest, mut end) = (Some(text), None);
    while let Some(left) = rest {
        let (before, last) = split_last(left);
        if parse(last).is_none() {
            break;
        }
        let start = before.map_or(0, |before| before.len() + 1);
        end = text.get(start..);
        rest = before;
    }
    end.map(str::trim_start)
}

/// An element of our own. A host is quoted, since it may have a port.
pub(super) fn compose(peer: IpAddr, host: Option<&HeaderValue>, scheme: &str) -> String {
    let mut element = match peer {
        IpAddr::V4(peer) => format!("for={peer}"),
        IpAddr::V6(peer) => format!("for=\"[{peer}]\""),
    };
    let quotable = |host: &&str| !host.contains(['"', '\\']);
    if let Some(host) = host.and_then(|host| host.to_str().ok()).filter(quotable) {
        element.push_str(&format!(";host=\"{host}\""));
    }
    element.push_str(&format!(";proto={scheme}"));
    element
}

/// A scheme that a client may have used.
pub(super) fn scheme(text: &str) -> Option<&'static str> {
    ["http", "https"].into_iter().find(|scheme| text.eq_ignore_ascii_case(scheme))
}

/// What stands before the last comma outside of quotes, and what after it.
fn split_last(text: &str) -> (Option<&str>, &str) {
    let bytes = text.as_bytes();
    let mut quoted = false;
    for (at, &byte) in bytes.iter().enumerate().rev() {
        match byte {
            b'"' => {
                let before = bytes.get(..at).unwrap_or_default();
                let escapes = before.iter().rev().take_while(|&&byte| byte == b'\\').count();
                quoted ^= escapes % 2 == 0;
            }
            b',' if !quoted => return (text.get(..at), text.get(at + 1..).unwrap_or_default()),
            _ => {}
        }
    }
    (None, text)
}

/// Pairs of a token and a value, each token once.
fn parse(text: &str) -> Option<Element> {
    let mut element = Element::default();
    let mut names: Vec<&str> = Vec::new();
    let mut rest = text.trim();
    loop {
        let (name, after) = rest.split_once('=')?;
        let again = names.iter().any(|other| other.eq_ignore_ascii_case(name));
        if !is_token(name) || again {
            return None;
        }
        names.push(name);
        let (value, after) = value(after)?;
        if name.eq_ignore_ascii_case("for") {
            element.node = Some(value);
        }
        match after.trim_start() {
            "" => return Some(element),
            more => rest = more.strip_prefix(';')?.trim_start(),
        }
    }
}

/// A token, or what is in quotes; and what follows it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([';', ' ', '\t']).unwrap_or(text.len());
        let (value, after) = text.split_at_checked(end)?;
        // Colons and brackets need quotes, which not every proxy writes.
        let tolerated: String = value.chars().filter(|char| !":[]".contains(*char)).collect();
        return (!value.is_empty() && (tolerated.is_empty() || is_token(&tolerated)))
            .then(|| (value.to_owned(), after));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, quoted.get(at + 1..)?)),
            '\\' => value.push(chars.next()?.1),
            _ => value.push(char),
        }
    }
    None
}

fn is_token(text: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(valid)
}

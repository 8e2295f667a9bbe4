//! Version 1: one line of text.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::{Ends, Header, Malformed, Progress};

/// Begins every header.
pub(super) const START: [u8; 6] = *b"PROXY ";

/// The longest line, its end included.
const LONGEST: usize = 107;

/// Parses bytes that begin like a header.
pub(super) fn parse(bytes: &[u8]) -> Result<Progress, Malformed> {
    let looked_at = bytes.get(..LONGEST).unwrap_or(bytes);
    let Some(end) = looked_at.iter().position(|&byte| byte == b'\n') else {
        let full = looked_at.len() == LONGEST;
        return if full { Err(Malformed::Length) } else { Ok(Progress::Partial) };
    };
    let line = looked_at.get(START.len()..end).and_then(|line| line.strip_suffix(b"\r"));
    let line = line.and_then(|line| std::str::from_utf8(line).ok()).ok_or(Malformed::Line)?;
    Ok(Progress::Whole { header: header(line)?, length: end + 1 })
}

/// What follows `PROXY `.
fn header(line: &str) -> Result<Header, Malformed> {
    let mut words = line.split(' ');
    match words.next() {
        // Whatever else is on the line is to be ignored.
        Some("UNKNOWN") => return Ok(Header::Own),
        Some("TCP4") => ends::<Ipv4Addr>(words),
        Some("TCP6") => ends::<Ipv6Addr>(words),
        Some(_) | None => None,
    }
    .map(Header::Proxied)
    .ok_or(Malformed::Line)
}

fn ends<'a, A: FromStr + Into<IpAddr>>(mut words: impl Iterator<Item = &'a str>) -> Option<Ends> {
    let mut address = || Some(words.next()?.parse::<A>().ok()?.into());
    let (client, reached): (IpAddr, IpAddr) = (address()?, address()?);
    let mut port = || port(words.next()?);
    let (from, to) = (port()?, port()?);
    let ends =
        Ends { client: SocketAddr::new(client, from), reached: SocketAddr::new(reached, to) };
    words.next().is_none().then_some(ends)
}

/// Digits alone, without a zero before others.
fn port(word: &str) -> Option<u16> {
    let plain = word.bytes().all(|byte| byte.is_ascii_digit());
    let padded = word.len() > 1 && word.starts_with('0');
    if plain && !padded { word.parse().ok() } else { None }
}

/// A header, ready to be sent.
pub(super) fn compose(header: Header) -> Vec<u8> {
    let Header::Proxied(Ends { client, reached }) = header else {
        return b"PROXY UNKNOWN\r\n".to_vec();
    };
    let (from, to) = (client.port(), reached.port());
    let line = match (client.ip(), reached.ip()) {
        (IpAddr::V4(client), IpAddr::V4(reached)) => {
            format!("PROXY TCP4 {client} {reached} {from} {to}\r\n")
        }
        (client, reached) => {
            let (client, reached) = (super::v2::wide(client), super::v2::wide(reached));
            format!("PROXY TCP6 {client} {reached} {from} {to}\r\n")
        }
    };
    line.into_bytes()
}

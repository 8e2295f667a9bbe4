//! The PROXY protocol (haproxy.org, proxy-protocol.txt): what a proxy says of a connection before
//! the first byte of its client.
//!
//! Pure: `origin` reads what is parsed here, `connect` and the probes send what is made here. A
//! parser of our own, since those of crates.io let pass what the text forbids (`+80` is a port to
//! them, a header without its space one with it) and leave the checksum to the caller.

mod crc32c;
#[cfg(test)]
mod tests;
mod v1;
mod v2;

use std::net::SocketAddr;

use deston_common::flow::FlowKey;
use deston_common::net::{Be16, Ipv6Be};

use crate::model::ProxyProtocol;

/// The longest header that is read. The text asks for room for 536 bytes; a certificate of the
/// client's, which HAProxy can add, needs some more.
pub(crate) const LONGEST: usize = 4_096;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    /// The connection is the proxy's own, or of a client that has no address: what is known of
    /// the socket holds.
    Own,
    /// It is a client's.
    Proxied(Ends),
}

/// The two ends of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    /// The client.
    pub(crate) client: SocketAddr,
    /// What it connected to.
    pub(crate) reached: SocketAddr,
}

/// How far the bytes of a connection are a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Not at all: no header begins like this.
    Absent,
    /// So far, and it goes on.
    Partial,
    /// It ends after `length` bytes.
    Whole {
        /// What it says.
        header: Header,
        /// Its bytes.
        length: usize,
    },
}

/// A header that breaks its rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    /// Of version 1: its line.
    #[error("its line is none of the PROXY protocol")]
    Line,
    /// Of version 2: its version, command, family or transport.
    #[error("it is of a kind that the PROXY protocol does not have")]
    Kind,
    /// Longer than what is read, or too short for what is in it.
    #[error("its length cannot be right")]
    Length,
    /// Of version 2: the checksum.
    #[error("its checksum is wrong")]
    Checksum,
}

/// Looks for a header at the start of a connection.
pub(crate) fn parse(bytes: &[u8]) -> Result<Progress, Malformed> {
    let is_begun = |start: &[u8]| {
        let length = start.len().min(bytes.len());
        bytes.get(..length) == start.get(..length)
    };
    if bytes.is_empty() {
        Ok(Progress::Partial)
    } else if is_begun(&v1::START) {
        v1::parse(bytes)
    } else if is_begun(&v2::SIGNATURE) {
        v2::parse(bytes)
    } else {
        Ok(Progress::Absent)
    }
}

/// A header, ready to be sent.
pub(crate) fn compose(version: ProxyProtocol, header: Header) -> Vec<u8> {
    match version {
        ProxyProtocol::V1 => v1::compose(header),
        ProxyProtocol::V2 => v2::compose(header),
    }
}

impl Ends {
    /// The ends that a connection's tuple names.
    pub(crate) fn of(key: &FlowKey<Ipv6Be>) -> Self {
        let end = |address: Ipv6Be, port: Be16| {
            let wide = std::net::Ipv6Addr::from(address.octets());
            SocketAddr::new(wide.to_canonical(), port.to_host())
        };
        Self {
            client: end(key.source, key.source_port),
            reached: end(key.destination, key.destination_port),
        }
    }
}

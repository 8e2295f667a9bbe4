//! The way of a request: who is on it, and who of them is the client.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::model::Origin;

/// The client of a request that came from `peer`, which is trusted, by way of `nodes`, the nearest
/// first: the first that is not trusted. Where a node is not known, the way before it is not
/// either, and the last trusted one counts.
pub(super) fn client(
    peer: IpAddr,
    nodes: impl Iterator<Item = Option<IpAddr>>,
    origin: &Origin,
) -> IpAddr {
    let mut client = peer;
    for node in nodes {
        let Some(node) = node else { break };
        client = node;
        if !origin.trusts(node) {
            break;
        }
    }
    client
}

/// The address of a node, in the forms that proxies write: alone, in brackets, with a port. `None`
/// of `unknown`, of a name that hides it (RFC 7239 6.3), and of anything else.
pub(super) fn node(text: &str) -> Option<IpAddr> {
    let address = match text.parse::<IpAddr>() {
        Ok(address) => Some(address),
        Err(_) => with_port(text),
    };
    address.map(|address| address.to_canonical())
}

fn with_port(text: &str) -> Option<IpAddr> {
    if let Some((address, rest)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        let address: Ipv6Addr = address.parse().ok()?;
        return (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port))
            .then_some(address.into());
    }
    let (address, port) = text.split_once(':')?;
    let address = format!("{address}:0").parse::<SocketAddr>().ok()?.ip();
    is_port(port).then_some(address)
}

/// A port, or a name that hides it.
fn is_port(text: &str) -> bool {
    let hidden = text.strip_prefix('_');
    match hidden {
        Some(name) => {
            let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            !name.is_empty() && name.bytes().all(valid)
        }
        None => (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

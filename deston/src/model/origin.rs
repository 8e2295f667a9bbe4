//! Whom a listener believes when told who its clients are.

use std::net::IpAddr;
use std::time::Duration;

use super::Prefixes;
use super::http::DEFAULT_TLS_HANDSHAKE;

/// `trusted_proxies` and `accept_proxy_protocol` of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Peers that are believed. Default: none.
    pub trusted_proxies: Prefixes,
    /// Whether they begin connections with a header of the PROXY protocol. Default: no.
    pub accept: AcceptProxyProtocol,
    /// How long such a header may take, from accept on; zero: however long. `tls_handshake` of
    /// the listener, default 5 s.
    pub deadline: Duration,
}

impl Default for Origin {
    fn default() -> Self {
        Self {
            trusted_proxies: Prefixes::default(),
            accept: AcceptProxyProtocol::Off,
            deadline: DEFAULT_TLS_HANDSHAKE,
        }
    }
}

impl Origin {
    /// Whether a peer is believed.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        !self.trusted_proxies.is_empty() && self.trusted_proxies.holds(peer.to_canonical())
    }
}

/// `accept_proxy_protocol`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AcceptProxyProtocol {
    /// No header is expected of anybody.
    #[default]
    Off,
    /// A trusted peer may send one.
    Optional,
    /// Only trusted peers connect, and each sends one.
    Require,
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// Text.
    V1,
    /// Binary.
    V2,
}

/// `forwarded` of `[listener.headers]`: which fields tell a server of its client. Of a trusted peer,
/// these fields alone are believed: it may pass the others on as its own clients write them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardedFields {
    /// X-Forwarded-For, -Proto and -Host.
    #[default]
    X,
    /// Forwarded (RFC 7239).
    Rfc7239,
    /// All of them.
    Both,
    /// None.
    Off,
}

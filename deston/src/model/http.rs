//! What a layer 7 listener adds.

use std::sync::Arc;
use std::time::Duration;

use super::listener::DEFAULT_TUNNEL_IDLE;
use super::{
    Auth, DatapathChoice, ErrorPages, ForwardedFields, Identity, Limits, MessageEdits,
    RequestLimit, Route, Rules, Tls,
};

/// `tls_handshake`, of both layers.
pub(super) const DEFAULT_TLS_HANDSHAKE: Duration = Duration::from_secs(5);

/// Settings of a layer 7 listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct L7 {
    /// Where the guard runs; requests are balanced in userspace.
    pub datapath: DatapathChoice,
    /// Interfaces that the guard is attached to; empty: those that reach clients.
    pub interfaces: Vec<String>,
    /// Client side deadlines.
    pub timeouts: HttpTimeouts,
    /// TLS; `None`: connections are in clear.
    pub tls: Option<Tls>,
    /// Whether HTTP/2 is spoken: where ALPN chooses it, and in clear with clients that know
    /// beforehand (RFC 9113 3.3). Default: yes.
    pub h2: bool,
    /// In file order: the first that matches a request decides; none: the listener's pool.
    pub routes: Vec<Arc<Route>>,
    /// Changes to the fields of every request and response, before those of its route.
    pub edits: Arc<MessageEdits>,
    /// Which fields tell servers of their clients.
    pub forwarded: ForwardedFields,
    /// Which requests are taken.
    pub rules: Rules,
    /// How much a client may ask for.
    pub limits: Limits,
    /// How requests are told apart.
    pub identity: Identity,
    /// What clients are shown when no server answers.
    pub error_pages: ErrorPages,
    /// Who may make requests; `None`: everybody.
    pub auth: Option<Auth>,
    /// How many requests a client may make; `None`: no limit.
    pub request_limit: Option<RequestLimit>,
}

/// `[listener.timeouts]` of a layer 7 listener. Zero switches a deadline off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpTimeouts {
    /// First byte to end of the request head. Default 10 s.
    pub request_head: Duration,
    /// Keep-alive without a request. Default 60 s.
    pub client_idle: Duration,
    /// No byte either way in a body. Default 5 min.
    pub stream_idle: Duration,
    /// No byte either way in a WebSocket. Default 1 h.
    pub tunnel_idle: Duration,
    /// Accept to the end of the TLS handshake. Default 5 s.
    pub tls_handshake: Duration,
}

impl Default for L7 {
    fn default() -> Self {
        Self {
            datapath: DatapathChoice::Auto,
            interfaces: Vec::new(),
            timeouts: HttpTimeouts::default(),
            tls: None,
            h2: true,
            routes: Vec::new(),
            edits: Arc::default(),
            forwarded: ForwardedFields::X,
            rules: Rules::default(),
            limits: Limits::default(),
            identity: Identity::default(),
            error_pages: ErrorPages::default(),
            auth: None,
            request_limit: None,
        }
    }
}

impl Default for HttpTimeouts {
    fn default() -> Self {
        Self {
            request_head: Duration::from_secs(10),
            client_idle: Duration::from_secs(60),
            stream_idle: Duration::from_secs(5 * 60),
            tunnel_idle: DEFAULT_TUNNEL_IDLE,
            tls_handshake: DEFAULT_TLS_HANDSHAKE,
        }
    }
}

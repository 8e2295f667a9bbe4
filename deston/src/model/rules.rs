//! `[listener.http]`: which requests of a layer 7 listener are taken.

/// What a request may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// What is made of requests that two parties could read differently. Default: strict.
    pub mode: Mode,
    /// Methods that are taken; empty: any but TRACE and CONNECT.
    pub methods: Vec<http::Method>,
    /// Whether TRACE is taken. Default: no.
    pub trace: bool,
    /// Tokens of `Upgrade` that may become tunnels, in lower case. Default: `websocket`.
    pub upgrades: Vec<String>,
    /// Fields with `_` in their names. Default: dropped.
    pub underscores: Underscores,
}

/// How ambiguous requests are met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Refused.
    #[default]
    Strict,
    /// Read as RFC 9112 says they are to be read if they are.
    Lenient,
}

/// What becomes of request fields with `_` in their names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Underscores {
    /// They are dropped: programs behind CGI-like interfaces take them for others.
    #[default]
    Drop,
    /// They pass, but for those that such programs take for fields of a proxy.
    Keep,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            methods: Vec::new(),
            trace: false,
            upgrades: vec!["websocket".to_owned()],
            underscores: Underscores::default(),
        }
    }
}

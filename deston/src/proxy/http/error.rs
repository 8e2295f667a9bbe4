//! Why a request was not answered by a server: whose fault it is, whether another server may be
//! tried, and the status it becomes.

use std::io;
use std::net::SocketAddr;

use http::StatusCode;

use super::validate::Refusal;

/// Why a request was not answered by a server.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The request must not be forwarded.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The client's body broke off or is malformed.
    #[error("the request's body is broken")]
    RequestBody(#[source] hyper::Error),
    /// The pool has no server that takes requests.
    #[error("no server is eligible")]
    NoServer,
    /// Every eligible server has `max_connections` busy connections.
    #[error("every server is at its max_connections")]
    Full,
    /// The server does not take connections.
    #[error("cannot connect to {server}")]
    Connect {
        /// Where.
        server: SocketAddr,
        /// What the kernel says.
        source: io::Error,
    },
    /// The server does not answer to a SYN.
    #[error("connecting to {server} took too long")]
    ConnectOverdue {
        /// Where.
        server: SocketAddr,
    },
    /// A fresh connection ended before the request was written.
    #[error("{server} closed a fresh connection")]
    NotSent {
        /// Where.
        server: SocketAddr,
        /// What hyper says.
        source: hyper::Error,
    },
    /// The connection broke after bytes of the request were written, or the response is no HTTP.
    #[error("no valid response from {server}")]
    Response {
        /// Where.
        server: SocketAddr,
        /// What hyper says.
        source: hyper::Error,
    },
    /// The response's body cannot be delimited safely.
    #[error("the response of {server} has an unknown framing")]
    ResponseFraming {
        /// Where.
        server: SocketAddr,
    },
    /// 101 to a request that asked for nothing, or for something else.
    #[error("{server} switched protocols unasked")]
    UnaskedUpgrade {
        /// Where.
        server: SocketAddr,
    },
    /// `response_head` has passed.
    #[error("{server} took too long to respond")]
    ResponseOverdue {
        /// Where.
        server: SocketAddr,
    },
    /// A layer 7 connection of a layer 4 listener.
    #[error("the listener does not serve HTTP")]
    NotHttp,
}

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The client's.
    Downstream,
    /// The servers'.
    Upstream,
    /// Ours.
    Internal,
}

impl Error {
    /// Whose fault it is; a client's never counts against a server.
    pub(super) fn side(&self) -> Side {
        match self {
            Self::Refused(_) | Self::RequestBody(_) => Side::Downstream,
            Self::NoServer
            | Self::Full
            | Self::Connect { .. }
            | Self::ConnectOverdue { .. }
            | Self::NotSent { .. }
            | Self::Response { .. }
            | Self::ResponseFraming { .. }
            | Self::UnaskedUpgrade { .. }
            | Self::ResponseOverdue { .. } => Side::Upstream,
            Self::NotHttp => Side::Internal,
        }
    }

    /// Whether no byte of the request can have reached the server, so that another may be tried
    /// whatever the method.
    pub(super) fn is_retryable(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::ConnectOverdue { .. } | Self::NotSent { .. } => true,
            Self::Refused(_)
            | Self::RequestBody(_)
            | Self::NoServer
            | Self::Full
            | Self::Response { .. }
            | Self::ResponseFraming { .. }
            | Self::UnaskedUpgrade { .. }
            | Self::ResponseOverdue { .. }
            | Self::NotHttp => false,
        }
    }

    /// What the client is told (RFC 9110 15.5 and 15.6).
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Refused(refusal) => refusal.status(),
            Self::RequestBody(_) => StatusCode::BAD_REQUEST,
            Self::NoServer | Self::Full => StatusCode::SERVICE_UNAVAILABLE,
            Self::Connect { .. }
            | Self::NotSent { .. }
            | Self::Response { .. }
            | Self::ResponseFraming { .. }
            | Self::UnaskedUpgrade { .. } => StatusCode::BAD_GATEWAY,
            Self::ConnectOverdue { .. } | Self::ResponseOverdue { .. } => {
                StatusCode::GATEWAY_TIMEOUT
            }
            Self::NotHttp => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

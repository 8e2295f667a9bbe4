//! Why a request was not answered by a server: whose fault it is, and the status it becomes.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http::StatusCode;

use super::validate::Refusal;
use crate::proxy::connect::{self, Refused};

/// Why a request was not answered by a server.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The request must not be forwarded.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The client makes more requests than it may.
    #[error("too many requests")]
    TooManyRequests {
        /// Until there may be another.
        after: Duration,
    },
    /// The client shows no user's password.
    #[error("no user's password")]
    Unauthorized,
    /// Too many passwords wait to be checked.
    #[error("too many passwords wait to be checked")]
    TooManyPasswords,
    /// The client's body broke off or is malformed.
    #[error("the request's body is broken")]
    RequestBody(#[source] hyper::Error),
    /// No server was connected to.
    #[error(transparent)]
    Unserved(#[from] connect::Refused),
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
            Self::Refused(_)
            | Self::RequestBody(_)
            | Self::TooManyRequests { .. }
            | Self::Unauthorized => Side::Downstream,
            Self::Unserved(Refused::Exhausted(_)) => Side::Internal,
            Self::Unserved(_)
            | Self::NotSent { .. }
            | Self::Response { .. }
            | Self::ResponseFraming { .. }
            | Self::UnaskedUpgrade { .. }
            | Self::ResponseOverdue { .. } => Side::Upstream,
            Self::NotHttp | Self::TooManyPasswords => Side::Internal,
        }
    }

    /// What the access log is told.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.reason(),
            Self::TooManyRequests { .. } => "rate_limited",
            Self::Unauthorized => "unauthorized",
            Self::TooManyPasswords => "too_many_passwords",
            Self::RequestBody(_) => "request_body",
            Self::Unserved(Refused::Empty { .. }) => "no_server",
            Self::Unserved(Refused::Full { .. }) => "servers_full",
            Self::Unserved(Refused::Exhausted(_)) => "exhausted",
            Self::Unserved(Refused::Unreachable { .. }) => "connect",
            Self::NotSent { .. } | Self::Response { .. } => "no_response",
            Self::ResponseFraming { .. } => "response_framing",
            Self::UnaskedUpgrade { .. } => "unasked_upgrade",
            Self::ResponseOverdue { .. } => "response_overdue",
            Self::NotHttp => "not_http",
        }
    }

    /// What the client is told (RFC 9110 15.5 and 15.6).
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Refused(refusal) => refusal.status(),
            Self::TooManyRequests { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::TooManyPasswords => StatusCode::SERVICE_UNAVAILABLE,
            Self::RequestBody(_) => StatusCode::BAD_REQUEST,
            Self::Unserved(Refused::Unreachable { source, .. })
                if source.kind() == io::ErrorKind::TimedOut =>
            {
                StatusCode::GATEWAY_TIMEOUT
            }
            Self::Unserved(Refused::Unreachable { .. }) => StatusCode::BAD_GATEWAY,
            Self::Unserved(
                Refused::Empty { .. } | Refused::Full { .. } | Refused::Exhausted(_),
            ) => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotSent { .. }
            | Self::Response { .. }
            | Self::ResponseFraming { .. }
            | Self::UnaskedUpgrade { .. } => StatusCode::BAD_GATEWAY,
            Self::ResponseOverdue { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::NotHttp => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

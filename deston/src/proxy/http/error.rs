//! Why a request was not answered by a server: whose fault it is, and the status it becomes.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http::StatusCode;

use super::upload;
use super::validate::Refusal;
use crate::proxy::connect::{self, Refused};

/// Why a request was not answered by a server.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The request must not be forwarded.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The guard's lists refuse the client that a trusted proxy names.
    #[error("the client is denied")]
    Denied,
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
    /// Over `headers`.
    #[error("the response of {server} has too many fields")]
    ResponseFields {
        /// Where.
        server: SocketAddr,
    },
    /// 101 to a request that asked for nothing, or for something else.
    #[error("{server} switched protocols unasked")]
    UnaskedUpgrade {
        /// Where.
        server: SocketAddr,
    },
    /// A success other than 101 to an extended CONNECT, which a client of HTTP/2 would take for one.
    #[error("{server} answered a request for a WebSocket without one")]
    NoUpgrade {
        /// Where.
        server: SocketAddr,
    },
    /// The server answered with an error, and nobody could be asked instead.
    #[error("{server} answered with status {status}")]
    Failed {
        /// Where.
        server: SocketAddr,
        /// What it said.
        status: StatusCode,
    },
    /// `total` has passed.
    #[error("no response in time")]
    Overdue,
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
            | Self::Denied
            | Self::RequestBody(_)
            | Self::TooManyRequests { .. }
            | Self::Unauthorized => Side::Downstream,
            Self::Unserved(Refused::Exhausted(_)) => Side::Internal,
            Self::Unserved(_)
            | Self::NotSent { .. }
            | Self::Response { .. }
            | Self::ResponseFraming { .. }
            | Self::ResponseFields { .. }
            | Self::UnaskedUpgrade { .. }
            | Self::NoUpgrade { .. }
            | Self::Failed { .. }
            | Self::Overdue
            | Self::ResponseOverdue { .. } => Side::Upstream,
            Self::NotHttp | Self::TooManyPasswords => Side::Internal,
        }
    }

    /// What the access log is told.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.reason(),
            Self::Denied => "denied",
            Self::TooManyRequests { .. } => "rate_limited",
            Self::Unauthorized => "unauthorized",
            Self::TooManyPasswords => "too_many_passwords",
            Self::RequestBody(source) if upload::is_too_large(source) => "body_too_large",
            Self::RequestBody(_) => "request_body",
            Self::Unserved(Refused::Empty { .. }) => "no_server",
            Self::Unserved(Refused::Full { .. }) => "servers_full",
            Self::Unserved(Refused::Late { .. }) => "queue_timeout",
            Self::Unserved(Refused::Exhausted(_)) => "exhausted",
            Self::Unserved(Refused::Unreachable { .. }) => "connect",
            Self::NotSent { .. } | Self::Response { .. } => "no_response",
            Self::Failed { .. } => "server_error",
            Self::ResponseFraming { .. } => "response_framing",
            Self::ResponseFields { .. } => "response_fields",
            Self::UnaskedUpgrade { .. } => "unasked_upgrade",
            Self::NoUpgrade { .. } => "no_upgrade",
            Self::ResponseOverdue { .. } => "response_overdue",
            Self::Overdue => "overdue",
            Self::NotHttp => "not_http",
        }
    }

    /// What the client is told (RFC 9110 15.5 and 15.6).
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Refused(refusal) => refusal.status(),
            Self::Denied => StatusCode::FORBIDDEN,
            Self::RequestBody(source) if upload::is_too_large(source) => {
                StatusCode::PAYLOAD_TOO_LARGE
            }
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
                Refused::Empty { .. }
                | Refused::Full { .. }
                | Refused::Late { .. }
                | Refused::Exhausted(_),
            ) => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotSent { .. }
            | Self::Response { .. }
            | Self::ResponseFraming { .. }
            | Self::ResponseFields { .. }
            | Self::UnaskedUpgrade { .. }
            | Self::NoUpgrade { .. } => StatusCode::BAD_GATEWAY,
            Self::Failed { status, .. } => *status,
            Self::ResponseOverdue { .. } | Self::Overdue => StatusCode::GATEWAY_TIMEOUT,
            Self::NotHttp => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

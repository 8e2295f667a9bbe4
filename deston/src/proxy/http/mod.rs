//! Layer 7: HTTP/1 connections of clients, and to servers.
//!
//! A request passes the files in this order; docs/life-of-a-request.md tells it at length:
//! `serve` (one client connection) -> `answer` (one request: `validate`, `route`, `headers`, the reply) ->
//! `exchange` (choose a server, send, retry) -> `upstreams` (a pooled connection) or `connect` (a
//! fresh one) -> `wire` (hyper's side of it) -> `body` (streaming back) -> `upgrade` (WebSockets).
//!
//! Everything of a request runs inside its client connection's task: an upstream connection is
//! polled by the request it carries, so there is nothing to hand over, wake or lock.

mod access;
mod answer;
mod auth;
mod body;
mod clock;
mod downstream;
mod error;
mod exchange;
mod flood;
mod forwarded;
mod hashed;
mod headers;
mod hops;
mod http1;
mod http2;
mod identity;
mod limit;
mod logged;
mod negotiate;
mod replay;
mod respond;
mod route;
mod scan;
mod serve;
mod shared;
mod sticky;
mod task;
mod timer;
mod trailers;
mod upgrade;
mod upload;
mod upstream;
mod upstreams;
mod validate;
mod versions;
mod websocket;
mod wire;

pub(crate) use auth::Turn;
pub(crate) use identity::Ids;
pub(super) use serve::serve;
pub(crate) use upstreams::Upstreams;

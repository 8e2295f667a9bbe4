//! What is told of a request.

use std::net::SocketAddr;

use deston::control::{FirstChoice, first_choice};
use deston::model::route::{Action, Asked, Destination, Forward};
use deston::model::{Layer, Listener, Model, Route};
use http::HeaderMap;
use http::header::HOST;

use super::super::{FAILED, OK};
use super::Request;

/// The answer.
pub(super) struct Told {
    pub(super) lines: Vec<String>,
    /// 0 if a server or an answer of success is there for the request.
    pub(super) code: u8,
}

/// Follows a request through the routes of its listener.
pub(super) fn tell(
    model: &Model,
    listener: &Listener,
    request: &Request,
    headers: &HeaderMap,
) -> Told {
    let mut lines = Vec::new();
    let url = &request.url;
    let named = headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = named.or(url.authority().map(|authority| authority.as_str()));
    let asked = Asked::new(&request.method, host, url.path(), url.query(), headers);
    lines.push(format!(
        "listener {} ({}): {} {}{}",
        listener.name,
        listener.address,
        request.method,
        asked.host.unwrap_or_default(),
        asked.path.shown(),
    ));
    if asked.path.plain() != url.path().as_bytes() {
        lines.push(format!("  the path is sent as {}", url.path()));
    }
    let routes = match &listener.layer {
        Layer::L4(_) => [].as_slice(),
        Layer::L7(l7) => &l7.routes,
    };
    for route in routes {
        match route.conditions.check(&asked) {
            Err(mismatch) => lines.push(format!("{route}: passed over, {mismatch}")),
            Ok(()) => {
                lines.push(format!("{route}: matches"));
                let code = act(model, listener, request, route, &asked, &mut lines);
                return Told { lines, code };
            }
        }
    }
    lines.push(match routes.len() {
        0 => format!("no routes: pool {}, the listener's", listener.pool),
        _ => format!("no route matches: pool {}, the listener's", listener.pool),
    });
    let code = server(model, &listener.pool, listener, request, &mut lines);
    Told { lines, code }
}

/// What a route makes of a request.
fn act(
    model: &Model,
    listener: &Listener,
    request: &Request,
    route: &Route,
    asked: &Asked<'_>,
    lines: &mut Vec<String>,
) -> u8 {
    match &route.action {
        Action::Redirect(redirect) => {
            let location = redirect.location(asked, &route.conditions);
            lines.push(format!("redirect: {} to {location}", redirect.status));
            OK
        }
        Action::Respond(respond) => {
            let length = respond.body.len();
            lines.push(format!("respond: {}, {length} bytes", respond.status));
            if respond.status.is_client_error() || respond.status.is_server_error() {
                FAILED
            } else {
                OK
            }
        }
        Action::Forward(Forward { to, .. }) => {
            match route.rewritten(asked) {
                None => {}
                Some(Ok(target)) => lines.push(format!("the server gets {target}")),
                Some(Err(_)) => {
                    lines.push("the rewritten path is too long: 414".to_owned());
                    return FAILED;
                }
            }
            let pool = match to {
                Destination::Pool(pool) => {
                    lines.push(format!("pool {pool}"));
                    pool
                }
                Destination::Split(split) => {
                    let share = |share: &deston::model::route::Share| {
                        format!("{} {}", share.pool, share.weight)
                    };
                    let shares: Vec<String> = split.shares.iter().map(share).collect();
                    let first = split.turn(0).and_then(|turn| split.shares.get(turn));
                    let Some(first) = first else { return FAILED };
                    let shares = shares.join(", ");
                    lines
                        .push(format!("pool {}, the first turn of the split {shares}", first.pool));
                    &first.pool
                }
            };
            server(model, pool, listener, request, lines)
        }
    }
}

/// The server that a pool gives the request.
fn server(
    model: &Model,
    pool: &str,
    listener: &Listener,
    request: &Request,
    lines: &mut Vec<String>,
) -> u8 {
    let Some(pool) = model.pool(pool) else { return FAILED };
    let client = SocketAddr::new(request.client, 0);
    let choice = first_choice(pool, &model.runtime.hash_seed, client, listener.address);
    let algorithm = pool.algorithm.name();
    let name = |server: &deston::model::Server| {
        if server.name == server.address.to_string() {
            server.name.clone()
        } else {
            format!("{} ({})", server.name, server.address)
        }
    };
    lines.push(match choice {
        FirstChoice::None => {
            lines.push("no server: all of them drain; 503".to_owned());
            return FAILED;
        }
        FirstChoice::FirstTurn(server) => {
            format!("server {}: the first turn of {algorithm}", name(server))
        }
        FirstChoice::Hashed(server) => {
            format!("server {}: {algorithm} of client {}", name(server), request.client)
        }
        FirstChoice::ByConnection(count) => {
            format!("server: one of {count}, by {algorithm} of each connection's client port")
        }
        FirstChoice::ByRequest(count) => {
            format!("server: one of {count}, by {algorithm} of a part of the request")
        }
        FirstChoice::Drawn(count) => format!("server: one of {count}, drawn by {algorithm}"),
    });
    lines.push(
        "(by the file alone: which servers are up, full or ejected, whose turn it is and which \
         clients keep a server is known to the running process)"
            .to_owned(),
    );
    OK
}

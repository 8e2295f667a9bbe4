//! One request, from its head to its response's head.

use std::convert::Infallible;
use std::error::Error as _;
use std::rc::Rc;
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, request};
use http_body::Body;
use hyper::body::Incoming;

use super::body::{ReplyBody, RequestBody};
use super::clock::Phase;
use super::downstream::{Downstream, header_value};
use super::error::{Error, Side};
use super::exchange::exchange;
use super::headers::{self, Upgrade};
use super::identity::{self, RequestId};
use super::logged::Logged;
use super::upgrade::Tunnel;
use super::upstream::Upstream;
use super::validate::{self, Coding, Refusal};
use super::websocket::Extended;
use super::{auth, limit, respond, upgrade, versions};
use crate::live::Serving;
use crate::model::Layer;

/// What a request says about its response.
struct Asked {
    upgrade: Upgrade,
    /// HTTP/2 has another way to ask for an upgrade.
    extended: Option<Extended>,
    /// hyper sends trailers to a client of HTTP/1.1 that takes them, and on every stream of HTTP/2.
    trailers: bool,
}

/// Answers a request: with a server's response, or with an error of our own.
pub(super) async fn answer(
    downstream: Rc<Downstream>,
    request: Request<Incoming>,
) -> Result<Response<Logged>, Infallible> {
    downstream.log.begin(&request, &downstream.client);
    // Read once, so that a request is served by one configuration.
    let serving = downstream.client.listener.serving();
    let l7 = match &serving.listener.layer {
        Layer::L7(l7) => Some(l7),
        Layer::L4(_) => None,
    };
    let ids = &downstream.client.worker.ids;
    let id = l7.and_then(|l7| RequestId::new(&l7.identity, ids, &downstream.log));
    let mut response = match forward(&downstream, &serving, id.as_ref(), request).await {
        Ok(response) => response,
        Err(error) => {
            report(&downstream, &error);
            downstream.log.fail(error.reason());
            downstream.clock.response_ended();
            respond::error(&error, l7.map(|l7| &l7.error_pages))
        }
    };
    if let Some(id) = &id {
        id.insert(response.headers_mut());
    }
    if downstream.is_stream() {
        // RFC 9113 8.2.2: a stream ends by itself.
        response.headers_mut().remove(CONNECTION);
    }
    downstream.log.status(response.status());
    Ok(response.map(|body| Logged::new(body, &downstream)))
}

/// Validates a request, sends it to a server of the listener's pool, prepares the response.
async fn forward(
    downstream: &Rc<Downstream>,
    serving: &Serving,
    id: Option<&RequestId>,
    request: Request<Incoming>,
) -> Result<Response<ReplyBody>, Error> {
    let Layer::L7(l7) = &serving.listener.layer else { return Err(Error::NotHttp) };
    downstream.clock.request_begins(l7.timeouts);
    let (mut head, body) = request.into_parts();
    let extended = Extended::of(&mut head);
    validate::head(&mut head)?;
    covered(&head, downstream)?;
    limit::admit(l7.request_limit.as_ref(), &head.headers, &downstream.client)?;
    auth::admit(l7.auth.as_ref(), &head.headers, &downstream.client).await?;
    let upgrade = asked_upgrade(&head, &body, extended.is_some());
    if head.version == Version::HTTP_2 {
        versions::downgrade(&mut head.headers, body.is_end_stream());
    }
    let asked = prepare(&mut head, serving, downstream, upgrade, extended);
    if let Some(id) = id {
        id.insert(&mut head.headers);
    }
    if l7.identity.traceparent {
        identity::trace(&mut head.headers, &downstream.client.worker.ids);
    }
    let body = RequestBody::new(body, downstream);
    let request = Request::from_parts(head, body);
    let (response, upstream) = exchange(request, &serving.pool, downstream).await?;
    let uploading = downstream.clock.phase() == Phase::Uploading;
    downstream.clock.replying();
    let mut response = reply(response, upstream, asked, downstream)?;
    if uploading && !response.status().is_success() {
        // The rest of the request is of no use to anyone. A success may go on both ways.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// RFC 9110 7.4: under TLS, a request is for a host that the certificate is for.
fn covered(head: &request::Parts, downstream: &Downstream) -> Result<(), Refusal> {
    let Some(presented) = &downstream.client.presented else { return Ok(()) };
    let host = head.headers.get(HOST).and_then(|host| host.to_str().ok());
    match host {
        Some(host) if !presented.covers(host) => Err(Refusal::Misdirected),
        Some(_) | None => Ok(()),
    }
}

/// RFC 6455 4.1: a GET of HTTP/1.1 without a body.
fn asked_upgrade(head: &request::Parts, body: &Incoming, extended: bool) -> Upgrade {
    let may = extended || head.method == Method::GET && head.version == Version::HTTP_11;
    if may && body.is_end_stream() && headers::asks_for_websocket(&head.headers) {
        Upgrade::WebSocket
    } else {
        Upgrade::None
    }
}

/// Makes a validated head one of our own.
fn prepare(
    head: &mut request::Parts,
    serving: &Serving,
    downstream: &Downstream,
    upgrade: Upgrade,
    extended: Option<Extended>,
) -> Asked {
    let speaks_1_1 = head.version == Version::HTTP_11;
    if !speaks_1_1 {
        head.version = Version::HTTP_11;
        // HTTP/1.1 needs a Host, HTTP/1.0 has none: then it is what the client connected to.
        if !head.headers.contains_key(HOST) {
            head.headers.insert(HOST, header_value(serving.listener.address));
        }
    }
    let client = &downstream.client;
    let trailers = headers::forward(&mut head.headers, &client.header, client.scheme(), upgrade);
    // hyper's hold on the client's socket: the tunnel takes it another way.
    head.extensions.clear();
    Asked { upgrade, extended, trailers: downstream.is_stream() || trailers && speaks_1_1 }
}

/// Prepares a server's response for the client.
fn reply(
    response: Response<Incoming>,
    mut upstream: Upstream,
    asked: Asked,
    downstream: &Rc<Downstream>,
) -> Result<Response<ReplyBody>, Error> {
    let server = upstream.server().address();
    let (mut head, incoming) = response.into_parts();
    head.version = Version::HTTP_11;
    if head.status == StatusCode::NO_CONTENT {
        // RFC 9110 8.6. hyper leaves it in an answer to HEAD.
        head.headers.remove(CONTENT_LENGTH);
    }
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        if asked.upgrade != Upgrade::WebSocket || !headers::is_websocket(&head.headers) {
            return Err(Error::UnaskedUpgrade { server });
        }
        headers::reply(&mut head.headers, asked.upgrade, false);
        let idle = downstream.clock.timeouts().tunnel_idle;
        let mut tunnel = Tunnel::new(upstream, idle).ok_or(Error::UnaskedUpgrade { server })?;
        head.extensions.clear();
        downstream.log.status(head.status);
        match asked.extended {
            None => {
                tunnel.log(downstream.log.take());
                downstream.tunnel.set(Some(tunnel));
            }
            Some(extended) if extended.answer(&mut head) => {
                downstream.log.status(head.status);
                tunnel.log(downstream.log.take());
                let stream = upgrade::run_on_stream(extended.stream, tunnel, Rc::clone(downstream));
                downstream.client.worker.spawn(stream);
            }
            Some(_) => return Err(Error::UnaskedUpgrade { server }),
        }
        return Ok(Response::from_parts(head, ReplyBody::None));
    }
    match validate::coding_of(&head.headers) {
        Coding::None | Coding::Chunked => {}
        Coding::Repeated | Coding::Unknown => return Err(Error::ResponseFraming { server }),
    }
    if let Some(kept) = headers::reply(&mut head.headers, Upgrade::None, asked.trailers) {
        let limit = upstream.idle_limit().min(below(kept));
        upstream.set_idle_limit(limit);
    }
    let length = one_length(&mut head.headers, &incoming);
    let body = if incoming.is_end_stream() {
        downstream.client.worker.upstreams.park(upstream);
        downstream.clock.response_ended();
        match length {
            Some(length) if head.status == StatusCode::NOT_MODIFIED => ReplyBody::Withheld(length),
            Some(_) | None => ReplyBody::None,
        }
    } else {
        ReplyBody::streamed(incoming, upstream, Rc::clone(downstream))
    };
    Ok(Response::from_parts(head, body))
}

/// A time that is over safely before the server's, which began earlier and whose FIN needs time
/// to get here.
fn below(kept: Duration) -> Duration {
    kept - kept / 4
}

/// What `Content-Length` says; a repeated or list-valued one, which hyper reads but does not
/// write, becomes what hyper read (RFC 9110 8.6).
fn one_length(headers: &mut HeaderMap, incoming: &Incoming) -> Option<u64> {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let first = values.next()?;
    let plain = values.next().is_none() && first.as_bytes().iter().all(u8::is_ascii_digit);
    if plain {
        return first.to_str().ok()?.parse().ok();
    }
    match incoming.size_hint().exact() {
        Some(length) if !incoming.is_end_stream() => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            Some(length)
        }
        Some(_) | None => {
            headers.remove(CONTENT_LENGTH);
            None
        }
    }
}

fn report(downstream: &Downstream, error: &Error) {
    let client = downstream.client.address;
    if error.status() == StatusCode::SERVICE_UNAVAILABLE {
        if let Some(untold) = downstream.client.worker.notices.refused.due() {
            let listener = &downstream.client.listener.serving().listener.name;
            let cause = error.source().map(tracing::field::display);
            tracing::warn!(listener, %error, cause, untold, "requests are answered with 503");
        }
        return;
    }
    let source = error.source().map(tracing::field::display);
    match error.side() {
        Side::Downstream => tracing::debug!(%client, %error, source, "a request was refused"),
        Side::Upstream => tracing::debug!(%client, %error, source, "a request failed"),
        Side::Internal => tracing::error!(%client, %error, source, "a request failed"),
    }
}

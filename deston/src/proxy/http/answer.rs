//! One request, from its head to its response's head.

use std::convert::Infallible;
use std::error::Error as _;
use std::rc::Rc;
use std::time::Duration;

use http::header::{ALLOW, CONNECTION, CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, request};
use http_body::Body;
use hyper::body::Incoming;

use super::body::{ReplyBody, RequestBody};
use super::clock::Phase;
use super::downstream::{Downstream, header_value};
use super::error::{Error, Side};
use super::exchange::exchange;
use super::forwarded::{self, Told};
use super::headers::{self, Upgrade};
use super::hops;
use super::identity::{self, RequestId};
use super::logged::Logged;
use super::route::{Routed, route};
use super::upgrade::Tunnel;
use super::upstream::Upstream;
use super::validate::{self, Coding, Refusal};
use super::websocket::Extended;
use super::{auth, limit, respond, upgrade, versions};
use crate::live::Serving;
use crate::model::{L7, Layer, Limits, Rules};

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
    // Read once, so that a request is served by one configuration.
    let serving = downstream.client.listener.serving();
    downstream.log.begin(&request, &downstream.client, &serving.listener.name);
    let l7 = match &serving.listener.layer {
        Layer::L7(l7) => Some(l7),
        Layer::L4(_) => None,
    };
    let ids = &downstream.client.worker.ids;
    let is_trusted = serving.listener.origin.trusts(downstream.client.address);
    let trusted = is_trusted.then(|| request.headers());
    let id = l7.and_then(|l7| RequestId::new(&l7.identity, ids, &downstream.log, trusted));
    let mut response = match forward(&downstream, &serving, id.as_ref(), request).await {
        Ok(response) => response,
        Err(error) => {
            report(&downstream, &serving, &error);
            downstream.log.fail(error.reason());
            downstream.clock.response_ended();
            let mut response = respond::error(&error, l7.map(|l7| &l7.error_pages));
            if let Error::Refused(Refusal::Method) = error {
                allow(&mut response, l7);
            }
            response
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

/// Validates a request, sends it to a server of its route's or listener's pool, prepares the response.
async fn forward(
    downstream: &Rc<Downstream>,
    serving: &Serving,
    id: Option<&RequestId>,
    request: Request<Incoming>,
) -> Result<Response<ReplyBody>, Error> {
    let Layer::L7(l7) = &serving.listener.layer else { return Err(Error::NotHttp) };
    downstream.clock.request_begins(l7.timeouts);
    downstream.set_named(downstream.client.address);
    let (mut head, body) = request.into_parts();
    let extended = Extended::of(&mut head, &l7.rules);
    if !downstream.is_stream() {
        downstream.heads.check(&head.headers, l7.rules.mode)?;
    }
    validate::head(&mut head, &l7.rules, &l7.limits)?;
    validate::length(&mut head.headers, &l7.limits)?;
    covered(&head, downstream)?;
    if let Some(response) = hops::count(&mut head, &l7.rules)? {
        return Ok(answered(response, &body, downstream));
    }
    let step = downstream.client.step(l7.forwarded);
    let told = forwarded::read(&head.headers, &step, &serving.listener.origin);
    admit(told.as_ref(), serving, downstream)?;
    limit::admit(l7.request_limit.as_ref(), &head.headers, downstream)?;
    auth::admit(l7.auth.as_ref(), &head.headers, &downstream.client).await?;
    let (pool, edits) = match route(&mut head, l7, serving)? {
        Routed::To(pool, edits) => (pool, edits),
        Routed::Answered(response) if is_tunnel(extended.as_ref(), response.status()) => {
            return Err(Refusal::NoTunnel.into());
        }
        Routed::Answered(response) => return Ok(answered(*response, &body, downstream)),
    };
    let upgrade = asked_upgrade(&head, &body, extended.is_some(), &l7.rules);
    if head.version == Version::HTTP_2 {
        versions::downgrade(&mut head.headers, body.is_end_stream());
    }
    let asked = prepare(&mut head, serving, l7, downstream, told.as_ref(), upgrade, extended);
    if let Some(id) = id {
        id.insert(&mut head.headers);
    }
    if l7.identity.traceparent {
        identity::trace(&mut head.headers, &downstream.client.worker.ids);
    }
    edits.edit_request(&mut head.headers);
    let body = RequestBody::new(body, downstream, l7.limits.body_bytes);
    let request = Request::from_parts(head, body);
    let (response, upstream) = exchange(request, pool, downstream, &l7.limits).await?;
    let uploading = downstream.clock.phase() == Phase::Uploading;
    downstream.clock.replying();
    let mut response = reply(response, upstream, asked, downstream, &l7.limits)?;
    edits.edit_response(response.headers_mut());
    if uploading && !response.status().is_success() {
        // The rest of the request is of no use to anyone. A success may go on both ways.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// An answer that no server has given, to a request whose body nobody reads.
fn answered(
    mut response: Response<ReplyBody>,
    body: &Incoming,
    downstream: &Downstream,
) -> Response<ReplyBody> {
    downstream.clock.response_ended();
    if !body.is_end_stream() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Whether a client would take an answer for a WebSocket (RFC 8441 5).
fn is_tunnel(extended: Option<&Extended>, status: StatusCode) -> bool {
    extended.is_some() && status.is_success()
}

/// Takes note of whose request it is. A client that a trusted proxy names has not been seen by the
/// guard before.
fn admit(told: Option<&Told>, serving: &Serving, downstream: &Downstream) -> Result<(), Error> {
    let Some(client) = told.map(Told::client) else { return Ok(()) };
    downstream.set_named(client);
    downstream.log.note(|record| record.client = client);
    if client != downstream.client.address {
        let listener = &downstream.client.listener;
        listener.admit_named(&serving.listener, client).map_err(|_| Error::Denied)?;
    }
    Ok(())
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

/// The methods that the listener takes.
fn allow(response: &mut Response<ReplyBody>, l7: Option<&L7>) {
    if let Some(l7) = l7 {
        response.headers_mut().insert(ALLOW, respond::allow(&l7.rules));
    }
}

/// RFC 9110 7.8: a request of HTTP/1.1, here without a body. A WebSocket needs a GET (RFC 6455 4.1).
fn asked_upgrade(head: &request::Parts, body: &Incoming, extended: bool, rules: &Rules) -> Upgrade {
    let may = extended || head.version == Version::HTTP_11;
    if !may || !body.is_end_stream() {
        return Upgrade::None;
    }
    match headers::asked(&head.headers, &rules.upgrades) {
        Upgrade::To(token) if token == "websocket" && head.method != Method::GET => Upgrade::None,
        asked @ (Upgrade::To(_) | Upgrade::None) => asked,
    }
}

/// Makes a validated head one of our own.
fn prepare(
    head: &mut request::Parts,
    serving: &Serving,
    l7: &L7,
    downstream: &Downstream,
    told: Option<&Told>,
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
    let step = downstream.client.step(l7.forwarded);
    let underscores = l7.rules.underscores;
    let trailers = headers::forward(&mut head.headers, &step, told, &upgrade, underscores);
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
    limits: &Limits,
) -> Result<Response<ReplyBody>, Error> {
    let server = upstream.server().address();
    let (mut head, incoming) = response.into_parts();
    head.version = Version::HTTP_11;
    if head.status == StatusCode::NO_CONTENT {
        // RFC 9110 8.6. hyper leaves it in an answer to HEAD.
        head.headers.remove(CONTENT_LENGTH);
    }
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        if !headers::grants(&head.headers, &asked.upgrade) {
            return Err(Error::UnaskedUpgrade { server });
        }
        headers::reply(&mut head.headers, &asked.upgrade, false);
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
    if is_tunnel(asked.extended.as_ref(), head.status) {
        return Err(Error::NoUpgrade { server });
    }
    if head.headers.len() > usize::from(limits.headers) {
        return Err(Error::ResponseFields { server });
    }
    match validate::coding_of(&head.headers) {
        Coding::None | Coding::Chunked => {}
        Coding::Repeated | Coding::Unknown => return Err(Error::ResponseFraming { server }),
    }
    if let Some(kept) = headers::reply(&mut head.headers, &Upgrade::None, asked.trailers) {
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

fn report(downstream: &Downstream, serving: &Serving, error: &Error) {
    let client = downstream.named();
    if error.status() == StatusCode::SERVICE_UNAVAILABLE {
        if let Some(untold) = downstream.client.worker.notices.refused.due() {
            let listener = &serving.listener.name;
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

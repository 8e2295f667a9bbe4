//! Which pool a request goes to, or how it is answered without one: the listener's routes, tried in
//! order on a validated head.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, LOCATION};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, Uri};

use super::body::ReplyBody;
use super::validate::Refusal;
use crate::live::{Pool, Route, Serving};
use crate::model::route::{Action, Asked, Conditions, Redirect, Respond, Variable};
use crate::model::{L7, MessageEdits};

/// What becomes of a request.
pub(super) enum Routed<'a> {
    /// It goes to a server of a pool.
    To(&'a Arc<Pool>, Edits<'a>),
    /// It is answered.
    Answered(Response<ReplyBody>),
}

/// Changes to the fields of one request and its response: the listener's, then the route's.
#[derive(Clone, Copy)]
pub(super) struct Edits<'a> {
    listener: &'a MessageEdits,
    route: Option<&'a MessageEdits>,
}

/// Finds the route of a request. Rewrites the target if the route says so.
pub(super) fn route<'a>(
    head: &mut Parts,
    l7: &'a L7,
    serving: &'a Serving,
) -> Result<Routed<'a>, Refusal> {
    let mut edits = Edits { listener: &l7.edits, route: None };
    if serving.routes.is_empty() {
        return Ok(Routed::To(&serving.pool, edits));
    }
    let asked = asked(head);
    let matches = |route: &&Route| route.rule.conditions.check(&asked).is_ok();
    let Some(route) = serving.routes.iter().find(matches) else {
        return Ok(Routed::To(&serving.pool, edits));
    };
    edits.route = Some(&route.rule.edits);
    let mut response = match &route.rule.action {
        Action::Forward(_) => {
            if let Some(rewritten) = route.rule.rewritten(&asked) {
                head.uri = rewritten.map(Uri::from).map_err(|_| Refusal::TargetTooLong)?;
            }
            return Ok(Routed::To(route.next_pool().unwrap_or(&serving.pool), edits));
        }
        Action::Redirect(redirect) => redirected(redirect, &route.rule.conditions, &asked)?,
        Action::Respond(answer) => responded(answer, asked.method),
    };
    edits.edit_response(response.headers_mut());
    Ok(Routed::Answered(response))
}

fn asked(head: &Parts) -> Asked<'_> {
    let host = head.headers.get(HOST).and_then(|host| host.to_str().ok());
    Asked::new(&head.method, host, head.uri.path(), head.uri.query(), &head.headers)
}

fn redirected(
    redirect: &Redirect,
    conditions: &Conditions,
    asked: &Asked<'_>,
) -> Result<Response<ReplyBody>, Refusal> {
    if asked.host.is_none() && redirect.to.variables().any(|variable| variable == Variable::Host) {
        return Err(Refusal::HostMissing);
    }
    let location = HeaderValue::try_from(redirect.location(asked, conditions));
    let location = location.map_err(|_| Refusal::Target)?;
    let text = Bytes::from(format!("{}\n", redirect.status));
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    let mut response = answer(asked.method, text, plain);
    *response.status_mut() = redirect.status;
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}

fn responded(respond: &Respond, method: &Method) -> Response<ReplyBody> {
    let mut response = answer(method, respond.body.clone(), respond.content_type.clone());
    *response.status_mut() = respond.status;
    response
}

fn answer(method: &Method, body: Bytes, content_type: HeaderValue) -> Response<ReplyBody> {
    if body.is_empty() {
        return Response::new(ReplyBody::None);
    }
    let mut response = Response::new(match *method {
        Method::HEAD => ReplyBody::Withheld(body.len() as u64),
        _ => ReplyBody::whole(body),
    });
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

impl<'a> Edits<'a> {
    /// Changes a request that is ready for its server.
    pub(super) fn edit_request(self, headers: &mut HeaderMap) {
        self.both().for_each(|edits| edits.request.apply(headers));
    }

    /// Changes a response that is ready for the client.
    pub(super) fn edit_response(self, headers: &mut HeaderMap) {
        self.both().for_each(|edits| edits.response.apply(headers));
    }

    fn both(self) -> impl Iterator<Item = &'a MessageEdits> {
        std::iter::once(self.listener).chain(self.route)
    }
}

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
    /// It is answered. Boxed: far larger than the other, and rare.
    Answered(Box<Response<ReplyBody>>),
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
    let matches = |route: &&Route| route.model.conditions.check(&asked).is_ok();
    let Some(route) = serving.routes.iter().find(matches) else {
        return Ok(Routed::To(&serving.pool, edits));
    };
    edits.route = Some(&route.model.edits);
    let mut response = match &route.model.action {
        Action::Forward(_) => {
            if let Some(rewritten) = route.model.rewritten(&asked) {
                head.uri = rewritten.map(Uri::from).map_err(|_| Refusal::TargetTooLong)?;
            }
            return Ok(Routed::To(route.next_pool().unwrap_or(&serving.pool), edits));
        }
        Action::Redirect(redirect) => redirected(redirect, &route.model.conditions, &asked)?,
        Action::Respond(answer) => responded(answer, asked.method),
    };
    edits.edit_response(response.headers_mut());
    Ok(Routed::Answered(Box::new(response)))
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

#[cfg(test)]
mod tests {
    use http::{Request, StatusCode, Version};

    use super::super::validate;
    use super::*;
    use crate::config;
    use crate::live::View;
    use crate::model::{Layer, Limits, Rules};

    /// What serves a listener with routes between the pools `default` and `other`.
    fn serving(routes: &str) -> Serving {
        let text = format!(
            "[load_balancer]\nlayer = \"L7\"\n{routes}\n[[pool]]\nname = \"other\"\n\
             [[server]]\n[[server]]\nport = 1\npool = \"other\""
        );
        let model = config::parse("config.toml", &text).unwrap();
        let find = |name: &str| {
            let timeouts = model.pool(name)?.timeouts;
            let table = Box::new(deston_common::table::Table::EMPTY);
            let view = View::new(table, Vec::new(), timeouts);
            Some(Arc::new(Pool::new(name.to_owned(), view)))
        };
        Serving::with_routes(Arc::clone(&model.listeners[0]), find).unwrap()
    }

    /// Routes a head: the pool's name and the target, or the answer's status.
    fn routed(head: &mut Parts, serving: &Serving) -> Result<(String, String), StatusCode> {
        validate::head(head, &Rules::default(), &Limits::default()).map_err(Refusal::status)?;
        let Layer::L7(l7) = &serving.listener.layer else { panic!("layer 7") };
        match route(head, l7, serving).map_err(Refusal::status)? {
            Routed::To(pool, _) => Ok((pool.name().to_owned(), head.uri.to_string())),
            Routed::Answered(response) => Err(response.status()),
        }
    }

    fn request(version: Version, target: &str) -> Parts {
        let request = Request::builder().version(version).uri(target);
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_request_of_http_2_is_routed_by_its_authority() {
        let serving = serving("[[route]]\nhost = \"a.example\"\npath = \"/x\"\npool = \"other\"");
        let mut head = request(Version::HTTP_2, "https://A.example/%78?y");
        assert_eq!(routed(&mut head, &serving), Ok(("other".to_owned(), "/%78?y".to_owned())));
        let mut head = request(Version::HTTP_2, "https://b.example/x");
        assert_eq!(routed(&mut head, &serving), Ok(("default".to_owned(), "/x".to_owned())));
    }

    #[test]
    fn a_path_that_becomes_too_long_is_refused() {
        let rewrite = "$1/".repeat(20);
        let routes =
            format!("[[route]]\npath = \"/*\"\npool = \"other\"\nrewrite = \"/{rewrite}\"");
        let mut head = request(Version::HTTP_10, &format!("/{}", "a".repeat(5_000)));
        assert_eq!(routed(&mut head, &serving(&routes)), Err(StatusCode::URI_TOO_LONG));
    }

    #[test]
    fn a_share_of_zero_gets_no_request() {
        let serving = serving("[[route]]\nsplit = { default = 0, other = 1 }");
        for _ in 0..3 {
            let mut head = request(Version::HTTP_10, "/");
            assert_eq!(routed(&mut head, &serving).map(|(pool, _)| pool), Ok("other".to_owned()));
        }
    }
}

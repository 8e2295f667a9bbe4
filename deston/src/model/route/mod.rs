//! Routes: which pool serves a request, or how it is answered without one.
//!
//! A listener of layer 7 has its routes in file order; the first whose conditions all hold decides.
//! Pure: what a route makes of a request depends on its head alone, so that `deston route test` can
//! ask what the proxy asks.

mod asked;
mod path;
mod pattern;
mod split;
mod template;

use std::fmt;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::MessageEdits;
pub use asked::Asked;
pub use path::Path;
pub use pattern::{HostPattern, NoPathPattern, PathPattern, PathRegex};
pub use split::{Share, Split};
pub use template::{Part, Template, UnknownVariable, Variable};

/// What becomes of requests that have all it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its place among the routes of the file, from 1: its name for people.
    pub place: usize,
    /// What it asks of a request.
    pub conditions: Conditions,
    /// What becomes of the request.
    pub action: Action,
    /// Changes to fields, after those of the listener.
    pub edits: MessageEdits,
}

/// What a route asks of a request; all of it must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// The host.
    pub host: Option<HostPattern>,
    /// The path.
    pub path: Option<PathPattern>,
    /// One of these; empty: any.
    pub methods: Vec<Method>,
    /// Fields, each with the value that one of its lines has.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Keys of the query, decoded, each with a value that it has.
    pub query: Vec<(String, String)>,
}

/// What a request does not have that a route asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch<'a> {
    /// Another host, or none.
    Host(&'a HostPattern),
    /// Another path.
    Path(&'a PathPattern),
    /// Another method.
    Method(&'a [Method]),
    /// A field is not there, or has other values.
    Header(&'a HeaderName, &'a HeaderValue),
    /// A key is not there, or has other values.
    Query(&'a str, &'a str),
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It goes to a server.
    Forward(Forward),
    /// The client is sent elsewhere.
    Redirect(Redirect),
    /// It is answered as the file says.
    Respond(Respond),
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The pool or pools.
    pub to: Destination,
    /// What its path becomes; `None`: it stays as it was sent.
    pub rewrite: Option<Template>,
}

/// One pool, or several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// The pool's name.
    Pool(String),
    /// Each request goes to one of several.
    Split(Split),
}

/// An answer with `Location`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
    /// The location.
    pub to: Template,
}

/// An answer of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Respond {
    /// A final status.
    pub status: StatusCode,
    /// The content; empty: none.
    pub body: Bytes,
    /// What the content is.
    pub content_type: HeaderValue,
}

impl Route {
    /// Pools that it names.
    pub fn pools(&self) -> impl Iterator<Item = &str> {
        let (one, several) = match &self.action {
            Action::Forward(Forward { to: Destination::Pool(pool), .. }) => (Some(pool), None),
            Action::Forward(Forward { to: Destination::Split(split), .. }) => (None, Some(split)),
            Action::Redirect(_) | Action::Respond(_) => (None, None),
        };
        let several = several.into_iter().flat_map(|split| &split.shares);
        one.into_iter().chain(several.map(|share| &share.pool)).map(String::as_str)
    }

    /// What goes to the server in place of the target of a request that matches; `None`: the target
    /// stays as it is.
    pub fn rewritten(&self, asked: &Asked<'_>) -> Option<Result<PathAndQuery, http::Error>> {
        let Action::Forward(Forward { rewrite: Some(template), .. }) = &self.action else {
            return None;
        };
        if asked.path.plain().first() != Some(&b'/') {
            // `*` is about the server, not about a path.
            return None;
        }
        let filled = template.fill(asked, self.conditions.path.as_ref());
        let mut target = String::with_capacity(filled.len());
        // What the pieces make together may have dot segments that none of them had.
        Path::new(&filled).spell_all(&mut target);
        if let Some(query) = asked.query {
            target.push('?');
            target.push_str(query);
        }
        Some(PathAndQuery::try_from(target).map_err(http::Error::from))
    }

    /// Whether every request that `other` is for is known to be taken by this route.
    pub(super) fn covers(&self, other: &Self) -> bool {
        self.conditions.cover(&other.conditions)
    }
}

impl Redirect {
    /// The location for a request that the route of `conditions` matches. Its query is kept, unless
    /// `to` has a `?` and so says itself what the query is.
    pub fn location(&self, asked: &Asked<'_>, conditions: &Conditions) -> String {
        let mut location = self.to.fill(asked, conditions.path.as_ref());
        let has_query = self.to.parts().iter().any(|part| match part {
            Part::Text(text) => text.contains('?'),
            Part::Variable(_) => false,
        });
        if let (false, Some(query)) = (has_query, asked.query) {
            location.push('?');
            template::escape(query, &mut location);
        }
        if location.ends_with('?') {
            location.pop();
        }
        // Two slashes begin another host (RFC 3986 4.2).
        while location.starts_with("//") {
            location.remove(0);
        }
        location
    }
}

impl Conditions {
    /// Whether a request has all that is asked for, or the first thing that it lacks.
    pub fn check(&self, asked: &Asked<'_>) -> Result<(), Mismatch<'_>> {
        if let Some(host) = &self.host
            && !asked.host.is_some_and(|asked| host.matches(asked))
        {
            return Err(Mismatch::Host(host));
        }
        if let Some(path) = &self.path
            && !path.matches(&asked.path)
        {
            return Err(Mismatch::Path(path));
        }
        if !self.methods.is_empty() && !self.methods.contains(asked.method) {
            return Err(Mismatch::Method(&self.methods));
        }
        for (name, value) in &self.headers {
            if !asked.headers.get_all(name).iter().any(|line| line == value) {
                return Err(Mismatch::Header(name, value));
            }
        }
        for (key, value) in &self.query {
            if !asked.has_query(key, value) {
                return Err(Mismatch::Query(key, value));
            }
        }
        Ok(())
    }

    /// Whether whatever has all that `other` asks for has all that is asked for here.
    fn cover(&self, other: &Self) -> bool {
        let host = self
            .host
            .as_ref()
            .is_none_or(|host| other.host.as_ref().is_some_and(|other| host.covers(other)));
        let path = self
            .path
            .as_ref()
            .is_none_or(|path| other.path.as_ref().is_some_and(|other| path.covers(other)));
        let methods = self.methods.is_empty()
            || !other.methods.is_empty()
                && other.methods.iter().all(|method| self.methods.contains(method));
        let headers = self.headers.iter().all(|field| other.headers.contains(field));
        let query = self.query.iter().all(|pair| other.query.contains(pair));
        host && path && methods && headers && query
    }
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = Vec::new();
        all.extend(self.host.as_ref().map(|host| format!("host {host}")));
        all.extend(self.path.as_ref().map(|path| format!("path {path}")));
        if !self.methods.is_empty() {
            all.push(format!("method {}", either(&self.methods)));
        }
        all.extend(self.headers.iter().map(|(name, value)| field(name, value)));
        all.extend(self.query.iter().map(|(key, value)| format!("query {key}={value}")));
        if all.is_empty() { f.write_str("any request") } else { f.write_str(&all.join(", ")) }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "route {} ({})", self.place, self.conditions)
    }
}

impl fmt::Display for Mismatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => write!(f, "the host is not {host}"),
            Self::Path(path) => write!(f, "the path is not {path}"),
            Self::Method(methods) => write!(f, "the method is not {}", either(methods)),
            Self::Header(name, value) => write!(f, "there is no {}", field(name, value)),
            Self::Query(key, value) => write!(f, "the query has no {key}={value}"),
        }
    }
}

fn either(methods: &[Method]) -> String {
    let names: Vec<&str> = methods.iter().map(Method::as_str).collect();
    names.join(" or ")
}

fn field(name: &HeaderName, value: &HeaderValue) -> String {
    format!("header {name}: {}", String::from_utf8_lossy(value.as_bytes()))
}

#[cfg(test)]
mod tests;

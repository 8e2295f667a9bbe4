//! `[[route]]`.

use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::edits::MessageEdits;
use crate::config::problem::Span;
use crate::config::routing::{self, PoolShare};
use crate::config::section::{Field, Section};
use crate::config::{fields, value};
use crate::model::route::{HostPattern, PathPattern, Template};

/// `[[route]]`.
pub(in crate::config) struct Route {
    pub(in crate::config) header: Option<Span>,
    pub(in crate::config) listener: Field<String>,
    pub(in crate::config) host: Field<HostPattern>,
    pub(in crate::config) path: Field<PathPattern>,
    pub(in crate::config) path_regex: Field<PathPattern>,
    pub(in crate::config) methods: Field<Vec<Method>>,
    pub(in crate::config) fields: Field<Vec<(HeaderName, HeaderValue)>>,
    pub(in crate::config) query: Field<Vec<(String, String)>>,
    pub(in crate::config) pool: Field<String>,
    pub(in crate::config) split: Field<Vec<PoolShare>>,
    pub(in crate::config) redirect: Redirect,
    pub(in crate::config) respond: Respond,
    pub(in crate::config) rewrite: Field<Template>,
    pub(in crate::config) edits: MessageEdits,
}

/// `redirect` of a route.
pub(in crate::config) struct Redirect {
    pub(in crate::config) header: Option<Span>,
    /// Whether it is a table.
    pub(in crate::config) written: bool,
    pub(in crate::config) status: Field<StatusCode>,
    pub(in crate::config) to: Field<Template>,
}

/// `respond` of a route.
pub(in crate::config) struct Respond {
    pub(in crate::config) header: Option<Span>,
    /// Whether it is a table.
    pub(in crate::config) written: bool,
    pub(in crate::config) status: Field<StatusCode>,
    pub(in crate::config) body: Field<String>,
    pub(in crate::config) content_type: Field<HeaderValue>,
}

impl Route {
    /// Reads a route.
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        section.later(&["mirror", "auth"]);
        Self {
            header: section.header(),
            listener: section.get("listener", value::name),
            host: section.get("host", routing::host),
            path: section.get("path", routing::path),
            path_regex: section.get("path_regex", routing::path_regex),
            methods: section.get("methods", routing::methods),
            fields: section.get("header", fields::asked),
            query: section.get("query", routing::query),
            pool: section.get("pool", value::name),
            split: section.get("split", routing::split),
            redirect: Redirect::read(section.child("redirect")),
            respond: Respond::read(section.child("respond")),
            rewrite: section.get("rewrite", routing::template),
            edits: MessageEdits::read(section),
        }
    }

    /// Names of pools that it uses, as far as they are written without a mistake.
    pub(in crate::config) fn pools(&self) -> impl Iterator<Item = &str> {
        let one = self.pool.given().map(|at| at.value.as_str());
        let several = self.split.given().into_iter().flat_map(|at| &at.value);
        one.into_iter().chain(several.map(|share| share.pool.value.as_str()))
    }
}

impl Redirect {
    fn read(section: &mut Section<'_>) -> Self {
        Self {
            header: section.header(),
            written: section.is_written(),
            status: section.get("status", routing::redirect_status),
            to: section.get("to", routing::template),
        }
    }
}

impl Respond {
    fn read(section: &mut Section<'_>) -> Self {
        Self {
            header: section.header(),
            written: section.is_written(),
            status: section.get("status", routing::response_status),
            body: section.get("body", value::text),
            content_type: section.get("content_type", routing::content_type),
        }
    }
}

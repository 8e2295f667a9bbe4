//! `[listener.http]` and `[listener.limits]`: what clients of a layer 7 listener may send.

use crate::config::file;
use crate::config::problem::{Problem, Problems};
use crate::model::{Limits, Rules};

/// Which requests are taken.
pub(super) fn rules(file: &file::Http, problems: &Problems) -> Option<Rules> {
    let default = Rules::default();
    let trace = file.trace.or(default.trace)?;
    let methods = file.methods.or(default.methods)?;
    if let Some(at) = file.methods.given() {
        let refused = if !trace { Some(http::Method::TRACE) } else { None };
        if let Some(refused) = at.value.iter().find(|&method| Some(method) == refused.as_ref()) {
            problems.add(
                Problem::at(at.span.clone(), format!("`methods` has {refused}, which is refused"))
                    .help("write `trace = true` too, or remove it"),
            );
        }
    }
    Some(Rules {
        mode: file.mode.or(default.mode)?,
        methods,
        trace,
        upgrades: file.upgrades.or(default.upgrades)?,
        underscores: file.underscores.or(default.underscores)?,
    })
}

/// How much they may ask for.
pub(super) fn limits(file: &file::Limits, problems: &Problems) -> Option<Limits> {
    let default = Limits::default();
    let small = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
    let limits = Limits {
        connections: file.connections.or(default.connections)?,
        connections_per_ip: file.connections_per_ip.or(default.connections_per_ip)?,
        header_bytes: file.header_bytes.or(default.header_bytes.into()).map(small)?,
        headers: file.headers.or(default.headers)?,
        uri_bytes: file.uri_bytes.or(default.uri_bytes.into()).map(small)?,
        body_bytes: file.body_bytes.or(default.body_bytes)?,
    };
    if limits.uri_bytes >= limits.header_bytes {
        let (uri, head) = (limits.uri_bytes, limits.header_bytes);
        let place = file.uri_bytes.span().or(file.header_bytes.span());
        problems.add(
            Problem::near(
                place,
                format!("a target of {uri} bytes does not fit into a head of {head}"),
            )
            .help("make `uri_bytes` smaller than `header_bytes`"),
        );
    }
    Some(limits)
}

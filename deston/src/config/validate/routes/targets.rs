//! What paths and locations may be made of, and which variables they may have.

use std::fmt::Write as _;

use http::Uri;

use crate::config::file;
use crate::config::problem::{Problem, Problems};
use crate::config::section::At;
use crate::model::route::{Part, Template, Variable};

/// Checks `rewrite` and `to`.
pub(super) fn check(file: &file::Route, problems: &Problems) {
    if let Some(at) = file.rewrite.given() {
        rewrite(at, problems);
        groups(file, "rewrite", at, problems);
    }
    if let Some(at) = file.redirect.to.given() {
        location(at, problems);
        groups(file, "to", at, problems);
    }
}

fn rewrite(at: &At<Template>, problems: &Problems) {
    let wrong = at.value.variables().find(|variable| match variable {
        Variable::Host | Variable::Query => true,
        Variable::Group(_) | Variable::Path => false,
    });
    if let Some(variable) = wrong {
        let message =
            format!("`{variable}` is for redirects: `rewrite` is a path, and the query stays");
        problems.add(Problem::at(at.span.clone(), message));
        return;
    }
    let sample = sample(&at.value);
    if !begins_a_path(&at.value) || sample.contains(['?', '#']) || !is_target(&sample) {
        let text = at.value.to_string();
        let message =
            format!("`rewrite` must be a path that begins with `/`, without a query, not {text:?}");
        problems.add(Problem::at(at.span.clone(), message).help("the request's query is kept"));
    }
}

fn location(at: &At<Template>, problems: &Problems) {
    let text = at.value.to_string();
    let Some(Part::Text(first)) = at.value.parts().first() else {
        return malformed(at, &text, problems);
    };
    let scheme = ["https://", "http://"].into_iter().find(|scheme| first.starts_with(scheme));
    match scheme {
        Some(scheme) => authority(at, scheme.len(), problems),
        None if first.starts_with("//") || !first.starts_with('/') => {
            return malformed(at, &text, problems);
        }
        None => {}
    }
    if !is_target(&sample(&at.value)) {
        malformed(at, &text, problems);
    }
}

fn malformed(at: &At<Template>, text: &str, problems: &Problems) {
    let what = "begin with `https://`, `http://` or `/` and be a valid location";
    problems.add(
        Problem::at(at.span.clone(), format!("`to` must {what}, not {text:?}"))
            .help("such as \"https://$host$path\""),
    );
}

/// Nothing that a client chooses freely may become a part of the host.
fn authority(at: &At<Template>, scheme: usize, problems: &Problems) {
    let mut skip = scheme;
    for part in at.value.parts() {
        match part {
            Part::Text(text) => {
                let text = text.get(std::mem::take(&mut skip)..).unwrap_or_default();
                if text.contains(['/', '?', '#']) {
                    return;
                }
            }
            Part::Variable(Variable::Host) => {}
            Part::Variable(Variable::Path) => return,
            Part::Variable(variable @ (Variable::Group(_) | Variable::Query)) => {
                let message = format!(
                    "`{variable}` would be part of the host, which clients must not choose"
                );
                problems.add(Problem::at(at.span.clone(), message).help("put a `/` before it"));
                return;
            }
        }
    }
}

fn groups(file: &file::Route, key: &str, at: &At<Template>, problems: &Problems) {
    let written = file.path.given().or(file.path_regex.given());
    if written.is_none() && (file.path.is_wrong() || file.path_regex.is_wrong()) {
        return;
    }
    let there = written.map_or(0, |path| path.value.groups());
    let beyond = at.value.variables().find_map(|variable| match variable {
        Variable::Group(group) if group > there => Some(group),
        Variable::Group(_) | Variable::Path | Variable::Host | Variable::Query => None,
    });
    if let Some(group) = beyond {
        let message = format!(
            "`${group}` of `{key}` stands for nothing: the path has {}",
            match there {
                0 => "no `*` and no group".to_owned(),
                1 => "one part, `$1`".to_owned(),
                _ => format!("{there} groups"),
            }
        );
        problems.add(
            Problem::at(at.span.clone(), message)
                .see(written.map(|path| path.span.clone()), "the path")
                .help("`$1` is what the `*` of `path` or the first group of `path_regex` matched"),
        );
    }
}

fn begins_a_path(template: &Template) -> bool {
    match template.parts().first() {
        Some(Part::Text(text)) => text.starts_with('/') && !text.starts_with("//"),
        Some(Part::Variable(Variable::Path)) => true,
        Some(Part::Variable(Variable::Group(_) | Variable::Host | Variable::Query)) | None => false,
    }
}

/// The template with something plain for every variable.
fn sample(template: &Template) -> String {
    template.parts().iter().fold(String::new(), |mut sample, part| {
        match part {
            Part::Text(text) => sample.push_str(text),
            Part::Variable(Variable::Group(_)) => sample.push('x'),
            Part::Variable(Variable::Path) => sample.push_str("/x"),
            Part::Variable(Variable::Host) => sample.push_str("host.example"),
            Part::Variable(Variable::Query) => {
                let _ = write!(sample, "x=y");
            }
        }
        sample
    })
}

fn is_target(sample: &str) -> bool {
    let uri = sample.bytes().all(|byte| byte.is_ascii_graphic()).then(|| sample.parse::<Uri>());
    uri.is_some_and(|uri| {
        uri.is_ok_and(|uri| uri.authority().is_none_or(|host| !host.as_str().contains('@')))
    })
}

//! Reading `config.toml`: from the text that a user wrote to a valid [`Model`].
//!
//! Three steps, each in its own files. `section` and `value`, with `fields`, `network`, `pem`, `rate`, `routing`, `size` and `web`, read
//! keys of a TOML table into typed values that remember where they stand; `file` names every table and key there is; `validate`
//! fills in defaults, looks up names and builds the model. Every step adds what is wrong to
//! `Problems` and goes on, so that a user sees all errors at once.
//!
//! Nothing here starts, binds or changes anything, and nothing outside sees what the file looked
//! like.

mod fields;
mod file;
mod names;
mod network;
mod pem;
mod problem;
mod rate;
mod report;
mod resolve;
mod routing;
mod section;
mod size;
mod validate;
mod value;
mod web;

#[cfg(test)]
mod tests;

use std::path::Path;

use toml::de::DeTable;

use crate::model::Model;
use problem::{Problem, Problems};
pub use report::{Report, Style};
use resolve::Resolver;

/// Reads and validates the file at `path`.
///
/// Names are resolved by the system's resolver, so this may take as long as a name lookup does.
pub fn load(path: &Path) -> Result<Model, Report> {
    let name = path.display().to_string();
    let unreadable = |problem| Report::new(&name, "", vec![problem]);
    let bytes = std::fs::read(path)
        .map_err(|error| unreadable(Problem::of_file(format!("cannot read `{name}`: {error}"))))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let place = error.utf8_error().valid_up_to();
        unreadable(Problem::of_file(format!("`{name}` is not UTF-8 text: byte {place} is not")))
    })?;
    parse(&name, &text)
}

/// Validates the text of a file; `name` stands for it in errors.
pub fn parse(name: &str, text: &str) -> Result<Model, Report> {
    parse_with(name, text, &mut Resolver::system())
}

fn parse_with(name: &str, text: &str, resolver: &mut Resolver<'_>) -> Result<Model, Report> {
    let problems = Problems::default();
    let (root, errors) = DeTable::parse_recoverable(text);
    // What the parser makes of a broken text is a guess: keys and values wait for the next run.
    // One mistake may upset the parser several times, so a line is reported once.
    let mut last = None;
    for error in &errors {
        let line =
            error.span().map(|span| text.bytes().take(span.start).filter(|b| *b == b'\n').count());
        if last != Some(line) {
            problems.add(Problem::near(error.span(), error.message()));
        }
        last = Some(line);
    }
    let model = if errors.is_empty() {
        // Files that values name are looked for beside this one.
        let base = Path::new(name).parent().unwrap_or(Path::new(""));
        let file = file::read(root.get_ref(), base, &problems);
        validate::model(&file, resolver, &problems)
    } else {
        None
    };
    match model {
        Some(model) if problems.is_empty() => Ok(model),
        _ => Err(Report::new(name, text, problems.into_sorted())),
    }
}

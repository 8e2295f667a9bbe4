//! `[log]`.

use crate::config::file;
use crate::config::names::AccessForm;
use crate::config::problem::{Problem, Problems};
use crate::config::section::Field;
use crate::model::{Access, Log};

/// `[log]`.
pub(super) fn log(file: &file::Log, problems: &Problems) -> Option<Log> {
    let access = access(file, problems);
    Some(Log {
        access: access?,
        sample: file.sample.or(1_000_000)?,
        errors_always: file.errors_always.or(true)?,
    })
}

fn access(file: &file::Log, problems: &Problems) -> Option<Access> {
    let form = file.access.or(AccessForm::Off)?;
    if let Some(at) = file.template.given().filter(|_| form != AccessForm::Template) {
        let message = "`template` is for `access = \"template\"`";
        problems.add(
            Problem::at(at.key.clone(), message)
                .see(file.access.span(), "the form of the access log")
                .help("remove it, or write `access = \"template\"`"),
        );
    }
    Some(match form {
        AccessForm::Json => Access::Json,
        AccessForm::Combined => Access::Combined,
        AccessForm::Off => Access::Off,
        AccessForm::Template => match &file.template {
            Field::Given(at) => Access::Template(at.value.clone()),
            Field::Wrong => return None,
            Field::Absent => {
                let span = file.access.span().or(file.header.clone());
                let message = "there is no `template`";
                let help = "write `template = \"$time $client $method $path $status\"`, say";
                problems.add(Problem::near(span, message).help(help));
                return None;
            }
        },
    })
}

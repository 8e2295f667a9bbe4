//! `deston doctor`: what on this host keeps the kernel datapath from working, and what mends it.

use std::path::Path;

use deston::config;
use deston::doctor::{Facts, Finding, Severity, findings};

use super::{FAILED, INVALID, OK, complain, complain_of, say};

/// How it looks.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// One JSON object on each line
    #[arg(long)]
    json: bool,
}

/// Prints what is found; a fault is exit code 1.
pub(crate) fn doctor(path: &Path, arguments: &Arguments) -> u8 {
    let model = match config::load(path) {
        Ok(model) => model,
        Err(report) => {
            complain_of(&report);
            return INVALID;
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("cannot ask the host: {error}"));
            return FAILED;
        }
    };
    let facts = match runtime.block_on(Facts::gather(model)) {
        Ok(facts) => facts,
        Err(error) => {
            complain(&error.to_string());
            return FAILED;
        }
    };
    let found = findings(&facts);
    for finding in &found {
        if arguments.json { say(&finding.json().to_string()) } else { say(&finding.to_string()) }
    }
    if !arguments.json {
        say(&summary(&found));
    }
    if found.iter().any(|finding| finding.severity == Severity::Fault) { FAILED } else { OK }
}

fn summary(found: &[Finding]) -> String {
    let count = |severity, one: &str| {
        let number = found.iter().filter(|finding| finding.severity == severity).count();
        format!("{number} {one}{}", if number == 1 { "" } else { "s" })
    };
    [
        count(Severity::Fault, "fault"),
        count(Severity::Warning, "warning"),
        count(Severity::Note, "note"),
    ]
    .join(", ")
}

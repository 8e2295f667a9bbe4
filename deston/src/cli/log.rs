//! Logs: to standard error, for eyes or as JSON.

use std::io::{self, IsTerminal};

use tracing_subscriber::filter::{EnvFilter, ParseError};

use super::LogFormat;

/// Holds a level or filter when there is no `--log-level`.
const VARIABLE: &str = "DESTON_LOG";

/// A level or filter that is none.
#[derive(Debug, thiserror::Error)]
#[error("invalid log level {text:?} ({source}): write error, warn, info, debug or trace")]
pub(crate) struct InvalidLevel {
    text: String,
    source: ParseError,
}

/// Starts logging.
pub(crate) fn start(format: LogFormat, level: Option<&str>) -> Result<(), InvalidLevel> {
    let text = match level {
        Some(level) => level.to_owned(),
        None => std::env::var(VARIABLE).unwrap_or_else(|_| "info".to_owned()),
    };
    let filter =
        EnvFilter::builder().parse(&text).map_err(|source| InvalidLevel { text, source })?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Human => lines.with_target(false).with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}

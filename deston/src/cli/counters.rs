//! `deston counters`: what an instance has counted, read from its pinned maps.

use std::path::Path;

use deston::datapath::Maps;
use deston::explain::Counts;

use super::instance::Instance;
use super::{FAILED, OK, complain, say};

/// Whose, and how they look.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    instance: Instance,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Prints the packets of every outcome, and each server's flows.
pub(crate) fn counters(config: &Path, arguments: Arguments) -> u8 {
    let name = match arguments.instance.name(config) {
        Ok(name) => name,
        Err(code) => return code,
    };
    let maps = match Maps::of_instance(&name) {
        Ok(maps) => maps,
        Err(error) => {
            complain(&error.to_string());
            return FAILED;
        }
    };
    match Counts::read(&maps) {
        Ok(counts) if arguments.json => say(&counts.json().to_string()),
        Ok(counts) => say(counts.to_string().trim_end()),
        Err(error) => {
            complain(&error.to_string());
            return FAILED;
        }
    }
    OK
}

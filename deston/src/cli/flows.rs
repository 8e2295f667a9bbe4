//! `deston flows`: the flows of an instance, read from its pinned maps.

use std::io::{self, BufWriter, Write as _};
use std::ops::ControlFlow;
use std::path::Path;

use deston::datapath::Maps;
use deston::explain::{self, Asked, Flow, Pattern, Prefix};

use super::instance::Instance;
use super::{FAILED, OK, complain};

/// Which flows, and how they look.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    instance: Instance,
    /// Those of these clients alone: an address, or a prefix such as 198.51.100.0/24
    #[arg(long, value_name = "PREFIX")]
    client: Option<Prefix>,
    /// Those at these servers alone: an address, a prefix, or an address with a port
    #[arg(long, value_name = "ADDRESS")]
    server: Option<Pattern>,
    /// Also those whose handshake is not finished, or that no server has answered
    #[arg(long)]
    half_open: bool,
    /// One JSON object on each line
    #[arg(long)]
    json: bool,
}

/// Prints the flows that are asked for.
pub(crate) fn flows(config: &Path, arguments: Arguments) -> u8 {
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
    let Arguments { client, server, half_open, json, .. } = arguments;
    // A reader that has gone wants no more.
    let mut out = BufWriter::new(io::stdout().lock());
    let mut is_wanted = json || writeln!(out, "{}", Flow::heading()).is_ok();
    let told = explain::flows(&maps, &Asked { client, server, half_open }, |flow| {
        is_wanted = is_wanted
            && if json { writeln!(out, "{}", flow.json()) } else { writeln!(out, "{flow}") }
                .is_ok();
        if is_wanted { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    let _ = out.flush();
    match told {
        Ok(()) => OK,
        Err(error) => {
            complain(&format!("{error} (these are not all flows)"));
            FAILED
        }
    }
}

//! The command line: one file for each command.

pub(crate) mod check;
pub(crate) mod counters;
pub(crate) mod detach;
pub(crate) mod doctor;
pub(crate) mod flows;
mod instance;
pub(crate) mod log;
pub(crate) mod route;
pub(crate) mod run;
pub(crate) mod trace;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use deston::config::{Report, Style};

use self::instance::Instance;

/// All went as asked.
pub(crate) const OK: u8 = 0;
/// Something failed while starting or running.
pub(crate) const FAILED: u8 = 1;
/// The arguments or the configuration are invalid; nothing was started or changed.
pub(crate) const INVALID: u8 = 2;
/// A second signal ended the process before its connections did: 128 + SIGINT, as shells count.
pub(crate) const FORCED: u8 = 130;

/// A load balancer: layer 4 in the Linux kernel, layer 7 in userspace, one config file.
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_CODES)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// Configuration file
    #[arg(short, long, global = true, default_value = "config.toml", value_name = "FILE")]
    pub(crate) config: PathBuf,

    /// How log lines look
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Human, value_name = "FORMAT")]
    pub(crate) log_format: LogFormat,

    /// What is logged: error, warn, info, debug, trace, or a filter such as deston::proxy=debug
    /// [default: the variable DESTON_LOG, else info]
    #[arg(long, global = true, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
}

const EXIT_CODES: &str = "\
Signals: SIGHUP reads the configuration again. SIGINT and SIGTERM stop: the first lets connections \
finish, the second does not.
Exit codes: 0 stopped as asked, 1 an error while starting or running, 2 invalid arguments or \
configuration (nothing was started or changed), 130 stopped by a second signal.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve (the default)
    Run,
    /// Validate the configuration without starting anything
    Check {
        /// Print what running it needs: `root` if a listener needs the kernel datapath, else `user`
        #[arg(long)]
        needs: bool,
    },
    /// Take everything of an instance out of the kernel: what is attached, and all flows
    Detach {
        #[command(flatten)]
        instance: Instance,
        /// Also while a process holds it
        #[arg(long)]
        force: bool,
    },
    /// Find what on this host keeps the kernel datapath from working, each with what mends it
    Doctor(doctor::Arguments),
    /// List the flows that an instance has in the kernel, with or without its process
    Flows(flows::Arguments),
    /// Print what the kernel datapath of an instance has counted, with or without its process
    Counters(counters::Arguments),
    /// Routes of layer 7
    Route {
        #[command(subcommand)]
        command: route::Command,
    },
    /// Follow packets through the kernel datapath of an instance, each with what became of it and why
    Trace(trace::Arguments),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For eyes
    Human,
    /// One JSON object on each line
    Json,
}

/// Prints to standard output; a reader that has gone is no error.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Prints to standard error.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Prints every error of a configuration to standard error.
pub(crate) fn complain_of(report: &Report) {
    let style = if io::stderr().is_terminal() { Style::Coloured } else { Style::Plain };
    complain(&report.render(style));
}

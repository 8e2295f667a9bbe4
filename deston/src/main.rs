//! The `deston` program: arguments, logs, exit codes.

mod cli;

use std::process::ExitCode;

use clap::Parser;

use cli::{Args, Command, check, counters, detach, doctor, flows, log, route, run, trace};

fn main() -> ExitCode {
    let args = Args::parse();
    if let Err(error) = log::start(args.log_format, args.log_level.as_deref()) {
        cli::complain(&format!("error: {error}"));
        return ExitCode::from(cli::INVALID);
    }
    let code = match args.command.unwrap_or(Command::Run) {
        Command::Run => run::run(&args.config, args.log_format),
        Command::Check { needs } => check::check(&args.config, needs),
        Command::Detach { instance, force } => detach::detach(&args.config, instance, force),
        Command::Doctor(arguments) => doctor::doctor(&args.config, &arguments),
        Command::Flows(arguments) => flows::flows(&args.config, arguments),
        Command::Counters(arguments) => counters::counters(&args.config, arguments),
        Command::Route { command } => route::route(&args.config, command),
        Command::Trace(arguments) => trace::trace(&args.config, arguments),
    };
    ExitCode::from(code)
}

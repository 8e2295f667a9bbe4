//! Builds, tests, demonstrates and measures Deston: `cargo xtask help` lists the commands.
//!
//! One file or folder per command. Nothing here is part of the product, and xtask depends on no
//! crate of it: it calls the same programs that a person would.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool talks to its terminal"
)]

mod bench;
mod command;
mod config;
mod demo;
mod ebpf;
mod lab;
mod lint;
mod mutants;
mod process;
mod run;
mod setup;
mod test;
mod toolchain;
mod vm;
mod wait;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, tests, demonstrates and measures Deston")]
enum Xtask {
    /// Installs what building the kernel programs needs
    Setup,
    /// Builds the kernel programs and replaces the checked-in object
    Ebpf(ebpf::Arguments),
    /// Formatting, lints, documentation, dependencies, tidiness, and the object's digest
    Lint,
    /// Runs the tests
    Test(test::Arguments),
    /// Plants a fault in each stage of the kernel programs and sees the tests notice (root)
    Mutants,
    /// Builds Deston and runs it, or shows it at work
    Run(run::Arguments),
    /// Runs specs of the kernel programs on Linux 6.1 and 6.12, in virtual machines
    Vm(vm::Arguments),
    /// Measures Deston beside the peers that are installed
    Bench(bench::Arguments),
    #[command(hide = true)]
    DemoKernel(demo::KernelArguments),
    #[command(hide = true)]
    DemoServer(demo::server::Arguments),
    #[command(hide = true)]
    DemoClient(demo::answers::Arguments),
    #[command(hide = true)]
    Download(bench::download::Arguments),
}

fn main() -> ExitCode {
    let result = match Xtask::parse() {
        Xtask::Setup => setup::run(),
        Xtask::Ebpf(arguments) => ebpf::run(arguments),
        Xtask::Lint => lint::run(),
        Xtask::Test(arguments) => test::run(arguments),
        Xtask::Mutants => mutants::run(),
        Xtask::Run(arguments) => run::run(arguments),
        Xtask::Vm(arguments) => vm::run(&arguments),
        Xtask::Bench(arguments) => bench::run(&arguments),
        Xtask::DemoKernel(arguments) => demo::run_kernel(&arguments),
        Xtask::DemoServer(arguments) => demo::server::run(&arguments),
        Xtask::DemoClient(arguments) => demo::answers::run(&arguments),
        Xtask::Download(arguments) => bench::download::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

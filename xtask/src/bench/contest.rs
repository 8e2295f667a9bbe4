//! Contenders take turns under the same loads; the order is reversed every other round.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use super::Effort;
use super::cpu;
use super::load::{self, Load};
use super::table::{self, Row, Sample};

use crate::process::Running;
use crate::{command, wait};

/// Something that carries requests to the servers.
pub(crate) struct Contender<'a> {
    pub(crate) name: &'static str,
    /// Where it takes requests. Each contender has server ports of its own: a port that several
    /// reach under different addresses rejects handshakes whose timestamps seem to run backwards.
    pub(crate) listen: SocketAddr,
    pub(crate) start: Box<dyn Fn() -> Result<Started> + 'a>,
}

/// A contender at work; dropping it removes all traces.
#[derive(Default)]
pub(crate) struct Started {
    /// The process whose time is measured, if there is one.
    pub(crate) process: Option<Running>,
    /// The command that takes back what else was set up.
    pub(crate) undo: Option<Command>,
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.undo.as_mut().map(command::text) {
            eprintln!("left behind: {error:#}");
        }
    }
}

/// A program in the client's place.
pub(crate) type Client<'a> = &'a dyn Fn(&Path) -> Command;

/// Runs all rounds and prints a table for each load; the first contender is compared with the
/// others. The `servers` are what all have in common.
pub(crate) fn run(
    contenders: &[Contender<'_>],
    loads: &[Load],
    client: Client<'_>,
    servers: &[Running],
    effort: Effort,
) -> Result<()> {
    let mut samples: Vec<Vec<Vec<Sample>>> = vec![vec![Vec::new(); contenders.len()]; loads.len()];
    let mut faults = vec![None; contenders.len()];
    let mut busy = 0;
    for round in 0..effort.rounds {
        let mut order: Vec<usize> = (0..contenders.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let Some(contender) = contenders.get(index) else { continue };
            if faults[index].is_some() {
                continue;
            }
            eprintln!("round {} of {}: {}", round + 1, effort.rounds, contender.name);
            busy += u32::from(!cpu::wait_until_idle()?);
            match turn(contender, loads, client, servers, effort) {
                Ok(turn) => {
                    samples.iter_mut().zip(turn).for_each(|(of, sample)| of[index].push(sample));
                }
                Err(error) => {
                    wait::check_interrupt()?;
                    eprintln!("{} is left out: {error:#}", contender.name);
                    faults[index] = Some(error.to_string());
                }
            }
        }
    }
    for (load, samples) in loads.iter().zip(samples) {
        println!("\n### {}\n", load.title);
        let row = |(contender, samples): (&Contender<'_>, _)| Row { name: contender.name, samples };
        println!(
            "{}",
            table::markdown(
                load.traffic.unit(),
                &contenders.iter().zip(samples).map(row).collect::<Vec<_>>()
            )
        );
    }
    if busy > 0 {
        println!("\n{busy} of the turns began while the machine was busy with something else.");
    }
    Ok(())
}

/// One contender under each load.
fn turn(
    contender: &Contender<'_>,
    loads: &[Load],
    client: Client<'_>,
    servers: &[Running],
    effort: Effort,
) -> Result<Vec<Sample>> {
    let mut started = (contender.start)().context("starting it")?;
    answers(contender.listen, &mut started, client)?;
    let mut samples = Vec::new();
    for load in loads {
        // This process too, whose clients inherit it.
        let all: Vec<u32> = servers.iter().chain(&started.process).map(Running::pid).collect();
        let _pinned = load.one_processor.then(|| Pinned::new(all)).transpose()?;
        // Connections to the servers are opened, tables filled.
        load::run(client, contender.listen, *load, 1)?;
        let time = || -> Result<_> {
            let process = started.process.as_ref().map(|process| cpu::of_tree(process.pid()));
            Ok((process.transpose()?, cpu::of_machine()?))
        };
        let before = time()?;
        let report = load::run(client, contender.listen, *load, effort.seconds)?;
        let after = time()?;
        wait::check_interrupt()?;
        samples.push(Sample {
            per_second: report.per_second,
            p50_us: report.p50_us,
            p99_us: report.p99_us,
            process_us: after
                .0
                .zip(before.0)
                .map(|(after, before)| (after - before) / report.amount),
            machine_us: (after.1 - before.1) / report.amount,
            errors: report.errors,
        });
    }
    Ok(samples)
}

/// Process trees that share one processor until this is dropped.
struct Pinned {
    trees: Vec<u32>,
    /// Where they may run otherwise.
    before: CpuSet,
}

impl Pinned {
    fn new(mut trees: Vec<u32>) -> Result<Self> {
        trees.push(std::process::id());
        let before = sched_getaffinity(Pid::from_raw(0))?;
        let lowest = (0..CpuSet::count()).find(|place| before.is_set(*place).unwrap_or(false));
        let mut one = CpuSet::new();
        one.set(lowest.context("this process may run nowhere")?)?;
        let pinned = Self { trees, before };
        pinned.trees.iter().try_for_each(|tree| cpu::pin_tree(*tree, one))?;
        Ok(pinned)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        for tree in &self.trees {
            if let Err(error) = cpu::pin_tree(*tree, self.before) {
                eprintln!("left on one processor: {error:#}");
            }
        }
    }
}

/// Waits for an answer, as the kernel's datapaths open no socket that could be looked for.
fn answers(listen: SocketAddr, started: &mut Started, client: Client<'_>) -> Result<()> {
    let xtask = std::env::current_exe().context("finding this program")?;
    wait::until(&format!("an answer from {listen}"), Duration::from_secs(15), || {
        if let Some(process) = &mut started.process {
            process.must_run()?;
        }
        let mut ask = client(&xtask);
        ask.args(["demo-client", &listen.to_string(), "1"]);
        Ok(command::output(&mut ask)?.status.success().then_some(()))
    })
    .map_err(|error| match &started.process {
        Some(process) => process.explain(error),
        None => error,
    })
}

//! Processor time, of a process with its children and of the whole machine, from /proc.

use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::wait;

/// Microseconds in a tick: USER_HZ is 100 on every architecture that Deston runs on.
const TICK_US: f64 = 10_000.0;

/// Processor time that a process and all that it started have used, in microseconds.
pub(crate) fn of_tree(root: u32) -> Result<f64> {
    Ok(tree(root)?.iter().map(|stat| stat.ticks).sum::<f64>() * TICK_US)
}

/// A process and all that it started.
fn tree(root: u32) -> Result<Vec<Stat>> {
    let mut stats = Vec::new();
    for entry in std::fs::read_dir("/proc").context("reading /proc")? {
        let path = entry?.path().join("stat");
        // Whatever is no process, or ended meanwhile, has no such file.
        stats.extend(std::fs::read_to_string(path).ok().and_then(|text| parse(&text)));
    }
    let mut family = vec![root];
    let mut index = 0;
    while let Some(&parent) = family.get(index) {
        family.extend(stats.iter().filter(|stat| stat.parent == parent).map(|stat| stat.pid));
        index += 1;
    }
    stats.retain(|stat| family.contains(&stat.pid));
    Ok(stats)
}

/// Lets all threads of a process, and of all that it started, run on these processors alone.
pub(crate) fn pin_tree(root: u32, processors: CpuSet) -> Result<()> {
    for process in tree(root)? {
        let threads = format!("/proc/{}/task", process.pid);
        let Ok(threads) = std::fs::read_dir(threads) else { continue };
        for thread in threads.flatten() {
            let Some(id) = thread.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            match sched_setaffinity(Pid::from_raw(id), &processors) {
                // It has ended meanwhile.
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => return Err(error).context("pinning a thread"),
            }
        }
    }
    Ok(())
}

/// Processor time that the whole machine has used, in microseconds, interrupts included.
pub(crate) fn of_machine() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
    let line = text.lines().next().context("/proc/stat is empty")?;
    let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|t| t.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guest time is in user already.
    let used = [0, 1, 2, 5, 6].into_iter().filter_map(|field| ticks.get(field)).sum::<f64>();
    Ok(used * TICK_US)
}

/// Waits until little else runs; gives up after a while, as a shared machine may never be idle.
pub(crate) fn wait_until_idle() -> Result<bool> {
    const LOOK: Duration = Duration::from_millis(300);
    let mut before = of_machine()?;
    let mut start = wait::now();
    let idle = wait::until("an idle machine", Duration::from_secs(6), || {
        if start.elapsed() < LOOK {
            return Ok(None);
        }
        let used = of_machine()?;
        let share = (used - before) / start.elapsed().as_micros() as f64;
        (before, start) = (used, wait::now());
        Ok((share < 0.15).then_some(()))
    });
    wait::check_interrupt()?;
    Ok(idle.is_ok())
}

#[derive(Debug, PartialEq)]
struct Stat {
    pid: u32,
    parent: u32,
    ticks: f64,
}

/// Reads `/proc/PID/stat`; the name in it may hold blanks and parentheses.
fn parse(text: &str) -> Option<Stat> {
    let (pid, rest) = text.split_once(" (")?;
    let (_, rest) = rest.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some(Stat {
        pid: pid.parse().ok()?,
        parent: fields.get(1)?.parse().ok()?,
        // Fields 14 and 15 of proc(5), counted from the state, which is field 3.
        ticks: ticks(11)? + ticks(12)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let text = "42 (a) S (b) S 7 42 42 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1 0 12345 0 0\n";
        assert_eq!(parse(text), Some(Stat { pid: 42, parent: 7, ticks: 200.0 }));
    }

    #[test]
    fn this_process_has_used_no_more_than_the_machine() {
        let own = of_tree(std::process::id()).unwrap();
        assert!(own <= of_machine().unwrap());
    }
}

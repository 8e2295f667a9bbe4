//! The loaded programs and the model agree, on runs that nobody thought of: the verdict and the
//! packet of every step, and all state after every thousand packets.
//!
//! `DESTON_MODEL_SEED=N` plays the run of one seed. A difference is shrunk and told as the shortest
//! run that shows it.

use deston_tests::model::against::{Run, Tally, play};
use deston_tests::model::outcome::Outcome;
use deston_tests::model::settings::Hook;
use deston_tests::require_kernel;

/// Runs at XDP, one a seed.
const RUNS: u64 = 40;
/// Packets of one run.
const PACKETS: usize = 25_000;
/// Packets of each outcome in a million, at least.
const LEAST: u64 = 1_000;

/// Outcomes that test packets, which come one by one, hardly have, each with its reason.
const UNREACHABLE: &[(Outcome, &str)] =
    &[(Outcome::Raced, "two processors open one flow at the same moment, or an entry was lost")];

#[test]
fn the_programs_agree_with_the_model_on_1_000_000_packets_at_xdp() {
    require_kernel!();
    let tally = told(&chosen(Hook::Xdp, RUNS));
    if tally.packets < RUNS * PACKETS as u64 {
        println!("outcomes are not counted in fewer packets");
        return;
    }
    let rare: Vec<_> = Outcome::ALL
        .iter()
        .filter(|outcome| UNREACHABLE.iter().all(|(other, _)| other != *outcome))
        .map(|outcome| (outcome, tally.outcomes.get(outcome).copied().unwrap_or(0)))
        .filter(|(_, count)| *count < LEAST * tally.packets / 1_000_000)
        .collect();
    assert!(rare.is_empty(), "too rare to be tried well: {rare:?}");
}

#[test]
fn the_programs_agree_with_the_model_at_tc() {
    require_kernel!();
    told(&chosen(Hook::Tc, 4));
}

/// The runs to play: `runs` of them, fewer on a slow machine, or one that is asked for.
fn chosen(hook: Hook, runs: u64) -> Run {
    let asked = std::env::var("DESTON_MODEL_SEED").ok();
    let is_slow = std::env::var_os("DESTON_SLOW_MACHINE").is_some_and(|value| value == "1");
    let (runs, packets) = if is_slow { (2, PACKETS / 5) } else { (runs, PACKETS) };
    match asked {
        Some(text) => {
            let seed = text.parse().expect("DESTON_MODEL_SEED is a number");
            Run { hook, seed, runs: 1, packets }
        }
        None => Run { hook, seed: 1, runs, packets },
    }
}

fn told(run: &Run) -> Tally {
    let last = run.seed + run.runs - 1;
    println!("seeds {} to {last} at {:?}, {} packets each", run.seed, run.hook, run.packets);
    let tally = play(run);
    println!("{} packets in {:?}", tally.packets, tally.took);
    for outcome in Outcome::ALL {
        let count = tally.outcomes.get(outcome).copied().unwrap_or(0);
        println!("{count:>8} {}", outcome.name());
    }
    for (outcome, reason) in UNREACHABLE {
        println!("{} is rare here: {reason}", outcome.name());
    }
    tally
}

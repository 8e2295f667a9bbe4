//! One run: the model and the programs take the same steps, packet by packet and state by state.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use deston::datapath::Ran;

use super::super::balance::{Model, Verdict};
use super::super::generate::{self, Generator};
use super::super::outcome::{Action, Outcome};
use super::super::settings::{Hook, Table};
use super::super::step::Step;
use super::loaded::{Loaded, action};
use super::routes;
use super::shrink;
use super::states::{Counts, difference, miscounted};

/// Packets between two comparisons of state.
const BATCH: usize = 1_000;
/// Promoted flows of each family that there is room for: few enough to be full at times.
pub(super) const FLOWS: u32 = 18;

/// Which runs to play.
#[derive(Clone, Debug)]
pub struct Run {
    /// The hook.
    pub hook: Hook,
    /// The first seed; the next run has the next.
    pub seed: u64,
    /// Runs.
    pub runs: u64,
    /// Packets in each.
    pub packets: usize,
}

/// What was played.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Packets.
    pub packets: u64,
    /// Packets of each outcome.
    pub outcomes: BTreeMap<Outcome, u64>,
    /// How long it took.
    pub took: Duration,
}

/// Plays runs, and panics with the shortest way to a difference if there is one. The calling thread
/// stays on one processor afterwards, in a network namespace of its own.
pub fn play(run: &Run) -> Tally {
    let processor = isolate();
    let has_routes = routes::make(&generate::known_clients());
    if !has_routes {
        println!("no routes to clients: `ip` is missing or makes no veth");
    }
    let mut loaded = Loaded::new(FLOWS).expect("the kernel takes the programs");
    let began = Instant::now();
    let mut tally = Tally::default();
    for seed in run.seed..run.seed + run.runs {
        let (mut generator, mut steps) = Generator::new(seed, run.hook);
        steps.retain(|step| has_routes || !matches!(step, Step::Route(..)));
        let mut player = Player::new(&mut loaded, processor, &steps);
        let mut failed = steps.iter().find_map(|step| player.take(step).err());
        while failed.is_none() && player.packets < run.packets as u64 {
            let step = generator.step(&player.model);
            failed = player.take(&step).err();
            steps.push(step);
        }
        if failed.is_none() {
            failed = player.compare().err();
        }
        tally.packets += player.packets;
        for (outcome, count) in &player.total {
            *tally.outcomes.entry(*outcome).or_insert(0) += count;
        }
        if let Some(failure) = failed {
            let (steps, failure) = shrink::shortest(&mut loaded, processor, steps, failure);
            panic!("seed {seed} at {:?}:\n{}\n{failure}", run.hook, shrink::told(&steps));
        }
    }
    tally.took = began.elapsed();
    tally
}

/// Keeps this thread on one processor, whose counters are then exact, and away from the host's
/// routes.
fn isolate() -> usize {
    use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, unshare};
    use nix::unistd::Pid;
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this).expect("a thread may ask for its processors");
    let processor = (0..CpuSet::count()).find(|n| allowed.is_set(*n).unwrap_or(false));
    let processor = processor.expect("a thread has a processor");
    let mut one = CpuSet::new();
    one.set(processor).expect("the processor was in a set");
    sched_setaffinity(this, &one).expect("a thread may choose of its processors");
    unshare(CloneFlags::CLONE_NEWNET).expect("root may make a network namespace");
    processor
}

/// The model and the programs, side by side.
pub(super) struct Player<'a> {
    pub(super) model: Model,
    loaded: &'a mut Loaded,
    processor: usize,
    packets: u64,
    /// Packets of each outcome since the last comparison, and since the beginning.
    outcomes: BTreeMap<Outcome, u64>,
    total: BTreeMap<Outcome, u64>,
    counts: Counts,
    /// Packets between two comparisons of state.
    batch: usize,
}

impl<'a> Player<'a> {
    pub(super) fn new(loaded: &'a mut Loaded, processor: usize, next: &[Step]) -> Self {
        loaded.reset(next).expect("maps can be emptied");
        let mut model = Model::new(FLOWS as usize);
        for pool in &loaded.emptied {
            model.settings.tables.insert(*pool, Table::default());
        }
        Self {
            model,
            counts: loaded.counts().expect("counters can be read"),
            loaded,
            processor,
            packets: 0,
            outcomes: BTreeMap::new(),
            total: BTreeMap::new(),
            batch: BATCH,
        }
    }

    /// The same, comparing states after each step.
    pub(super) fn closely(self) -> Self {
        Self { batch: 1, ..self }
    }

    /// Takes a step on both sides; says what differs.
    pub(super) fn take(&mut self, step: &Step) -> Result<(), String> {
        let expected = self.model.take(step);
        let ran = self.loaded.take(step).map_err(|error| format!("{step:?}: {error}"))?;
        let (Some(expected), Some(ran)) = (expected, ran) else {
            return if self.batch == 1 { self.compare() } else { Ok(()) };
        };
        self.packets += 1;
        *self.outcomes.entry(expected.outcome).or_insert(0) += 1;
        *self.total.entry(expected.outcome).or_insert(0) += 1;
        let differs = differs(&expected, &ran);
        if self.packets.is_multiple_of(self.batch as u64) || differs.is_some() {
            let compared = self.compare();
            if let Some(text) = differs {
                return Err(text + &compared.err().unwrap_or_default());
            }
            return compared;
        }
        Ok(())
    }

    /// Compares states and counters.
    pub(super) fn compare(&mut self) -> Result<(), String> {
        let tables = self.loaded.tables(self.processor).map_err(|error| error.to_string())?;
        let now = self.loaded.counts().map_err(|error| error.to_string())?;
        let counted = miscounted(&self.outcomes, &self.counts, &now);
        self.outcomes.clear();
        self.counts = now;
        match (difference(&self.model, &tables), counted) {
            (None, None) => Ok(()),
            (state, counted) => Err(state.unwrap_or_default() + &counted.unwrap_or_default()),
        }
    }
}

/// What differs between two ends of a packet, if anything does. The bytes of a packet that is
/// dropped are nobody's.
fn differs(expected: &Verdict, ran: &Ran) -> Option<String> {
    let is_same = action(ran) == Some(expected.action)
        && (expected.action == Action::Drop || expected.frame == ran.packet);
    if is_same {
        return None;
    }
    Some(format!(
        "model  {:?} {:?}\n{}kernel {:?}\n{}",
        expected.outcome,
        expected.action,
        shrink::hex(&expected.frame),
        ran.action,
        shrink::hex(&ran.packet)
    ))
}

//! The shortest run that still shows a difference.

use super::super::step::Step;
use super::loaded::Loaded;
use super::play::Player;

/// Runs that are tried before the shortest so far has to do.
const TRIES: usize = 400;
/// Steps that are few enough to compare states after each.
const FEW: usize = 200;

/// Leaves out of a failing run what it does not need, in ever smaller parts.
pub(super) fn shortest(
    loaded: &mut Loaded,
    processor: usize,
    steps: Vec<Step>,
    failure: String,
) -> (Vec<Step>, String) {
    let Some((mut steps, mut failure)) = fails(loaded, processor, &steps) else {
        return (steps, format!("(not seen again) {failure}"));
    };
    let mut tries = 0;
    let mut part = steps.len() / 2;
    while part > 0 && tries < TRIES {
        let mut from = 0;
        while from < steps.len() && tries < TRIES {
            let mut fewer = steps.clone();
            let left_out = fewer.drain(from..(from + part).min(steps.len()));
            // The host's routes stay, whatever the model is told.
            let routes: Vec<Step> =
                left_out.filter(|step| matches!(step, Step::Route(..))).collect();
            if routes.len() == part {
                from += part;
                continue;
            }
            fewer.splice(from..from, routes);
            tries += 1;
            match fails(loaded, processor, &fewer) {
                Some(found) => (steps, failure) = found,
                None => from += part,
            }
        }
        part /= 2;
    }
    (steps, failure)
}

/// Replays steps; those up to the first difference, and what it is.
fn fails(loaded: &mut Loaded, processor: usize, steps: &[Step]) -> Option<(Vec<Step>, String)> {
    let (end, failure) = replay(Player::new(loaded, processor, steps), steps)?;
    let steps = &steps[..steps.len().min(end + 1)];
    if steps.len() > FEW {
        return Some((steps.to_vec(), failure));
    }
    // The state may have differed before the coarse look saw it.
    let (end, failure) = replay(Player::new(loaded, processor, steps).closely(), steps)
        .unwrap_or((steps.len(), failure));
    Some((steps[..steps.len().min(end + 1)].to_vec(), failure))
}

fn replay(mut player: Player<'_>, steps: &[Step]) -> Option<(usize, String)> {
    for (place, step) in steps.iter().enumerate() {
        if let Err(failure) = player.take(step) {
            return Some((place, failure));
        }
    }
    player.compare().err().map(|failure| (steps.len(), failure))
}

/// A run, told.
pub(super) fn told(steps: &[Step]) -> String {
    let tell = |step: &Step| {
        if let Step::Packet(hook, frame) = step {
            format!("packet at {hook:?}\n{}", hex(frame))
        } else {
            format!("{step:?}\n")
        }
    };
    steps.iter().map(tell).collect()
}

/// The first bytes, sixteen a line: what a difference is about stands in the headers.
pub(super) fn hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| {
        let bytes: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("    {}\n", bytes.join(" "))
    };
    let told: String = bytes.chunks(16).take(12).map(line).collect();
    if bytes.len() > 192 { format!("{told}    .. {} bytes\n", bytes.len()) } else { told }
}

//! The balancer alone: many frames in each run of the wrapper, less what an empty program takes
//! there.

use anyhow::{Result, bail};
use deston::datapath::Kernel;
use deston_tests::kernel::Family;
use deston_tests::packet::{Packet, flags};

use crate::field::{self, Field};
use crate::inject::{Frames, Injector, Then, Varies, Verdict};
use crate::stats::Rounds;

/// Measurements of one figure.
const ROUNDS: usize = 21;
/// Frames of one measurement, at least.
const FRAMES: u32 = 100_000;
/// Frames in one run of the wrapper: each of the kernel's 33 tail calls.
const PASSES: u32 = 32;
/// Of packets that open flows, which go through two more programs.
const SLOW_PASSES: u32 = 10;
/// New flows of one measurement: few enough that none is evicted.
const NEW_FLOWS: u32 = 20_000;
/// How often a measurement is tried.
const ATTEMPTS: u32 = 20;
/// New flows after which each evicts another.
const FILL: u32 = 100_000;

/// Which program takes the frames, and what it has to do first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The empty program.
    Empty,
    /// The balancer; the flows are known, or never are.
    Known,
    /// The balancer; each frame opens a flow, and there is room.
    New,
    /// The balancer; each frame opens a flow, for which another is evicted.
    Evicting,
}

struct Case {
    name: String,
    frames: Frames,
    kind: Kind,
    field: Field,
    passes: u32,
    verdict: Verdict,
    rounds: Rounds,
    /// Frames sent so far.
    sent: u64,
}

/// Measures the cases whose name holds `only`.
pub(crate) fn measure(only: &str) -> Result<()> {
    let mut injector = Injector::load()?;
    eprintln!("opening flows");
    let mut kernels = Vec::new();
    for field in Field::ALL {
        kernels.push(field.fill()?);
    }
    let mut cases = cases();
    cases.retain(|case| case.kind == Kind::Empty || case.name.contains(only));
    for round in 0..ROUNDS {
        eprintln!("round {} of {ROUNDS}", round + 1);
        let count = cases.len();
        for place in 0..count {
            let place = if round % 2 == 0 { place } else { count - 1 - place };
            let case = &mut cases[place];
            run(&mut injector, &mut kernels[case.field as usize], case)?;
        }
    }
    print(&cases);
    programs(&kernels[0])
}

/// One measurement of one case. Where others kept the processor for a second, flows were silent for
/// so long that they took another way: then it is tried again.
fn run(injector: &mut Injector, kernel: &mut Kernel, case: &mut Case) -> Result<()> {
    for _ in 0..ATTEMPTS {
        if let Some(nanoseconds) = attempt(injector, kernel, case)? {
            case.rounds.push(nanoseconds);
            return Ok(());
        }
    }
    let outcomes = kernel.outcomes()?;
    bail!("{outcomes:?} {}: not all frames had the verdict {:?}", case.name, case.verdict)
}

fn attempt(injector: &mut Injector, kernel: &mut Kernel, case: &mut Case) -> Result<Option<f64>> {
    let count = match case.kind {
        Kind::New => NEW_FLOWS,
        Kind::Empty | Kind::Known | Kind::Evicting => case.frames.flows.max(FRAMES),
    };
    let runs = count.div_ceil(case.passes);
    if case.kind == Kind::Empty {
        injector.call_nothing()?;
    } else {
        injector.call(kernel)?;
    }
    // Those who were silent for a second take another program and another tail call each.
    injector.order(&case.frames, case.sent, Then::Balance, SLOW_PASSES)?;
    match case.kind {
        // Every flow was heard of in this second then, as those of a busy balancer were.
        Kind::Empty | Kind::Known => {
            // Twice, as the first time takes longer than a second where there are many flows.
            injector.wrapped((2 * case.frames.flows).div_ceil(SLOW_PASSES).max(100))?;
        }
        Kind::New => field::forget_half_open(kernel)?,
        Kind::Evicting => {
            injector.wrapped(FILL.div_ceil(SLOW_PASSES))?;
            case.sent += u64::from(FILL);
        }
    }
    injector.order(&case.frames, case.sent, Then::Balance, case.passes)?;
    let before = injector.seen(case.verdict)?;
    let spent = injector.wrapped(runs)?;
    let seen = injector.seen(case.verdict)? - before;
    let sent = u64::from(runs * case.passes);
    case.sent += sent;
    Ok((seen == sent).then(|| spent.as_nanos() as f64 / f64::from(case.passes)))
}

fn cases() -> Vec<Case> {
    let v4 = Packet::tcp(field::client(Family::V4), field::listener(Family::V4), flags::ACK);
    let empty = |what: &str, passes| Case {
        verdict: Verdict::Pass,
        passes,
        ..case(what.to_owned(), &v4, 1, Field::Nat, Kind::Empty)
    };
    let mut cases = vec![
        empty("empty program", PASSES),
        empty("empty program, 10 frames in each run", SLOW_PASSES),
    ];
    for family in [Family::V4, Family::V6] {
        let client = field::client(family);
        let known = |what: &str, packet: &Packet, flows, field| {
            case(format!("{family:?} {what}, {flows} flows"), packet, flows, field, Kind::Known)
        };
        let foreign = Packet::tcp(client, (family.stranger(), 80), flags::ACK);
        let foreign =
            case(format!("{family:?} foreign packet"), &foreign, 1, Field::Nat, Kind::Known);
        cases.push(Case { verdict: Verdict::Pass, ..foreign });
        let ack = Packet::tcp(client, field::listener(family), flags::ACK);
        let (server, snat) = field::reply(family);
        let reply = Packet::tcp(server, snat, flags::ACK);
        let all = [
            (1, Field::Nat),
            (1 << 10, Field::Nat),
            (1 << 16, Field::Nat),
            (1 << 19, Field::Large),
        ];
        for (flows, field) in all {
            cases.push(known("nat", &ack, flows, field));
        }
        for (flows, field) in all {
            let mut case = known("nat reply", &reply, flows, field);
            case.frames.varies = Varies::Reply;
            cases.push(case);
        }
        for (field, name) in [(Field::DsrL2, "dsr-l2"), (Field::DsrIpip, "dsr-ipip")] {
            for flows in [1, 1 << 10, 1 << 16] {
                cases.push(known(name, &ack, flows, field));
            }
        }
        let syn = Packet::tcp(client, field::fresh_listener(family), flags::SYN);
        let fresh = |what: &str, kind| Case {
            passes: SLOW_PASSES,
            ..case(format!("{family:?} {what}"), &syn, 1 << 22, Field::Nat, kind)
        };
        cases.push(fresh("nat, new flow", Kind::New));
        cases.push(fresh("nat, new flow, evicting", Kind::Evicting));
    }
    cases
}

fn case(name: String, packet: &Packet, flows: u32, field: Field, kind: Kind) -> Case {
    let frames = Frames { packet: packet.clone(), flows, varies: Varies::Source };
    Case {
        name,
        frames,
        kind,
        field,
        passes: PASSES,
        verdict: Verdict::Redirect,
        rounds: Rounds::default(),
        sent: 0,
    }
}

fn print(cases: &[Case]) {
    println!(
        "\n{ROUNDS} measurements of {FRAMES} frames or more, {PASSES} (opening flows: {SLOW_PASSES}) \
         in each run, ns a frame; net of the empty program:\n"
    );
    println!("| case | least | median | net least | net median |\n|---|---|---|---|---|");
    for case in cases {
        let empty = cases
            .iter()
            .find(|other| other.kind == Kind::Empty && other.passes == case.passes)
            .map_or((0.0, 0.0), |other| (other.rounds.least(), other.rounds.median()));
        println!(
            "| {} | {:.1} | {:.1} | {:.1} | {:.1} |",
            case.name,
            case.rounds.least(),
            case.rounds.median(),
            case.rounds.least() - empty.0,
            case.rounds.median() - empty.1
        );
    }
}

/// What the kernel says of the programs.
fn programs(kernel: &Kernel) -> Result<()> {
    println!("\n| program | verified instructions | bytes of machine code |\n|---|---|---|");
    for name in Kernel::PROGRAMS {
        let verified = kernel.verified_instructions(name)?;
        let verified = verified.map_or("unknown".to_owned(), |count| count.to_string());
        println!("| {name} | {verified} | {} |", kernel.machine_code(name)?);
    }
    Ok(())
}

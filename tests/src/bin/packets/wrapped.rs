//! The balancer alone: many frames in each run of the wrapper, less what an empty program takes
//! there.

use anyhow::{Result, bail};
use deston::datapath::Kernel;
use deston_common::listener::Forwarding;
use deston_tests::kernel::Family;
use deston_tests::packet::{Packet, flags};

use crate::field::{self, DSR_FLOWS, NAT_FLOWS};
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
    passes: u32,
    verdict: Verdict,
    rounds: Rounds,
    /// Frames sent so far.
    sent: u64,
}

pub(crate) fn measure() -> Result<()> {
    let mut injector = Injector::load()?;
    eprintln!("opening flows");
    let mut kernel = field::fill()?;
    let mut cases = cases();
    for round in 0..ROUNDS {
        eprintln!("round {} of {ROUNDS}", round + 1);
        let count = cases.len();
        for place in 0..count {
            let place = if round % 2 == 0 { place } else { count - 1 - place };
            run(&mut injector, &mut kernel, &mut cases[place])?;
        }
    }
    print(&cases);
    programs(&kernel)
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
        Kind::Empty | Kind::Known | Kind::Evicting => case.frames.flows.clamp(FRAMES, NAT_FLOWS),
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
    let listener = |family| field::listener(family, Forwarding::Nat);
    let v4 = Packet::tcp(field::client(Family::V4), listener(Family::V4), flags::ACK);
    let mut cases = vec![
        case("empty program".to_owned(), &v4, 1, Kind::Empty),
        Case {
            passes: SLOW_PASSES,
            ..case("empty program, 10 frames".to_owned(), &v4, 1, Kind::Empty)
        },
    ];
    for family in [Family::V4, Family::V6] {
        let client = field::client(family);
        let foreign = (family.stranger(), 80);
        let known = |what: &str, packet: &Packet, flows| {
            case(format!("{family:?} {what}, {flows} flows"), packet, flows, Kind::Known)
        };
        let foreign = Packet::tcp(client, foreign, flags::ACK);
        cases.push(Case { verdict: Verdict::Pass, ..known("foreign packet", &foreign, 1) });
        let ack = Packet::tcp(client, listener(family), flags::ACK);
        let (server, snat) = field::reply(family);
        let reply = Packet::tcp(server, snat, flags::ACK);
        for flows in [1, 1 << 10, 1 << 16, NAT_FLOWS] {
            cases.push(known("nat", &ack, flows));
        }
        for flows in [1, 1 << 10, 1 << 16, NAT_FLOWS] {
            let mut case = known("nat reply", &reply, flows);
            case.frames.varies = Varies::Reply;
            cases.push(case);
        }
        for (forwarding, name) in [(Forwarding::DsrL2, "dsr-l2"), (Forwarding::DsrIpip, "dsr-ipip")]
        {
            let to = field::listener(family, forwarding);
            for flows in [1, 1 << 10, DSR_FLOWS] {
                cases.push(known(name, &Packet::tcp(client, to, flags::ACK), flows));
            }
        }
        let syn = Packet::tcp(client, field::fresh_listener(family), flags::SYN);
        let fresh = |what: &str, kind| Case {
            passes: SLOW_PASSES,
            ..case(format!("{family:?} {what}"), &syn, 1 << 22, kind)
        };
        cases.push(fresh("nat, new flow", Kind::New));
        cases.push(fresh("nat, new flow, evicting", Kind::Evicting));
    }
    cases
}

fn case(name: String, packet: &Packet, flows: u32, kind: Kind) -> Case {
    let verdict = if kind == Kind::Empty { Verdict::Pass } else { Verdict::Redirect };
    let frames = Frames { packet: packet.clone(), flows, varies: Varies::Source };
    Case { name, frames, kind, passes: PASSES, verdict, rounds: Rounds::default(), sent: 0 }
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

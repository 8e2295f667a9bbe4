//! `deston trace`: packets on their way through the kernel datapath, each with what became of it.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use clap::ValueEnum;
use deston::datapath::{Trace, TraceError};
use deston::explain::{Clock, Packet, Prefix, Servers};
use deston_common::event::{TraceFilter, Traced};
use deston_common::net::{Be16, ICMP, ICMPV6, TCP, UDP};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::instance::Instance;
use super::{FAILED, OK, complain, say};

/// How often it is looked whether the programs still trace, and have packets left to tell of.
const LOOK: Duration = Duration::from_millis(500);

/// A time that no trace lasts.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Which packets, and how they look.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    instance: Instance,
    /// Packets from or to these clients alone: an address, or a prefix such as 198.51.100.0/24
    #[arg(long, value_name = "PREFIX")]
    client: Option<Prefix>,
    /// Packets from or to this port alone
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Packets of this protocol alone
    #[arg(long, value_enum, value_name = "PROTOCOL")]
    proto: Option<Protocol>,
    /// One packet of so many, chosen at random
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    sample: u32,
    /// Packets to tell of, then it ends
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// Seconds, then it ends [default: no limit]
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
    /// One JSON object on each line
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Protocol {
    Tcp,
    Udp,
    Icmp,
    Icmpv6,
}

impl Arguments {
    fn filter(&self) -> TraceFilter {
        let (address, mask) = self.client.map(|prefix| prefix.widened()).unwrap_or_default();
        TraceFilter {
            address,
            mask,
            port: Be16::from_host(self.port.unwrap_or(0)),
            protocol: match self.proto {
                Some(Protocol::Tcp) => TCP,
                Some(Protocol::Udp) => UDP,
                Some(Protocol::Icmp) => ICMP,
                Some(Protocol::Icmpv6) => ICMPV6,
                None => 0,
            },
            pad: 0,
            sample: self.sample,
            budget: self.count,
        }
    }
}

/// Prints packets until there were enough, time is over, or a signal says stop.
pub(crate) fn trace(config: &Path, arguments: Arguments) -> u8 {
    let filter = arguments.filter();
    let (json, seconds) = (arguments.json, arguments.seconds);
    let name = match arguments.instance.name(config) {
        Ok(name) => name,
        Err(code) => return code,
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("cannot wait for packets: {error}"));
            return FAILED;
        }
    };
    match runtime.block_on(follow(&name, &filter, seconds, json)) {
        Ok(told) => {
            complain(&told.to_string());
            OK
        }
        Err(error) => {
            complain(&error.to_string());
            FAILED
        }
    }
}

/// What was told in the end.
struct Told {
    packets: u64,
    lost: u64,
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { packets, lost } = self;
        write!(f, "{packets} packets")?;
        if *lost > 0 {
            write!(f, ", and {lost} that came faster than they could be told of: `--sample`")?;
        }
        Ok(())
    }
}

async fn follow(
    instance: &str,
    filter: &TraceFilter,
    seconds: Option<u64>,
    json: bool,
) -> Result<Told, TraceError> {
    let stops = || -> io::Result<_> {
        Ok((signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?))
    };
    // Before the programs are told anything, so that no signal finds its default action.
    let (mut interrupted, mut terminated) = stops().map_err(TraceError::Ring)?;
    let mut trace = Trace::begin(instance, filter)?;
    complain(&format!("tracing instance `{instance}`; Ctrl-C ends it"));
    let end = Instant::now() + seconds.map_or(FOREVER, Duration::from_secs).min(FOREVER);
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut teller = Teller { json, ..Teller::default() };
    let mut packets = 0;
    while packets < filter.budget {
        tokio::select! {
            biased;
            _ = interrupted.recv() => break,
            _ = terminated.recv() => break,
            () = sleep_until(end) => break,
            traced = trace.next() => {
                teller.tell(&trace, traced?);
                packets += 1;
            }
            // Nothing waits in the ring then.
            _ = look.tick() => {
                if trace.left()? == 0 {
                    break;
                }
                trace.insist()?;
            }
        }
    }
    Ok(Told { packets, lost: trace.lost()? })
}

#[derive(Default)]
struct Teller {
    json: bool,
    servers: Servers,
    interfaces: BTreeMap<u32, String>,
}

impl Teller {
    fn tell(&mut self, trace: &Trace, traced: Traced) {
        let interface = self.interfaces.entry(traced.ifindex).or_insert_with_key(|index| {
            let name = nix::net::if_::if_indextoname(*index);
            name.map_or_else(|_| format!("if{index}"), |name| name.to_string_lossy().into_owned())
        });
        let server = (traced.server.0 != 0)
            .then(|| self.servers.address(trace.maps(), traced.server))
            .flatten();
        let packet = Packet::of(traced, interface.clone(), server, &Clock::now());
        if self.json { say(&packet.json().to_string()) } else { say(&packet.to_string()) }
    }
}

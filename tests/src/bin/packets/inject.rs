//! The measuring programs, loaded; see deston-ebpf/src/bin/inject.rs.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Array, MapData, PerCpuArray, ProgramArray};
use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp, XdpMode, loaded_programs};
use aya::{Ebpf, Pod};
use deston::datapath::Kernel;
use deston_tests::packet::Packet;

/// Bytes of a frame.
pub(crate) const FRAME: usize = 80;

/// Verdicts, by their numbers in `enum xdp_action` (linux/bpf.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass = 2,
    Redirect = 4,
}

/// As in deston-ebpf/src/bin/inject.rs.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Order {
    frame: [u8; FRAME],
    mask: u32,
    port_bits: u32,
    port: u32,
    address: u32,
    then: u32,
    passes: u32,
}
// SAFETY: repr(C), integers only, no padding: 80 + 6 * 4 bytes, a multiple of 8.
unsafe impl Pod for Order {}

/// What becomes of a live frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// Dropped at once: the cost of injecting.
    Drop = 0,
    /// Passed on: to TC, and to the network stack.
    Pass = 1,
    /// Given to the balancer.
    Balance = 2,
}

/// Frames and how they differ.
#[derive(Clone)]
pub(crate) struct Frames {
    pub(crate) packet: Packet,
    /// A power of two.
    pub(crate) flows: u32,
    /// The low bits of a flow's number are added to a port, the others to the end of an address.
    pub(crate) varies: Varies,
}

/// Which port and address tell the flows apart.
#[derive(Clone, Copy)]
pub(crate) enum Varies {
    /// The source port and source address.
    Source,
    /// The destination port and source address: of replies, which all come from a server's one
    /// port.
    Reply,
}

/// How many bits of a flow's number a port holds: SNAT ranges hold 16,384 ports.
pub(crate) const PORT_BITS: u32 = 14;

pub(crate) struct Injector {
    ebpf: Ebpf,
    order: Array<MapData, Order>,
    sent: Array<MapData, u64>,
    verdicts: Array<MapData, u64>,
    next: ProgramArray<MapData>,
    counted: PerCpuArray<MapData, u64>,
    answers: Array<MapData, u64>,
}

impl Injector {
    /// Loads the programs from the object that `DESTON_INJECT` names.
    pub(crate) fn load() -> Result<Self> {
        let path = std::env::var("DESTON_INJECT")
            .context("DESTON_INJECT names no object: run `cargo xtask bench packets`")?;
        let mut ebpf = Ebpf::load_file(path)?;
        for name in ["wrapper", "empty", "inject", "count"] {
            program(&mut ebpf, name)?.load()?;
        }
        let mut take = |name: &str| ebpf.take_map(name).with_context(|| format!("no map {name}"));
        Ok(Self {
            order: take("ORDER")?.try_into()?,
            sent: take("SENT")?.try_into()?,
            verdicts: take("VERDICTS")?.try_into()?,
            next: take("NEXT")?.try_into()?,
            counted: take("COUNTED")?.try_into()?,
            answers: take("ANSWERS")?.try_into()?,
            ebpf,
        })
    }

    /// Sends these frames from here on, beginning with the `first`th; `passes` of them in each run
    /// of the wrapper.
    pub(crate) fn order(
        &mut self,
        frames: &Frames,
        first: u64,
        then: Then,
        passes: u32,
    ) -> Result<()> {
        let mut frame = [0; FRAME];
        let bytes = frames.packet.bytes();
        frame[..bytes.len()].copy_from_slice(&bytes);
        // Ethernet, then source address, destination address, source port, destination port.
        let (address, ports) = if frames.packet.is_v4() { (26, 34) } else { (22, 54) };
        let address_end = if frames.packet.is_v4() { address + 2 } else { address + 14 };
        let port = match frames.varies {
            Varies::Source => ports,
            Varies::Reply => ports + 2,
        };
        ensure!(frames.flows.is_power_of_two(), "{} flows are no power of two", frames.flows);
        let mask = frames.flows - 1;
        let then = then as u32;
        let order =
            Order { frame, mask, port_bits: PORT_BITS, port, address: address_end, then, passes };
        self.order.set(0, order, 0)?;
        self.sent.set(0, first, 0)?;
        Ok(())
    }

    /// Calls the balancer from here on.
    pub(crate) fn call(&mut self, kernel: &Kernel) -> Result<()> {
        let id = kernel.program_id(Kernel::PROGRAMS[0])?;
        self.call_id(id)
    }

    /// Calls the empty program from here on.
    pub(crate) fn call_nothing(&mut self) -> Result<()> {
        let id = program(&mut self.ebpf, "empty")?.info()?.id();
        self.call_id(id)
    }

    fn call_id(&mut self, id: u32) -> Result<()> {
        for info in loaded_programs() {
            let info = info?;
            if info.id() == id {
                self.next.set(0, &info.fd()?, 0)?;
                return Ok(());
            }
        }
        anyhow::bail!("program {id} is not loaded")
    }

    /// Mean time of one run of the wrapper.
    pub(crate) fn wrapped(&mut self, runs: u32) -> Result<Duration> {
        let options =
            TestRunOptions { data_in: Some(&[0; FRAME]), repeat: runs, ..TestRunOptions::new() };
        let run = program(&mut self.ebpf, "wrapper")?.test_run(options)?;
        ensure!(run.return_value == Verdict::Pass as u32, "the wrapper gave up");
        Ok(run.duration)
    }

    /// Frames that the wrapper has seen a verdict for.
    pub(crate) fn seen(&self, verdict: Verdict) -> Result<u64> {
        Ok(self.verdicts.get(&(verdict as u32), 0)?)
    }

    /// Injects live frames as if they came in by `ifindex`.
    pub(crate) fn live(&mut self, ifindex: u32, frames: u32) -> Result<()> {
        // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let context: Vec<u8> =
            [0, FRAME as u32, 0, ifindex, 0, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
        let options = TestRunOptions {
            data_in: Some(&[0; FRAME]),
            ctx_in: Some(&context),
            repeat: frames,
            attrs: TestRunAttrs::new().xdp_live_frames(64),
            ..TestRunOptions::new()
        };
        program(&mut self.ebpf, "inject")?.test_run(options)?;
        Ok(())
    }

    /// Counts and drops, from here on, what comes in by an interface of the current namespace.
    pub(crate) fn count_on(&mut self, interface: &str) -> Result<()> {
        program(&mut self.ebpf, "count")?.attach(interface, XdpMode::Driver)?;
        Ok(())
    }

    /// Has the next `frames` counted frames sent back.
    pub(crate) fn answer(&mut self, frames: u64) -> Result<()> {
        Ok(self.answers.set(0, frames, 0)?)
    }

    /// Frames that are still to be sent back.
    pub(crate) fn unanswered(&self) -> Result<u64> {
        Ok(self.answers.get(&0, 0)?)
    }

    /// Frames counted so far.
    pub(crate) fn counted(&self) -> Result<u64> {
        Ok(self.counted.get(&0, 0)?.iter().sum())
    }
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    Ok(ebpf.program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?)
}

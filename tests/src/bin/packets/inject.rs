//! The injecting programs, loaded; see deston-ebpf/src/bin/inject.rs.

use std::time::Duration;

use anyhow::{Context as _, Result};
use aya::maps::{Array, MapData, PerCpuArray, ProgramArray};
use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp, XdpMode, loaded_programs};
use aya::{Ebpf, Pod};
use deston::datapath::Kernel;
use deston_tests::packet::Packet;

/// Bytes of a frame.
pub(crate) const FRAME: usize = 64;

#[derive(Clone, Copy)]
#[repr(C)]
struct Order {
    frame: [u8; FRAME],
    mask: u32,
    then: u32,
}
// SAFETY: repr(C), integers only, no padding: 64 + 4 + 4 bytes.
unsafe impl Pod for Order {}

/// What becomes of an injected frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// Dropped at once: the cost of injecting.
    Drop = 0,
    /// Passed to the network stack.
    Pass = 1,
    /// Given to the balancer.
    Balance = 2,
}

pub(crate) struct Injector {
    ebpf: Ebpf,
    order: Array<MapData, Order>,
    next: ProgramArray<MapData>,
    counted: PerCpuArray<MapData, u64>,
}

impl Injector {
    /// Loads the programs from the object that `DESTON_INJECT` names.
    pub(crate) fn load() -> Result<Self> {
        let path = std::env::var("DESTON_INJECT")
            .context("DESTON_INJECT names no object: run `cargo xtask bench packets`")?;
        let mut ebpf = Ebpf::load_file(path)?;
        for name in ["inject", "count"] {
            program(&mut ebpf, name)?.load()?;
        }
        let mut take = |name: &str| ebpf.take_map(name).with_context(|| format!("no map {name}"));
        Ok(Self {
            order: take("ORDER")?.try_into()?,
            next: take("NEXT")?.try_into()?,
            counted: take("COUNTED")?.try_into()?,
            ebpf,
        })
    }

    /// Sends `packet` with `flows` different source ports and addresses (a power of two).
    pub(crate) fn order(&mut self, packet: &Packet, flows: u32, then: Then) -> Result<()> {
        let mut frame = [0; FRAME];
        let bytes = packet.bytes();
        frame[..bytes.len()].copy_from_slice(&bytes);
        let order = Order { frame, mask: flows - 1, then: then as u32 };
        self.order.set(0, order, 0)?;
        Ok(())
    }

    /// Gives frames to the balancer from here on.
    pub(crate) fn call(&mut self, kernel: &Kernel) -> Result<()> {
        let id = kernel.program_id(Kernel::PROGRAMS[0])?;
        for info in loaded_programs() {
            let info = info?;
            if info.id() == id {
                self.next.set(0, &info.fd()?, 0)?;
                return Ok(());
            }
        }
        anyhow::bail!("the balancer is not loaded")
    }

    /// Mean time of one run, the verdict thrown away.
    pub(crate) fn repeat(&mut self, times: u32) -> Result<Duration> {
        let options =
            TestRunOptions { data_in: Some(&[0; FRAME]), repeat: times, ..TestRunOptions::new() };
        Ok(program(&mut self.ebpf, "inject")?.test_run(options)?.duration)
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

    /// Frames counted so far.
    pub(crate) fn counted(&self) -> Result<u64> {
        Ok(self.counted.get(&0, 0)?.iter().sum())
    }
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    Ok(ebpf.program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?)
}

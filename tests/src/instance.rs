//! Instances of the kernel datapath: what is pinned is seen by the whole host, so each spec has one
//! of its own.

use std::sync::atomic::{AtomicU32, Ordering};

use deston::datapath::{Kernel, remove_instance};
use deston::model::{self, OnStop, XdpMode};

/// The name of an instance that nobody else has; dropped, nothing is left of it.
pub struct Instance(String);

impl Default for Instance {
    fn default() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(format!("spec-{}-{unique}", std::process::id()))
    }
}

impl Instance {
    /// The name.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// `[kernel]` of a small datapath that is pinned.
    pub fn settings(&self) -> model::Kernel {
        model::Kernel {
            instance: self.0.clone(),
            pin: true,
            on_stop: OnStop::Detach,
            xdp_mode: XdpMode::Native,
            flows: 1_024,
            half_open: 1_024,
            flood_gate: 0,
        }
    }

    /// Starts a process's datapath.
    pub fn start(&self) -> Kernel {
        Kernel::start(&self.settings()).unwrap_or_else(|error| panic!("{error}"))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // A spec that failed may have left anything; one that did not has said what it left.
        let _ = remove_instance(&self.0, true);
    }
}

//! Loaded programs that pass from one spec of a process to the next.
//!
//! The verifier needs half a second for them, and ten seconds under emulation. So a spec borrows
//! programs whose maps hold what they held when loaded, and gives them back; one that panics keeps
//! them.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use deston::datapath::{Kernel, Sizes};

use super::contents::Contents;

static IDLE: Mutex<Vec<Loaded>> = Mutex::new(Vec::new());

/// Programs and what their maps held at first.
struct Loaded {
    kernel: Kernel,
    sizes: Sizes,
    contents: Contents,
}

/// Programs that are a spec's own for as long as this lives.
pub struct Loan(Option<Loaded>);

impl Loan {
    /// Programs with room for so many flows, attached to nothing, their maps as just loaded.
    pub fn new(sizes: Sizes) -> Self {
        let idle = {
            let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
            idle.iter().position(|loaded| loaded.sizes == sizes).map(|at| idle.swap_remove(at))
        };
        let loaded = match idle {
            Some(loaded) => {
                loaded.contents.restore();
                loaded
            }
            None => {
                let kernel = Kernel::load(sizes).expect("the kernel takes the programs");
                let contents = Contents::of(&kernel.map_ids().expect("programs tell their maps"));
                Loaded { kernel, sizes, contents }
            }
        };
        Self(Some(loaded))
    }
}

impl Deref for Loan {
    type Target = Kernel;

    fn deref(&self) -> &Kernel {
        &self.0.as_ref().expect("held until dropped").kernel
    }
}

impl DerefMut for Loan {
    fn deref_mut(&mut self) -> &mut Kernel {
        &mut self.0.as_mut().expect("held until dropped").kernel
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            IDLE.lock().unwrap_or_else(PoisonError::into_inner).extend(self.0.take());
        }
    }
}

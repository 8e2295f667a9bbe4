//! A live listener: what its connections are served by, replaced whole.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::Pool;
use crate::model;

/// A listener in use. Its name, address, layer and protocol never change; a reload that changes one
/// of them makes another listener.
pub struct Listener {
    serving: ArcSwap<Serving>,
}

/// What a new connection or request of a listener is served by.
pub struct Serving {
    /// Settings.
    pub listener: Arc<model::Listener>,
    /// The listener's pool.
    pub pool: Arc<Pool>,
}

impl Listener {
    /// A listener with its first settings.
    pub fn new(serving: Serving) -> Self {
        Self { serving: ArcSwap::from_pointee(serving) }
    }

    /// The current settings; read once for each connection (layer 4) or request (layer 7).
    pub fn serving(&self) -> Arc<Serving> {
        self.serving.load_full()
    }

    /// Replaces the settings; connections and requests under way keep the old ones.
    pub fn publish(&self, serving: Serving) {
        self.serving.store(Arc::new(serving));
    }
}

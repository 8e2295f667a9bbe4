//! What the reconciler asks of the userspace datapath.

use std::net::SocketAddr;
use std::sync::Arc;

use super::hold::{self, Beside, Held};
use crate::proxy::{BindError, Bound, Proxy};
use crate::{live, model};

/// The userspace datapath. [`Proxy`] is the one there is; tests have one without sockets.
pub trait Dataplane {
    /// An address that is taken and not yet served.
    type Bound;

    /// An address that is held for the kernel datapath.
    type Held;

    /// Takes the listener's address.
    fn bind(&self, listener: &model::Listener) -> Result<Self::Bound, BindError>;

    /// Holds the address of a listener that the kernel carries; `None` if it is not of this host.
    fn hold(
        &self,
        listener: &model::Listener,
        beside: Beside,
    ) -> Result<Option<Self::Held>, BindError>;

    /// Where a bound listener listens.
    fn address(bound: &Self::Bound) -> SocketAddr;

    /// Begins to accept. An open listener of the same name is closed once this one accepts.
    fn open(&self, bound: Self::Bound, listener: Arc<live::Listener>);

    /// Stops accepting; connections finish.
    fn close(&self, name: &str);
}

impl Dataplane for Proxy {
    type Bound = Bound;
    type Held = Held;

    fn bind(&self, listener: &model::Listener) -> Result<Bound, BindError> {
        Self::bind(self, listener)
    }

    fn hold(&self, listener: &model::Listener, beside: Beside) -> Result<Option<Held>, BindError> {
        hold::hold(listener, beside)
    }

    fn address(bound: &Bound) -> SocketAddr {
        bound.address()
    }

    fn open(&self, bound: Bound, listener: Arc<live::Listener>) {
        Self::open(self, bound, listener);
    }

    fn close(&self, name: &str) {
        Self::close(self, name);
    }
}

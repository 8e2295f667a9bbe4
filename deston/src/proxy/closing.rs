//! A worker's closing signal, as connections see it.

use tokio::sync::watch;

use crate::live::Server;

/// How far a worker's end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Connections are accepted.
    Running,
    /// No connection is accepted; those there are finish what they carry.
    Draining,
    /// The deadline is over: connections are to end within a moment, with an error to both sides.
    Aborting,
}

/// Tells a connection when to finish and when to give up.
#[derive(Clone, Debug)]
pub(crate) struct Closing(watch::Receiver<Stage>);

impl Closing {
    /// The signal, and what gives it.
    pub(crate) fn new() -> (watch::Sender<Stage>, Self) {
        let (sender, receiver) = watch::channel(Stage::Running);
        (sender, Self(receiver))
    }

    /// The present stage.
    pub(crate) fn stage(&self) -> Stage {
        *self.0.borrow()
    }

    /// Waits until the worker drains (or is further). Cancel-safe.
    pub(crate) async fn draining(&mut self) {
        self.reach(Stage::Draining).await;
    }

    /// Waits until the worker aborts. Cancel-safe.
    pub(crate) async fn aborting(&mut self) {
        self.reach(Stage::Aborting).await;
    }

    /// Waits until a connection to `server` is to be reset: the worker aborts, or the server is down
    /// and its pool says so. Cancel-safe.
    pub(crate) async fn cutting(&mut self, server: &Server) {
        tokio::select! {
            () = self.aborting() => {}
            () = server.fate().resets() => {}
        }
    }

    async fn reach(&mut self, stage: Stage) {
        // An error means that the worker is gone, which is further than any stage.
        let _ = self.0.wait_for(|now| *now >= stage).await;
    }
}

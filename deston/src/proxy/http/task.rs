//! A task that ends with its owner.

use tokio::task::JoinHandle;

/// A task of this worker; dropping it ends the task.
#[derive(Debug)]
pub(super) struct Task(JoinHandle<()>);

impl Task {
    /// Runs `future` on the worker's thread.
    pub(super) fn start(future: impl Future<Output = ()> + 'static) -> Self {
        Self(tokio::task::spawn_local(future))
    }

    /// Whether it has ended by itself.
    pub(super) fn has_ended(&self) -> bool {
        self.0.is_finished()
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

//! Layer 4 UDP.

use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::worker::Worker;
use crate::live;

/// Carries flows until `stop`.
pub(super) async fn run(
    socket: std::net::UdpSocket,
    _listener: Arc<live::Listener>,
    _worker: Rc<Worker>,
    stop: oneshot::Receiver<()>,
) {
    let _ = stop.await;
    drop(socket);
}

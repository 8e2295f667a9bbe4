//! Layer 4 TCP.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::TcpStream;

use super::worker::Worker;
use crate::live;

/// Carries one connection.
pub(super) async fn serve(
    stream: TcpStream,
    _peer: SocketAddr,
    _listener: Arc<live::Listener>,
    _worker: Rc<Worker>,
) {
    drop(stream);
}

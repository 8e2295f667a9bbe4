//! A fresh connection to a server.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::error::Error;
use super::wire::Upstream;
use crate::live::Slot;

/// Connects to the slot's server; `limit` is `[pool.timeouts] connect`.
pub(super) async fn connect(slot: Slot, limit: Duration) -> Result<Upstream, Error> {
    let server = slot.server().address();
    let stream = match timeout(limit, TcpStream::connect(server)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(source)) => return Err(Error::Connect { server, source }),
        Err(_) => return Err(Error::ConnectOverdue { server }),
    };
    stream.set_nodelay(true).map_err(|source| Error::Connect { server, source })?;
    Upstream::new(stream, slot).await.map_err(|source| Error::NotSent { server, source })
}

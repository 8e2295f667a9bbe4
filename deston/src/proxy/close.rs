//! Closing sockets so that a cut is never taken for an end, nor an end cut short.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::buffers::Buffers;
use super::closing::Closing;
use super::connect::Upstream;
use super::relay::{End, Side};
use super::stream::Stream;

/// How long a peer that is told to go may be silent before its socket is closed.
const QUIET: Duration = Duration::from_secs(1);

/// How long it may go on sending.
const LINGER: Duration = Duration::from_secs(5);

/// Closes both sockets of a relay in the way its end asks for.
pub(super) async fn relayed(
    end: &End,
    mut downstream: Stream,
    mut upstream: Upstream,
    buffers: &Buffers,
    closing: &mut Closing,
) {
    match end {
        End::Finished => {}
        End::Left { side: Side::Upstream } => {
            // Nothing is left of it: its slot need not wait for the client.
            drop(upstream);
            return linger(&mut downstream, buffers, closing).await;
        }
        End::Left { side: Side::Downstream } => {
            linger(&mut upstream.stream, buffers, closing).await;
        }
        End::Idle | End::Aborted | End::Broken { .. } => {
            reset(&downstream);
            reset(&upstream.stream);
        }
    }
    // A client that sees its end and comes again finds the slot free.
    drop(upstream);
    drop(downstream);
}

/// Makes closing a reset, so that a cut is never taken for an end.
pub(super) fn reset(stream: &Stream) {
    // Fails only for a connection that is over already.
    let _ = stream.tcp().set_zero_linger();
}

/// Ends our side, then reads on for a moment: closing a socket that still receives would send a
/// reset, which discards what the peer has not read yet (RFC 9112 9.6).
pub(super) async fn linger(stream: &mut Stream, buffers: &Buffers, closing: &mut Closing) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut scrap = buffers.borrow();
    let silent = async { while let Ok(Ok(1..)) = timeout(QUIET, stream.read(&mut scrap)).await {} };
    tokio::select! {
        _ = timeout(LINGER, silent) => {}
        () = closing.aborting() => {}
    }
}

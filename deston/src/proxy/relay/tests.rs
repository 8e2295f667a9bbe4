//! Relays between in-memory streams, under a paused clock.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio::sync::watch;
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::advance;

use super::*;
use crate::proxy::closing::{Closing, Stage};

const IDLE: Duration = Duration::from_secs(60);

/// A relay under way, and its peers.
struct Relaying {
    client: DuplexStream,
    server: DuplexStream,
    buffers: Buffers,
    stage: watch::Sender<Stage>,
    relayed: JoinHandle<Relayed>,
}

fn start(idle: Duration) -> Relaying {
    let (client, mut downstream) = duplex(1_024);
    let (server, mut upstream) = duplex(1_024);
    let (stage, mut closing) = Closing::new();
    let buffers = Buffers::default();
    let own = buffers.clone();
    let relayed = spawn_local(async move {
        relay(&mut downstream, &mut upstream, &own, idle, closing.aborting()).await
    });
    Relaying { client, server, buffers, stage, relayed }
}

/// Runs a test on a `LocalSet` with the clock paused.
fn paused(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, test);
}

#[test]
fn each_side_ends_on_its_own() {
    paused(async {
        let mut r = start(IDLE);
        r.client.write_all(b"question").await.unwrap();
        r.client.shutdown().await.unwrap();
        let mut question = String::new();
        r.server.read_to_string(&mut question).await.unwrap();
        r.server.write_all(b"the answer comes after the client's end").await.unwrap();
        r.server.shutdown().await.unwrap();
        let mut answer = String::new();
        r.client.read_to_string(&mut answer).await.unwrap();
        let relayed = r.relayed.await.unwrap();
        assert!(matches!(relayed.end, End::Finished));
        assert_eq!(question, "question");
        assert_eq!(answer, "the answer comes after the client's end");
        assert_eq!((relayed.forward_bytes, relayed.reply_bytes), (8, 39));
    });
}

#[test]
fn a_relay_without_bytes_ends_at_the_idle_deadline() {
    paused(async {
        let r = start(IDLE);
        let begin = Instant::now();
        assert!(matches!(r.relayed.await.unwrap().end, End::Idle));
        assert_eq!(begin.elapsed(), IDLE);
    });
}

#[test]
fn a_byte_either_way_postpones_the_idle_deadline() {
    paused(async {
        let mut r = start(IDLE);
        let begin = Instant::now();
        for n in 0..4_u8 {
            advance(IDLE / 2).await;
            if n % 2 == 0 {
                r.client.write_all(b"x").await.unwrap();
                r.server.read_u8().await.unwrap();
            } else {
                r.server.write_all(b"x").await.unwrap();
                r.client.read_u8().await.unwrap();
            }
        }
        assert!(matches!(r.relayed.await.unwrap().end, End::Idle));
        assert_eq!(begin.elapsed(), IDLE * 3);
    });
}

#[test]
fn a_zero_idle_deadline_is_none() {
    paused(async {
        let mut r = start(Duration::ZERO);
        advance(Duration::from_secs(1_000_000)).await;
        r.client.write_all(b"x").await.unwrap();
        assert_eq!(r.server.read_u8().await.unwrap(), b'x');
    });
}

#[test]
fn draining_does_not_end_a_relay_and_aborting_does() {
    paused(async {
        let mut r = start(IDLE);
        r.stage.send(Stage::Draining).unwrap();
        r.client.write_all(b"x").await.unwrap();
        assert_eq!(r.server.read_u8().await.unwrap(), b'x');
        r.stage.send(Stage::Aborting).unwrap();
        assert!(matches!(r.relayed.await.unwrap().end, End::Aborted));
    });
}

#[test]
fn an_idle_relay_holds_no_buffer() {
    paused(async {
        let mut r = start(IDLE);
        r.client.write_all(b"x").await.unwrap();
        r.server.read_u8().await.unwrap();
        r.server.write_all(b"x").await.unwrap();
        r.client.read_u8().await.unwrap();
        // Both directions have used one and the same buffer, and given it back.
        assert_eq!(r.buffers.kept(), 1);
    });
}

#[test]
fn what_a_side_sent_before_it_went_is_delivered() {
    paused(async {
        let mut r = start(IDLE);
        r.server.write_all(b"refused, and why").await.unwrap();
        drop(r.server);
        let mut answer = [0; 16];
        // The server's end is gone: writing to it fails while its answer is still to be read.
        r.client.write_all(b"a request").await.unwrap();
        r.client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"refused, and why");
        let end = r.relayed.await.unwrap().end;
        assert!(matches!(end, End::Left { side: Side::Upstream }), "{end:?}");
    });
}

#[test]
fn a_failing_side_is_named() {
    paused(async {
        let (mut client, mut downstream) = duplex(1_024);
        let (_stage, mut closing) = Closing::new();
        client.write_all(b"x").await.unwrap();
        let buffers = Buffers::default();
        let end =
            relay(&mut downstream, &mut Failing, &buffers, IDLE, closing.aborting()).await.end;
        let End::Broken { side, error } = end else { panic!("{end:?}") };
        assert_eq!((side, error.kind()), (Side::Upstream, io::ErrorKind::TimedOut));
    });
}

/// A side whose connection has timed out.
struct Failing;

impl AsyncRead for Failing {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Failing {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn an_end_that_follows_a_reset_is_none() {
    paused(async {
        let (mut client, mut downstream) = duplex(1_024);
        let (_stage, mut closing) = Closing::new();
        client.write_all(b"x").await.unwrap();
        let buffers = Buffers::default();
        let end = relay(&mut downstream, &mut Reset, &buffers, IDLE, closing.aborting()).await.end;
        assert!(matches!(end, End::Broken { side: Side::Upstream, .. }), "{end:?}");
    });
}

/// A side that was reset: Linux tells the first who asks, here the writer, and an end to the next.
struct Reset;

impl AsyncRead for Reset {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Reset {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

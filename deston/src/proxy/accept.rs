//! Accepting: a worker's end of one TCP listener.
//!
//! Sits between the listening socket and the connections' tasks. Never ends because of an error:
//! it warns, pauses and goes on.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use nix::errno::Errno;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::listen::BACKLOG;
use super::stream::Stream;
use super::worker::Worker;
use super::{close, http, tcp};
use crate::{live, model};

/// First pause when descriptors or memory have run out; doubled up to `LONGEST_PAUSE`.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Accepts until `stop`, then what is queued, then closes the socket.
pub(super) async fn run(
    socket: std::net::TcpListener,
    listener: Arc<live::Listener>,
    worker: Rc<Worker>,
    mut stop: oneshot::Receiver<()>,
) {
    let socket = match TcpListener::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!(listener = listener.serving().listener.name, %error, "cannot accept");
            return;
        }
    };
    let mut pause = FIRST_PAUSE;
    loop {
        let accepted = tokio::select! {
            biased;
            _ = &mut stop => break,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                pause = FIRST_PAUSE;
                serve(stream, peer, &listener, &worker);
            }
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                warn(&listener, &worker, &error);
                tokio::select! {
                    biased;
                    _ = &mut stop => break,
                    () = tokio::time::sleep(pause) => {}
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
    if let Err(error) = accept_queued(socket, &listener, &worker) {
        warn(&listener, &worker, &error);
    }
}

/// Takes what the kernel has queued, so that closing the socket resets nobody.
fn accept_queued(
    socket: TcpListener,
    listener: &Arc<live::Listener>,
    worker: &Rc<Worker>,
) -> io::Result<()> {
    // The runtime may not know yet of what has just arrived; the socket does.
    let socket = socket.into_std()?;
    for _ in 0..BACKLOG {
        match socket.accept() {
            Ok((stream, peer)) => {
                stream.set_nonblocking(true)?;
                serve(TcpStream::from_std(stream)?, peer, listener, worker);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn serve(stream: TcpStream, peer: SocketAddr, listener: &Arc<live::Listener>, worker: &Rc<Worker>) {
    let serving = listener.serving();
    if let Err(refusal) = listener.admit(&serving.listener, peer.ip()) {
        let listener = &serving.listener.name;
        tracing::debug!(listener, %peer, "a connection was refused: {refusal}");
        return close::reset(&Stream::plain(stream));
    }
    send_at_once(&stream);
    let (listener, own) = (Arc::clone(listener), Rc::clone(worker));
    match &serving.listener.layer {
        model::Layer::L4(_) => worker.spawn(tcp::serve(stream, peer, listener, own)),
        model::Layer::L7(l7) => match listener.connection(&l7.limits, peer.ip()) {
            Ok(open) => worker.spawn(http::serve(stream, peer, listener, own).map(|()| drop(open))),
            Err(refusal) => shed(&serving.listener.name, peer, worker, &refusal),
        },
    }
}

/// Says once in a while that connections are closed without a byte.
fn shed(listener: &str, peer: SocketAddr, worker: &Worker, refusal: &live::Refusal) {
    if let Some(untold) = worker.notices.limited.due() {
        tracing::warn!(listener, %peer, untold, "a connection was closed: {refusal}");
    }
}

/// Lets no byte wait for the acknowledgement of others (TCP_NODELAY).
fn send_at_once(stream: &TcpStream) {
    // Fails only for a connection that is over already, which reading will tell.
    let _ = stream.set_nodelay(true);
}

/// Errors of the connection that was next, not of the listener (accept(2)).
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(
            Errno::ECONNABORTED
                | Errno::ECONNRESET
                | Errno::EHOSTDOWN
                | Errno::EHOSTUNREACH
                | Errno::EINTR
                | Errno::ENETDOWN
                | Errno::ENETUNREACH
                | Errno::ENONET
                | Errno::ENOPROTOOPT
                | Errno::EOPNOTSUPP
                | Errno::EPERM
                | Errno::EPROTO
                | Errno::ETIMEDOUT
        )
    )
}

fn warn(listener: &live::Listener, worker: &Worker, error: &io::Error) {
    if let Some(untold) = worker.notices.exhausted.due() {
        let listener = &listener.serving().listener.name;
        tracing::warn!(listener, %error, untold, "connections wait: none can be accepted");
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::{LocalSet, spawn_local};

    use super::*;
    use crate::model::{Guard, OnDown, Protocol};
    use crate::proxy::closing::Closing;
    use crate::proxy::testing::{denying, guard, l4_listener};

    #[tokio::test]
    async fn a_client_that_the_guard_refuses_is_reset_and_never_reaches_a_server() {
        let server = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let socket = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        let listener = l4_listener(Protocol::Tcp, address, server.local_addr().unwrap());
        guard(&listener, denying());
        let (_stage, closing) = Closing::new();
        let worker = Rc::new(Worker::new(closing, 0));
        let (_stop, stopped) = oneshot::channel();
        let accepting = run(socket, Arc::clone(&listener), Rc::clone(&worker), stopped);
        let test = async {
            spawn_local(accepting);
            let mut client = TcpStream::connect(address).await.unwrap();
            let error = client.read(&mut [0]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            assert_eq!((listener.refusals().denied, worker.connections()), (1, 0));

            guard(&listener, Guard::default());
            let _client = TcpStream::connect(address).await.unwrap();
            server.accept().await.unwrap();
            assert_eq!(listener.refusals().denied, 1);
        };
        LocalSet::new().run_until(test).await;
    }

    /// A client whose connection is relayed to a server, both ends, and the server as it is known.
    async fn relayed(
        on_down: OnDown,
        test: impl AsyncFnOnce(TcpStream, TcpStream, Arc<live::Server>),
    ) {
        let server = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let socket = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        let listener = l4_listener(Protocol::Tcp, address, server.local_addr().unwrap());
        let known = Arc::clone(&listener.serving().pool.view().servers[0]);
        known.fate().set_on_down(on_down);
        let (_stage, closing) = Closing::new();
        let worker = Rc::new(Worker::new(closing, 0));
        let (_stop, stopped) = oneshot::channel();
        let accepting = run(socket, listener, worker, stopped);
        let test = async {
            spawn_local(accepting);
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(b"?").await.unwrap();
            let (mut served, _) = server.accept().await.unwrap();
            served.read_exact(&mut [0]).await.unwrap();
            test(client, served, known).await;
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn connections_to_a_server_that_goes_down_are_reset_where_the_pool_says_so() {
        relayed(OnDown::Reset, async |mut client, mut served, known| {
            known.fate().set_down(true);
            for side in [&mut client, &mut served] {
                let error = side.read(&mut [0]).await.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            }
        })
        .await;
    }

    #[tokio::test]
    async fn connections_to_a_server_that_goes_down_go_on_where_the_pool_drains() {
        for on_down in [OnDown::Drain, OnDown::Rehash] {
            relayed(on_down, async |mut client, mut served, known| {
                known.fate().set_down(true);
                served.write_all(b"!").await.unwrap();
                client.read_exact(&mut [0]).await.unwrap();
            })
            .await;
        }
    }

    #[tokio::test]
    async fn a_server_that_resets_before_it_answers_has_failed() {
        relayed(OnDown::Drain, async |mut client, served, known| {
            let served = Stream::plain(served);
            close::reset(&served);
            drop(served);
            client.read(&mut [0]).await.unwrap_err();
            assert_eq!(known.streaks().longest(), 1);
        })
        .await;
    }

    #[tokio::test]
    async fn small_writes_to_a_client_do_not_wait_for_acknowledgements() {
        let socket = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let client = TcpStream::connect(socket.local_addr().unwrap());
        let (accepted, _client) = tokio::join!(socket.accept(), client);
        let (stream, _) = accepted.unwrap();
        assert!(!stream.nodelay().unwrap(), "the kernel's default");
        send_at_once(&stream);
        assert!(stream.nodelay().unwrap());
    }
}

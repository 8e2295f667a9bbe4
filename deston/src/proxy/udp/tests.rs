//! When flows end, under a paused clock. The clock moves on whenever nothing has arrived.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::UdpSocket as Socket;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::advance;

use super::*;
use crate::model::{Guard, OnDown};
use crate::proxy::closing::Closing;
use crate::proxy::listen::{self, Addresses};
use crate::proxy::testing::{ONE_WAY, TWO_WAY, denying, guard, udp_listener, view};

const ANY_PORT: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

/// A listener under way, its client and its server.
struct Carrying {
    listener: Arc<live::Listener>,
    client: Socket,
    server: Socket,
    _stop: oneshot::Sender<()>,
}

async fn start(room: usize) -> Carrying {
    let server = Socket::bind(ANY_PORT).await.unwrap();
    let listener = udp_listener(SocketAddr::from(ANY_PORT), server.local_addr().unwrap());
    let bound = listen::bind(&listener.serving().listener, 1, &Addresses::default()).unwrap();
    let client = Socket::bind(ANY_PORT).await.unwrap();
    client.connect(bound.address()).await.unwrap();
    let Some(listen::Socket::Udp(socket, taken)) = bound.into_sockets().pop() else {
        panic!("a UDP listener has UDP sockets")
    };
    let worker = Rc::new(Worker::new(Closing::new().1, room));
    let (stop, stopped) = oneshot::channel();
    spawn_local(run(socket, taken, Arc::clone(&listener), worker, stopped));
    Carrying { listener, client, server, _stop: stop }
}

impl Carrying {
    async fn ask(&self) -> SocketAddr {
        self.client.send(b"?").await.unwrap();
        self.server.recv_from(&mut [0; 8]).await.unwrap().1
    }

    async fn answer(&self, flow: SocketAddr) {
        self.server.send_to(b"!", flow).await.unwrap();
        self.client.recv(&mut [0; 8]).await.unwrap();
    }

    fn flows(&self) -> u32 {
        self.listener.serving().pool.view().servers[0].open()
    }
}

fn paused(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, test);
}

/// Lets `time` pass, second by second as the sweep does, and what is due happen.
async fn pass(time: Duration) {
    let mut left = time;
    while !left.is_zero() {
        let step = left.min(SWEEP);
        advance(step).await;
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        left -= step;
    }
}

#[test]
fn a_flow_without_a_reply_ends_after_its_idle_time() {
    paused(async {
        let c = start(10).await;
        c.ask().await;
        pass(ONE_WAY - SWEEP * 2).await;
        assert_eq!(c.flows(), 1);
        pass(SWEEP * 3).await;
        assert_eq!(c.flows(), 0);
    });
}

#[test]
fn a_flow_with_replies_lives_longer_and_any_datagram_prolongs_it() {
    paused(async {
        let c = start(10).await;
        let flow = c.ask().await;
        c.answer(flow).await;
        pass(TWO_WAY - SWEEP * 2).await;
        assert_eq!(c.ask().await, flow, "the flow is still the same");
        pass(TWO_WAY - SWEEP * 2).await;
        assert_eq!(c.flows(), 1);
        pass(SWEEP * 3).await;
        assert_eq!(c.flows(), 0);
    });
}

#[test]
fn a_flow_leaves_a_silent_server_that_left_the_pool() {
    paused(async {
        let c = start(10).await;
        let flow = c.ask().await;
        c.answer(flow).await;
        let gone = Arc::clone(&c.listener.serving().pool.view().servers[0]);
        let other = Socket::bind(ANY_PORT).await.unwrap();
        c.listener.serving().pool.publish(view(&[other.local_addr().unwrap()]));
        // A server that drains answers, and keeps its flows.
        pass(ONE_WAY - SWEEP * 2).await;
        c.answer(flow).await;
        pass(ONE_WAY - SWEEP * 2).await;
        assert_eq!(gone.open(), 1);
        // The client goes on, the server is silent.
        c.client.send(b"?").await.unwrap();
        pass(SWEEP * 3).await;
        assert_eq!(gone.open(), 0);
        c.client.send(b"?").await.unwrap();
        other.recv(&mut [0; 8]).await.unwrap();
    });
}

#[test]
fn a_worker_without_room_refuses_new_flows_and_keeps_those_it_has() {
    paused(async {
        let c = start(1).await;
        let flow = c.ask().await;
        let beyond = Socket::bind(ANY_PORT).await.unwrap();
        beyond.connect(c.client.peer_addr().unwrap()).await.unwrap();
        beyond.send(b"refused").await.unwrap();
        assert_eq!(c.ask().await, flow, "the next datagram the server gets is of the first flow");
        assert_eq!(c.flows(), 1);
    });
}

#[test]
fn the_guard_is_asked_about_new_flows_alone() {
    paused(async {
        let carrying = start(10).await;
        let flow = carrying.ask().await;
        guard(&carrying.listener, denying());
        assert_eq!(carrying.ask().await, flow, "a flow that is there goes on");
        carrying.answer(flow).await;

        let stranger = Socket::bind(ANY_PORT).await.unwrap();
        let address = carrying.client.peer_addr().unwrap();
        stranger.send_to(b"?", address).await.unwrap();
        assert_eq!(carrying.ask().await, flow);
        assert_eq!((carrying.flows(), carrying.listener.refusals().denied), (1, 1));

        guard(&carrying.listener, Guard::default());
        stranger.send_to(b"?", address).await.unwrap();
        assert_ne!(carrying.server.recv_from(&mut [0; 8]).await.unwrap().1, flow);
    });
}

/// Puts a second server into the pool beside the first, in the first's turn.
async fn add_server(carrying: &Carrying) -> Socket {
    let other = Socket::bind(ANY_PORT).await.unwrap();
    let pool = &carrying.listener.serving().pool;
    let first = Arc::clone(&pool.view().servers[0]);
    let mut both = view(&[first.address(), other.local_addr().unwrap()]);
    both.servers[0] = first;
    pool.publish(both);
    other
}

#[test]
fn a_flow_leaves_a_server_that_goes_down_unless_the_pool_drains() {
    paused(async {
        for (on_down, moves) in
            [(OnDown::Drain, false), (OnDown::Rehash, true), (OnDown::Reset, true)]
        {
            let carrying = start(10).await;
            let flow = carrying.ask().await;
            carrying.answer(flow).await;
            let other = add_server(&carrying).await;
            let known = Arc::clone(&carrying.listener.serving().pool.view().servers[0]);
            known.fate().set_on_down(on_down);
            known.fate().set_down(true);
            carrying.client.send(b"?").await.unwrap();
            if moves {
                let (_, flow) = other.recv_from(&mut [0; 8]).await.unwrap();
                other.send_to(b"!", flow).await.unwrap();
                carrying.client.recv(&mut [0; 8]).await.unwrap();
                assert_eq!(known.open(), 0, "{on_down:?}: the old flow is over");
            } else {
                assert_eq!(carrying.server.recv_from(&mut [0; 8]).await.unwrap().1, flow);
            }
        }
    });
}

//! A live server: its identity and its connection slots.
//!
//! A server has `max_connections` slots. Whoever opens an upstream connection (or
//! a UDP flow) holds a `Slot` for as long as the socket is open, idle or not, so that the limit is
//! hard across all workers. Idle connections give way: while a claim waits, every worker that
//! holds an idle connection to the server closes one.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use deston_common::server::ServerId;
use tokio::sync::Notify;

use super::fate::Fate;
use super::latency::Latency;
use super::line::Line;
use super::streaks::Streaks;
use crate::model::Speech;

/// A server in use.
#[derive(Debug)]
pub struct Server {
    id: ServerId,
    name: String,
    address: SocketAddr,
    limit: AtomicU32,
    weight: AtomicU16,
    open: AtomicU32,
    idle: AtomicU32,
    waiting: AtomicU32,
    opened: AtomicU64,
    /// A slot or an idle connection came or went.
    changed: Notify,
    /// A claim began to wait.
    give_way: Notify,
    /// What probes say of it, and what its connections do about that.
    fate: Fate,
    /// Failures in a row.
    streaks: Streaks,
    latency: Latency,
    /// How new connections speak.
    speech: ArcSwap<Speech>,
    /// Those who wait for a slot of the pool that it is in.
    line: ArcSwapOption<Line>,
    /// Whether each of them begins with who its client is.
    tells_client: AtomicBool,
}

/// One of a server's slots, held while an upstream connection is open. Declare it after the
/// socket: fields drop in order, and the slot is free only once the socket is closed.
#[derive(Debug)]
pub struct Slot {
    server: Arc<Server>,
}

/// A slot whose connection carries nothing at the moment.
#[derive(Debug)]
pub struct IdleSlot {
    // In this order: the slot is free before the count falls, so that whoever counts no idle
    // connection and claims then has had its chance at it.
    slot: Slot,
    mark: IdleMark,
}

/// Counts an idle connection.
#[derive(Debug)]
struct IdleMark(Arc<Server>);

impl Server {
    /// A server without connections, of weight 1.
    pub fn new(id: ServerId, name: String, address: SocketAddr, limit: u32) -> Self {
        Self {
            id,
            name,
            address,
            limit: AtomicU32::new(limit),
            weight: AtomicU16::new(1),
            open: AtomicU32::new(0),
            idle: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            opened: AtomicU64::new(0),
            changed: Notify::new(),
            give_way: Notify::new(),
            fate: Fate::default(),
            streaks: Streaks::default(),
            latency: Latency::new(),
            speech: ArcSwap::from_pointee(Speech::default()),
            line: ArcSwapOption::empty(),
            tells_client: AtomicBool::new(false),
        }
    }

    /// How it is spoken to.
    pub fn speech(&self) -> Arc<Speech> {
        self.speech.load_full()
    }

    /// Sets how it is spoken to; connections that are open go on as they are.
    pub fn set_speech(&self, speech: Speech) {
        self.tells_client.store(speech.proxy_protocol.is_some(), Ordering::Relaxed);
        self.speech.store(Arc::new(speech));
    }

    /// Tells it who waits for its slots.
    pub(super) fn set_line(&self, line: &Arc<Line>) {
        self.line.store(Some(Arc::clone(line)));
    }

    /// Calls one of those who wait, unless somebody waits for idle connections to give way: then it
    /// is theirs.
    fn slot_freed(&self) {
        if self.waiting.load(Ordering::SeqCst) == 0
            && let Some(line) = &*self.line.load()
        {
            line.slot_freed();
        }
    }

    /// Whether new connections are of one client each, which they begin with (PROXY protocol).
    pub fn tells_client(&self) -> bool {
        self.tells_client.load(Ordering::Relaxed)
    }

    /// Whether it is down, and what its connections do then.
    pub fn fate(&self) -> &Fate {
        &self.fate
    }

    /// Its failures in a row.
    pub fn streaks(&self) -> &Streaks {
        &self.streaks
    }

    /// How long it takes to respond.
    pub fn latency(&self) -> &Latency {
        &self.latency
    }

    /// What tables call it.
    pub fn id(&self) -> ServerId {
        self.id
    }

    /// Its name in logs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Open upstream connections, idle ones included.
    pub fn open(&self) -> u32 {
        self.open.load(Ordering::SeqCst)
    }

    /// Open upstream connections that carry nothing, of all workers.
    pub fn idle(&self) -> u32 {
        self.idle.load(Ordering::SeqCst)
    }

    /// Open upstream connections that carry something, of all workers.
    pub fn busy(&self) -> u32 {
        self.open().saturating_sub(self.idle())
    }

    /// Its share of traffic, where load is compared.
    pub fn weight(&self) -> u16 {
        self.weight.load(Ordering::Relaxed)
    }

    /// Sets `weight`.
    pub fn set_weight(&self, weight: NonZeroU16) {
        self.weight.store(weight.get(), Ordering::Relaxed);
    }

    /// Connections opened since the server is known.
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// Sets `max_connections`; open connections above a lowered limit finish.
    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::SeqCst);
        self.changed.notify_waiters();
        if let Some(line) = &*self.line.load() {
            line.pool_changed();
        }
    }

    /// Takes a slot if one is free.
    pub fn claim(self: &Arc<Self>) -> Option<Slot> {
        let limit = self.limit.load(Ordering::SeqCst);
        self.open
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |open| {
                (open < limit).then_some(open + 1)
            })
            .ok()?;
        Some(self.opening())
    }

    /// Takes a slot though there may be none: `overflow = "any"`.
    pub fn claim_beyond_the_limit(self: &Arc<Self>) -> Slot {
        self.open.fetch_add(1, Ordering::SeqCst);
        self.opening()
    }

    fn opening(self: &Arc<Self>) -> Slot {
        self.opened.fetch_add(1, Ordering::Relaxed);
        Slot { server: Arc::clone(self) }
    }

    /// Whether waiting for a slot has a point: one is free, or an idle connection holds one.
    pub fn may_free_a_slot(&self) -> bool {
        self.idle() > 0 || self.open() < self.limit.load(Ordering::SeqCst)
    }

    /// Takes a slot, waiting while idle connections hold some. `None` once all are busy.
    pub async fn claim_from_idle(self: &Arc<Self>) -> Option<Slot> {
        let _waiting = Waiting::begin(self);
        loop {
            let mut changed = pin!(self.changed.notified());
            // Registered before looking, so that no change between look and wait is missed.
            changed.as_mut().enable();
            // Counted before the claim: an idle connection that is gone by now has set its slot
            // free before.
            let idle = self.idle();
            if let Some(slot) = self.claim() {
                return Some(slot);
            }
            if idle == 0 {
                return None;
            }
            self.give_way.notify_waiters();
            changed.await;
        }
    }

    /// Waits until more claims wait than slots are free; the caller then closes one idle
    /// connection. Returns at once while that is so.
    pub async fn asked_to_give_way(&self) {
        loop {
            let mut asked = pin!(self.give_way.notified());
            asked.as_mut().enable();
            let free = self.limit.load(Ordering::SeqCst).saturating_sub(self.open());
            if self.waiting.load(Ordering::SeqCst) > free {
                return;
            }
            asked.await;
        }
    }
}

impl Slot {
    /// The server whose slot this is.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Marks the connection idle. Gives the slot back while a claim waits: the connection is then
    /// to be closed, not kept.
    pub fn park(self) -> Result<IdleSlot, Self> {
        // Counted before looking at `waiting`, while a claim raises `waiting` before it looks at
        // the count: one of the two sees the other.
        let mark = IdleMark::new(&self.server);
        if self.server.waiting.load(Ordering::SeqCst) > 0 {
            return Err(self);
        }
        self.server.slot_freed();
        Ok(IdleSlot { slot: self, mark })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.server.open.fetch_sub(1, Ordering::SeqCst);
        self.server.changed.notify_waiters();
        self.server.slot_freed();
    }
}

impl IdleSlot {
    /// The server whose slot this is.
    pub fn server(&self) -> &Arc<Server> {
        self.slot.server()
    }

    /// Marks the connection busy again.
    pub fn wake(self) -> Slot {
        let Self { slot, mark } = self;
        drop(mark);
        slot
    }
}

impl IdleMark {
    fn new(server: &Arc<Server>) -> Self {
        server.idle.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(server))
    }
}

impl Drop for IdleMark {
    fn drop(&mut self) {
        self.0.idle.fetch_sub(1, Ordering::SeqCst);
        self.0.changed.notify_waiters();
    }
}

/// Counts a waiting claim, also when it is cancelled.
struct Waiting<'a>(&'a Server);

impl<'a> Waiting<'a> {
    fn begin(server: &'a Server) -> Self {
        server.waiting.fetch_add(1, Ordering::SeqCst);
        server.give_way.notify_waiters();
        Self(server)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
        // What came free meanwhile was left to this claim, which may not have taken it.
        if self.0.may_free_a_slot() {
            self.0.slot_freed();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const ROUNDS: u32 = 100_000;

    fn server(limit: u32) -> Arc<Server> {
        let address = SocketAddr::from(([192, 0, 2, 1], 80));
        Arc::new(Server::new(ServerId(1), "a".to_owned(), address, limit))
    }

    #[test]
    fn no_more_slots_than_the_limit_are_given() {
        let server = server(2);
        let first = server.claim().unwrap();
        let _second = server.claim().unwrap();
        assert!(server.claim().is_none());
        drop(first);
        assert!(server.claim().is_some());
    }

    #[test]
    fn many_threads_never_hold_more_slots_than_the_limit() {
        let server = server(3);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        let slot = server.claim();
                        assert!(server.open() <= 3);
                        drop(slot);
                    }
                });
            }
        });
        assert_eq!(server.open(), 0);
    }

    #[tokio::test]
    async fn a_waiting_claim_gets_the_slot_of_an_idle_connection_that_gives_way() {
        let server = server(1);
        let idle = server.claim().unwrap().park().unwrap();
        let holder = async {
            server.asked_to_give_way().await;
            drop(idle);
        };
        let (slot, ()) = tokio::join!(server.claim_from_idle(), holder);
        assert!(slot.is_some());
        assert_eq!((server.open(), server.idle()), (1, 0));
    }

    #[test]
    fn a_claim_never_misses_a_slot_that_comes_free_while_it_looks() {
        let server = server(1);
        let round = AtomicU32::new(0);
        let mut missed = 0;
        let reach = |next| {
            let mut spins = 0_u32;
            while round.load(Ordering::Acquire) != next {
                // Close together, but not for as long as the other has no core to run on.
                spins += 1;
                if spins > 10_000 {
                    std::thread::yield_now();
                }
                std::hint::spin_loop();
            }
        };
        std::thread::scope(|scope| {
            // Holds an idle connection and closes it unasked, as a sweep does: a little later
            // after each start than after the one before.
            scope.spawn(|| {
                for n in (0..ROUNDS).step_by(2) {
                    reach(n);
                    let idle = server.claim().unwrap().park().unwrap();
                    round.store(n + 1, Ordering::Release);
                    for _ in 0..n % 64 {
                        std::hint::spin_loop();
                    }
                    drop(idle);
                }
            });
            for n in (1..ROUNDS).step_by(2) {
                reach(n);
                let slot = server.claim_from_idle().now_or_never();
                // Waiting is as good as a slot: the holder's end would wake it.
                missed += u32::from(matches!(slot, Some(None)));
                drop(slot);
                while server.idle() > 0 {
                    std::hint::spin_loop();
                }
                round.store(n + 1, Ordering::Release);
            }
        });
        assert_eq!(missed, 0);
    }

    #[tokio::test]
    async fn a_claim_does_not_wait_while_every_connection_is_busy() {
        let server = server(1);
        let _busy = server.claim().unwrap();
        assert!(server.claim_from_idle().await.is_none());
    }

    #[tokio::test]
    async fn a_connection_is_not_parked_while_a_claim_waits() {
        let server = server(2);
        let busy = server.claim().unwrap();
        let idle = server.claim().unwrap().park().unwrap();
        let mut claim = pin!(server.claim_from_idle());
        assert!(futures_util::poll!(claim.as_mut()).is_pending());
        drop(busy.park().expect_err("a claim waits"));
        assert!(claim.await.is_some());
        drop(idle);
    }

    #[tokio::test]
    async fn a_claim_that_is_cancelled_no_longer_asks() {
        let server = server(1);
        let idle = server.claim().unwrap().park().unwrap();
        {
            let mut claim = pin!(server.claim_from_idle());
            assert!(futures_util::poll!(claim.as_mut()).is_pending());
        }
        let slot = idle.wake();
        assert!(slot.park().is_ok());
    }
}

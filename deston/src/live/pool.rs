//! A live pool: a cursor, and a view that is replaced whole.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use deston_common::flow::FlowKey;
use deston_common::hash::Seed;
use deston_common::net::{Address, Be16, Ipv6Be, TCP, UDP};
use deston_common::server::ServerId;
use deston_common::table::{Index, Table};
use deston_common::{hash, select};

use super::bindings::Bindings;
use super::bound::Bound;
use super::{Budget, Line, Server};
use crate::model::{HashKey, PoolTimeouts, Protocol, Sticky, StickyCookie, Treatment};

/// A pool in use.
pub struct Pool {
    name: String,
    /// Shared by all workers, so that one client's consecutive requests see the sequence.
    cursor: AtomicU64,
    /// Makes random numbers of the cursor's.
    random: RandomState,
    bindings: Bindings,
    /// Those who wait for a slot.
    line: Arc<Line>,
    budget: Budget,
    view: ArcSwap<View>,
}

/// What a choice is made from: a table and the servers it names, always of the same moment.
#[derive(Clone)]
pub struct View {
    /// The table; its slots name eligible servers only.
    pub table: Box<Table>,
    /// Servers of the table, ordered by identifier.
    pub servers: Vec<Arc<Server>>,
    /// Server side deadlines.
    pub timeouts: PoolTimeouts,
    /// Whether clients keep their server.
    pub sticky: Option<Sticky>,
    /// What requests may count on.
    pub treatment: Treatment,
    /// What is hashed of a request, where that is no address.
    pub hash_key: Option<HashKey>,
    /// What the load of servers is, where it is compared.
    pub load: Load,
    /// Whether clients of layer 7 bring what says which server they keep, and what keys that.
    pub cookie: Option<(StickyCookie, Seed)>,
}

/// What the load of a server is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Load {
    /// Connections that carry something.
    #[default]
    Connections,
    /// How long it takes to respond, times what it is busy with.
    Latency,
}

/// An address as tuples have it.
pub fn wide(address: IpAddr) -> Ipv6Be {
    let wide = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    Ipv6Be::from_octets(wide.octets())
}

/// The tuple of packets from `client` to `listener`, as hashes are taken of it.
pub fn flow_key(client: SocketAddr, listener: SocketAddr, protocol: Protocol) -> FlowKey<Ipv6Be> {
    let side = |address: SocketAddr| (wide(address.ip()), Be16::from_host(address.port()));
    let protocol = match protocol {
        Protocol::Tcp => TCP,
        Protocol::Udp => UDP,
    };
    FlowKey::new(side(client), side(listener), protocol)
}

impl Pool {
    /// A pool with its first view.
    pub fn new(name: String, view: View) -> Self {
        let line = Arc::new(Line::default());
        view.servers.iter().for_each(|server| server.set_line(&line));
        Self {
            name,
            cursor: AtomicU64::new(0),
            random: RandomState::new(),
            bindings: Bindings::new(),
            line,
            budget: Budget::new(),
            view: ArcSwap::from_pointee(view),
        }
    }

    /// The pool's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The current view.
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// Replaces the view; choices under way finish on the old one.
    pub fn publish(&self, view: View) {
        view.servers.iter().for_each(|server| server.set_line(&self.line));
        self.view.store(Arc::new(view));
        self.line.pool_changed();
    }

    /// How many of its requests may be sent again.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Those who wait for a slot of its servers.
    pub fn line(&self) -> &Arc<Line> {
        &self.line
    }

    /// The server that a client is to keep, if it may be chosen.
    pub fn kept(&self, view: &View, client: IpAddr) -> Option<Arc<Server>> {
        let server = self.bindings.of(client, view.sticky.as_ref()?)?;
        view.server(server).cloned()
    }

    /// Takes note that a client has been given a server.
    pub fn remember(&self, view: &View, client: IpAddr, server: &Server) {
        if view.sticky.is_some() {
            self.bindings.remember(client, server);
        }
    }

    /// Where a new flow or request enters the table: once for each flow or request, since a cursor
    /// moves on.
    pub fn enter(&self, view: &View, key: &FlowKey<Ipv6Be>) -> u64 {
        let (index, seed) = (view.table.index, view.table.seed);
        let is = |kind: Index| index == kind as u32;
        if is(Index::Client) {
            key.source.hash(seed)
        } else if is(Index::ClientPort) {
            hash::client_port(seed, key.source, key.source_port)
        } else if is(Index::Flow) {
            hash::flow(seed, key)
        } else {
            let turn = self.cursor.fetch_add(1, Ordering::Relaxed);
            let random = is(Index::Random) || is(Index::Least);
            if random { self.random.hash_one(turn) } else { turn }
        }
    }
}

impl View {
    /// What a pool chooses from that asks for nothing but its servers and deadlines.
    pub fn new(table: Box<Table>, servers: Vec<Arc<Server>>, timeouts: PoolTimeouts) -> Self {
        Self {
            table,
            servers,
            timeouts,
            sticky: None,
            treatment: Treatment::NONE,
            hash_key: None,
            load: Load::default(),
            cookie: None,
        }
    }

    /// The first server from `start` that `take` accepts; `take` may see a server twice.
    pub fn choose(
        &self,
        start: u64,
        mut take: impl FnMut(&Arc<Server>) -> bool,
    ) -> Option<Arc<Server>> {
        let mut take = |id| self.server(id).is_some_and(&mut take);
        let id = if self.table.index == Index::Least as u32 {
            self.choose_least(start, &mut take).or_else(|| select::choose(&self.table, start, take))
        } else {
            select::choose(&self.table, start, take)
        };
        self.server(id?).cloned()
    }

    /// The least loaded of some servers, then the next of them.
    fn choose_least(
        &self,
        random: u64,
        mut take: impl FnMut(ServerId) -> bool,
    ) -> Option<ServerId> {
        // Never allocates as long as the first is taken.
        let mut refused = Vec::new();
        loop {
            let load = |id| {
                if refused.contains(&id) {
                    return None;
                }
                let server = self.server(id).filter(|server| server.may_free_a_slot())?;
                let busy = server.busy();
                let load = match self.load {
                    Load::Connections => busy.into(),
                    Load::Latency => server.latency().cost(busy),
                };
                Some((load, server.weight()))
            };
            let id = select::least(&self.table, random, load)?;
            if take(id) {
                return Some(id);
            }
            refused.push(id);
        }
    }

    /// What a server may have at most at this moment, where load is bounded.
    pub(crate) fn bound(&self) -> Option<Bound> {
        let factor = self.treatment.load_factor;
        (factor > 0).then(|| Bound::new(&self.servers, factor))
    }

    /// Whether `server` is one of those that may be chosen.
    pub fn contains(&self, server: &Arc<Server>) -> bool {
        self.server(server.id()).is_some_and(|here| Arc::ptr_eq(here, server))
    }

    fn server(&self, id: ServerId) -> Option<&Arc<Server>> {
        let index = self.servers.binary_search_by_key(&id, |server| server.id()).ok()?;
        self.servers.get(index)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;
    use std::time::Duration;

    use deston_common::limits::MAX_SAMPLES;
    use deston_common::table::{Member, TableError};
    use deston_common::{maglev, sequence};

    use super::*;

    /// A view of three servers with room for two connections each.
    fn view(fill: impl FnOnce(&mut Table, &[Member]) -> Result<(), TableError>) -> View {
        let ids = || (1..=3).map(ServerId);
        let members: Vec<_> =
            ids().map(|id| Member { id, identity: u64::from(id.0), weight: 1 }).collect();
        let mut table = Box::new(Table::EMPTY);
        fill(&mut table, &members).unwrap();
        let address = |id: ServerId| SocketAddr::from(([192, 0, 2, 1], id.0));
        let servers =
            ids().map(|id| Arc::new(Server::new(id, "s".to_owned(), address(id), 2))).collect();
        let second = Duration::from_secs(1);
        let timeouts = PoolTimeouts {
            connect: second,
            response_head: second,
            server_idle: second,
            total: Duration::ZERO,
        };
        View::new(table, servers, timeouts)
    }

    fn pool(fill: impl FnOnce(&mut Table, &[Member]) -> Result<(), TableError>) -> Pool {
        Pool::new("p".to_owned(), view(fill))
    }

    fn hashed(index: Index) -> Pool {
        pool(|table, members| maglev::fill_weighted(table, members, Seed::default(), index))
    }

    fn least() -> Pool {
        pool(|table, members| sequence::fill_least(table, members, MAX_SAMPLES))
    }

    fn key(client: [u8; 4], port: u16, listener: u16) -> FlowKey<Ipv6Be> {
        let listener = SocketAddr::from(([192, 0, 2, 9], listener));
        flow_key(SocketAddr::from((client, port)), listener, Protocol::Tcp)
    }

    /// Whether keys that differ in the client, its port and the listener's enter elsewhere.
    fn told_apart(pool: &Pool) -> [bool; 3] {
        let view = pool.view();
        let enter = |key| pool.enter(&view, &key);
        let one = enter(key([192, 0, 2, 1], 1_000, 80));
        [
            enter(key([192, 0, 2, 2], 1_000, 80)) != one,
            enter(key([192, 0, 2, 1], 1_001, 80)) != one,
            enter(key([192, 0, 2, 1], 1_000, 81)) != one,
        ]
    }

    #[test]
    fn each_hash_tells_apart_what_it_is_taken_of() {
        assert_eq!(told_apart(&hashed(Index::Client)), [true, false, false]);
        assert_eq!(told_apart(&hashed(Index::ClientPort)), [true, true, false]);
        assert_eq!(told_apart(&hashed(Index::Flow)), [true, true, true]);
    }

    #[test]
    fn an_ipv4_client_enters_where_the_kernel_enters_it() {
        let client = [192, 0, 2, 77];
        let pool = hashed(Index::Client);
        let expected = hash::client_v4(Seed::default(), client);
        assert_eq!(pool.enter(&pool.view(), &key(client, 1, 80)), expected);
    }

    #[test]
    fn random_entries_reach_every_server() {
        let pool = pool(sequence::fill_random);
        let view = pool.view();
        let choose = |_| {
            let start = pool.enter(&view, &key([192, 0, 2, 1], 1, 80));
            view.choose(start, |_| true).unwrap().id().0
        };
        let chosen: std::collections::BTreeSet<u16> = (0..200).map(choose).collect();
        assert_eq!(chosen.len(), 3);
    }

    #[test]
    fn the_server_with_the_fewest_busy_connections_is_chosen() {
        let pool = least();
        let view = pool.view();
        let mut slots = Vec::new();
        for (server, count) in view.servers.iter().zip([2, 0, 1]) {
            slots.extend((0..count).filter_map(|_| server.claim()));
        }
        for random in 0..50 {
            assert_eq!(view.choose(random, |_| true).unwrap().id(), ServerId(2));
        }
    }

    #[test]
    fn connections_are_weighed_against_the_weight() {
        let pool = least();
        let view = pool.view();
        let slots: Vec<_> = view.servers.iter().filter_map(Server::claim).collect();
        view.servers[2].set_weight(NonZeroU16::new(2).unwrap());
        assert_eq!(view.choose(7, |_| true).unwrap().id(), ServerId(3));
        drop(slots);
    }

    #[test]
    fn an_idle_connection_is_no_load() {
        let pool = least();
        let view = pool.view();
        let _idle = view.servers[0].claim().unwrap().park().unwrap();
        let _busy = [view.servers[1].claim(), view.servers[2].claim()];
        assert_eq!(view.choose(3, |_| true).unwrap().id(), ServerId(1));
    }

    #[test]
    fn a_refused_choice_gives_way_to_the_next_and_all_are_asked() {
        let pool = least();
        let view = pool.view();
        let mut asked = std::collections::BTreeSet::new();
        let refuse = |server: &Arc<Server>| {
            asked.insert(server.id());
            false
        };
        assert!(view.choose(5, refuse).is_none());
        assert_eq!(asked.len(), 3);
        let last = view.choose(5, |server| server.id() == ServerId(2));
        assert_eq!(last.unwrap().id(), ServerId(2));
    }

    /// A pool that is sticky for ten seconds, and a client.
    fn sticky() -> (Pool, IpAddr) {
        let sticky = Some(Sticky { ttl: Duration::from_secs(10) });
        let view = View { sticky, ..view(sequence::fill) };
        (Pool::new("p".to_owned(), view), IpAddr::from([192, 0, 2, 1]))
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_keeps_its_server_until_it_has_been_away_for_long() {
        let (pool, client) = sticky();
        let view = pool.view();
        let kept = || pool.kept(&view, client).map(|server| server.id());
        assert_eq!(kept(), None);
        pool.remember(&view, client, &view.servers[1]);
        for _ in 0..3 {
            tokio::time::advance(Duration::from_secs(9)).await;
            assert_eq!(kept(), Some(ServerId(2)));
            pool.remember(&view, client, &view.servers[1]);
        }
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(kept(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_does_not_keep_a_server_that_may_not_be_chosen() {
        let (pool, client) = sticky();
        let view = pool.view();
        pool.remember(&view, client, &view.servers[1]);
        let servers = vec![Arc::clone(&view.servers[0])];
        pool.publish(View { servers, sticky: view.sticky, ..self::view(sequence::fill) });
        assert!(pool.kept(&pool.view(), client).is_none());
    }

    #[test]
    fn nobody_is_chosen_from_an_empty_table() {
        let pool = pool(|table, _| sequence::fill_least(table, &[], MAX_SAMPLES));
        assert!(pool.view().choose(1, |_| true).is_none());
    }
}

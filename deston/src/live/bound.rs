//! Bounded load: where hashing would give one server far more than its share, others help.
//!
//! Consistent hashing with bounded loads: Mirrokni, Thorup and Zadimoghaddam, 2018.

use std::sync::Arc;

use super::Server;

/// What each server may have, from what all have at a moment.
pub(crate) struct Bound {
    /// In percent of the fair share.
    factor: u64,
    /// Busy connections, with the one to be opened.
    total: u64,
    weight: u64,
}

impl Bound {
    /// The bound for one more connection.
    pub(super) fn new(servers: &[Arc<Server>], factor: u32) -> Self {
        let sum = |of: fn(&Server) -> u64| servers.iter().map(|server| of(server)).sum::<u64>();
        let total = sum(|server| server.busy().into()) + 1;
        Self { factor: factor.into(), total, weight: sum(|server| server.weight().into()) }
    }

    /// Whether a server may have one more.
    pub(crate) fn admits(&self, server: &Server) -> bool {
        let share = u128::from(self.factor) * u128::from(self.total) * u128::from(server.weight());
        let most = share.div_ceil(u128::from(self.weight.max(1)) * 100);
        u128::from(server.busy()) < most
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use deston_common::server::ServerId;

    use super::*;

    fn servers(count: u16) -> Vec<Arc<Server>> {
        let address = SocketAddr::from(([192, 0, 2, 1], 80));
        (1..=count)
            .map(|id| Arc::new(Server::new(ServerId(id), "s".to_owned(), address, 1_000)))
            .collect()
    }

    #[test]
    fn a_server_far_above_its_share_gets_no_more() {
        let servers = servers(4);
        let mut slots = Vec::new();
        // Of 40, 1.25 times a quarter is 12.5, rounded up.
        for (server, count) in servers.iter().zip([13, 12, 10, 4]) {
            slots.extend((0..count).filter_map(|_| server.claim()));
        }
        let bound = Bound::new(&servers, 125);
        let admitted: Vec<bool> = servers.iter().map(|server| bound.admits(server)).collect();
        assert_eq!(admitted, [false, true, true, true]);
    }

    #[test]
    fn shares_are_those_of_the_weights() {
        let servers = servers(2);
        servers[0].set_weight(3.try_into().unwrap());
        let slots: Vec<_> = (0..7).filter_map(|_| servers[0].claim()).collect();
        assert!(Bound::new(&servers, 125).admits(&servers[0]), "7 of 8, may have 7.5");
        let more = servers[0].claim();
        assert!(!Bound::new(&servers, 100).admits(&servers[0]), "8 of 9, may have 6.75");
        drop((slots, more));
    }

    #[test]
    fn somebody_always_gets_the_next() {
        let servers = servers(3);
        let mut slots = Vec::new();
        for _ in 0..100 {
            let bound = Bound::new(&servers, 100);
            let server = servers.iter().find(|server| bound.admits(server)).unwrap();
            slots.extend(server.claim());
        }
        let busy: Vec<u32> = servers.iter().map(|server| server.busy()).collect();
        assert_eq!(busy, [34, 33, 33]);
    }
}

//! Load over IPv4 and IPv6 at once: a listener of each family, and the same clients of both.

use std::time::Duration;

use deston::datapath::Hook;

use super::visit::PORT;
use super::{
    Config, Echoes, Lab, Lost, TcpServer, Visit, Visits, listener_of, resets_received, server_of,
};
use crate::kernel::Family;

/// Port of the servers.
const SERVERS: u16 = 3_000;

/// A server on each server's host, of both families.
pub fn servers_of_both(lab: &Lab) -> [Vec<TcpServer>; 2] {
    Family::BOTH.map(|family| {
        let start =
            |(host, n)| TcpServer::start_at(host, n, (server_of(family, n), SERVERS).into());
        lab.servers.iter().zip(1..).map(start).collect()
    })
}

/// A listener and a pool of each family at a hook. `pool_keys` are lines of both pools, and each
/// server is told by its number and lines of its own.
pub fn config_of_both(hook: Hook, pool_keys: &str, servers: &[(u8, &str)]) -> Config {
    let mut config = Config::new();
    for family in Family::BOTH {
        let name = format!("{family:?}");
        config = config.listener(&name, hook, listener_of(family, PORT), "");
        config = config.pool(&name, pool_keys, &[]);
        for (n, keys) in servers {
            config = config.server(&name, (server_of(family, *n), SERVERS).into(), keys);
        }
    }
    config
}

/// Clients of both families: those that stay, and those that come and go.
pub struct LoadOfBoth {
    /// Connections that stay.
    pub echoes: [Echoes; 2],
    /// Clients that come and go, one after the other.
    pub visits: [Visits; 2],
}

impl LoadOfBoth {
    /// Starts `each` connections of each family, and a client of each that comes and goes.
    #[track_caller]
    pub fn start(lab: &Lab, each: usize) -> Self {
        let to = Family::BOTH.map(|family| listener_of(family, PORT));
        // A segment that is lost is sent again after a second.
        let (pause, limit) = (Duration::from_millis(5), Duration::from_secs(5));
        Self {
            echoes: to.map(|to| Echoes::start(&lab.client, to, each, Duration::from_millis(20))),
            visits: to.map(|to| Visits::patient(&lab.client, to, 1, pause, limit)),
        }
    }

    /// Waits until everybody has been served while something is as it is.
    #[track_caller]
    pub fn goes_on(&self) {
        self.echoes.iter().for_each(Echoes::wait_for_another_round);
        self.visits.iter().for_each(|visits| visits.wait_for(50));
    }

    /// Ends the load, of which nothing may have been lost and no host may have seen a reset;
    /// returns the exchanges, and the visits of each family.
    #[track_caller]
    pub fn stop_unharmed(self, lab: &Lab) -> (u64, [Vec<Visit>; 2]) {
        let exchanged = self.echoes.iter().map(Echoes::exchanged).sum();
        assert_eq!(self.echoes.map(Echoes::stop), [Lost::new(), Lost::new()]);
        let visits = self.visits.map(Visits::stop);
        let failed: Vec<_> =
            visits.iter().flatten().filter(|visit| visit.server.is_none()).collect();
        assert!(failed.is_empty(), "{failed:?}");
        assert_eq!(lab.hosts().map(resets_received).sum::<u64>(), 0);
        (exchanged, visits)
    }
}

//! How many connections a listener has open, of all its workers, and of each client.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::Refusal;
use super::recent::subscriber;
use crate::model::Limits;

/// The open connections of a listener.
#[derive(Debug, Default)]
pub(super) struct Connections {
    open: AtomicU32,
    /// Of clients, where they are limited: as many entries as there are connections, at most. Locked
    /// for one look-up, at accept and at close.
    by_client: Mutex<HashMap<IpAddr, u32>>,
}

/// An open connection, counted until it is dropped.
#[derive(Debug)]
pub struct Connection {
    all: Arc<Connections>,
    /// Whose it is, if it is counted as that client's.
    client: Option<IpAddr>,
}

impl Connections {
    /// Counts a connection of `client`, if there is room.
    pub(super) fn open(
        self: &Arc<Self>,
        limits: &Limits,
        client: IpAddr,
    ) -> Result<Connection, Refusal> {
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        // From here on, dropping it takes it back.
        let mut connection = Connection { all: Arc::clone(self), client: None };
        if limits.connections > 0 && before >= limits.connections {
            return Err(Refusal::Connections);
        }
        if limits.connections_per_ip > 0 {
            let client = subscriber(client);
            let mut clients = self.by_client.lock().unwrap_or_else(PoisonError::into_inner);
            let open = clients.entry(client).or_insert(0);
            if *open >= limits.connections_per_ip {
                drop(clients);
                return Err(Refusal::ClientConnections);
            }
            *open += 1;
            connection.client = Some(client);
        }
        Ok(connection)
    }
}

impl Connections {
    /// How many there are.
    pub(super) fn count(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.all.open.fetch_sub(1, Ordering::Relaxed);
        let Some(client) = self.client else { return };
        let mut clients = self.all.by_client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = clients.get_mut(&client) {
            *open -= 1;
            if *open == 0 {
                clients.remove(&client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_closed_connection_makes_room() {
        let limits = Limits { connections: 2, ..Limits::default() };
        let all = Arc::new(Connections::default());
        let client = address("192.0.2.1");
        let first = all.open(&limits, client).unwrap();
        let _second = all.open(&limits, client).unwrap();
        for _ in 0..2 {
            assert_eq!(all.open(&limits, client).unwrap_err(), Refusal::Connections);
        }
        drop(first);
        assert!(all.open(&limits, client).is_ok());
    }

    #[test]
    fn clients_are_counted_apart_and_an_ipv6_64_together() {
        let limits = Limits { connections_per_ip: 1, ..Limits::default() };
        let all = Arc::new(Connections::default());
        let first = all.open(&limits, address("2001:db8::1")).unwrap();
        let refused = all.open(&limits, address("2001:db8::2")).unwrap_err();
        assert_eq!(refused, Refusal::ClientConnections);
        let _other = all.open(&limits, address("192.0.2.1")).unwrap();
        drop(first);
        let _again = all.open(&limits, address("2001:db8::2")).unwrap();
        assert_eq!(all.by_client.lock().unwrap().len(), 2, "nobody who has left is remembered");
    }

    #[test]
    fn a_limit_that_comes_later_counts_what_comes_later() {
        let all = Arc::new(Connections::default());
        let client = address("192.0.2.1");
        let early = all.open(&Limits::default(), client).unwrap();
        let limits = Limits { connections_per_ip: 1, ..Limits::default() };
        let late = all.open(&limits, client).unwrap();
        drop(early);
        assert!(all.open(&limits, client).is_err());
        drop(late);
        assert!(all.open(&limits, client).is_ok());
    }
}

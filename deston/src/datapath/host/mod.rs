//! What the host knows: routes, links, addresses and neighbours, asked and watched over rtnetlink.
//!
//! The kernel programs never resolve anything: they send to the next hop that stands in SERVERS.
//! Keeping that true is the work of this module's callers; asking is the work of this module.

mod features;
mod generic;
mod message;
mod network;
mod offloads;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use futures_util::{Stream, StreamExt, TryStreamExt};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{
    NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourState,
};
use netlink_packet_route::route::RouteType;
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder};
use tokio::sync::Notify;
use tokio::task::JoinSet;

pub use features::NativeXdp;
pub(super) use features::native_xdp;
#[cfg(test)]
pub(super) use network::Address;
pub use network::Peer;
pub(super) use network::{Device, Kind, Link, Network, Path, Way};
pub(super) use offloads::offloads;

/// Why the host could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// No netlink socket.
    #[error("opening a netlink socket: {0}")]
    Socket(#[from] io::Error),
    /// The kernel refused a question.
    #[error("asking the kernel about {subject}: {source}")]
    Netlink {
        /// What was asked about.
        subject: String,
        /// What the kernel said.
        source: rtnetlink::Error,
    },
}

/// The host's network configuration.
pub(super) struct Host {
    handle: Handle,
    changes: Arc<Notify>,
    /// Owns the tasks that read the netlink socket and take note of what it tells.
    _tasks: JoinSet<()>,
}

/// Where packets to an address go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// To the host itself, by its loopback interface.
    Local(Way),
    /// Nowhere.
    Unreachable,
    /// Out by an interface.
    Out(Way),
}

impl Route {
    /// The first step, if there is one.
    pub(super) fn way(self) -> Option<Way> {
        match self {
            Self::Local(way) | Self::Out(way) => Some(way),
            Self::Unreachable => None,
        }
    }
}

impl Host {
    /// Connects to the kernel.
    pub(super) fn connect() -> Result<Self, HostError> {
        let (connection, handle, mut messages) = rtnetlink::new_multicast_connection(&[
            MulticastGroup::Link,
            MulticastGroup::Neigh,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv6Route,
        ])?;
        let changes = Arc::new(Notify::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(connection);
        let changed = Arc::clone(&changes);
        // The messages' queue has no bound, so it is emptied whatever else goes on.
        tasks.spawn(async move {
            while messages.next().await.is_some() {
                changed.notify_one();
            }
        });
        Ok(Self { handle, changes, _tasks: tasks })
    }

    /// Waits until links, addresses, routes or neighbours may have changed since the last call;
    /// many changes at once are one. Cancel safe.
    pub(super) async fn changed(&self) {
        self.changes.notified().await;
    }

    /// Links, addresses and neighbours as they are.
    pub(super) async fn look(&self) -> Result<Network, HostError> {
        let mut network = Network::default();
        let links = self.handle.link().get().execute();
        each(links, "links", |link| {
            network.devices.insert(link.header.index, message::device(&link));
        })
        .await?;
        let addresses = self.handle.address().get().execute();
        each(addresses, "addresses", |address| {
            network.addresses.extend(message::address(&address));
        })
        .await?;
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let neighbours = self.handle.neighbours().get().set_address_family(family).execute();
            each(neighbours, "neighbours", |neighbour| {
                network.neighbours.extend(message::neighbour(&neighbour));
            })
            .await?;
        }
        Ok(network)
    }

    /// Where packets to `address` go. The unspecified address asks for the default route.
    pub(super) async fn route(&self, address: IpAddr) -> Result<Route, HostError> {
        let question = match address {
            IpAddr::V4(v4) => {
                RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(v4, 32).build()
            }
            IpAddr::V6(v6) => {
                RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(v6, 128).build()
            }
        };
        let answer = self.handle.route().get(question).execute().try_next().await;
        let message = match answer {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(Route::Unreachable),
            // ENETUNREACH and the like: the kernel's way to say that there is no route.
            Err(rtnetlink::Error::NetlinkError(_)) => return Ok(Route::Unreachable),
            Err(source) => return Err(asking(address, source)),
        };
        let way = message::way(&message, address);
        Ok(match (message.header.kind, way) {
            (RouteType::Local, Some(way)) => Route::Local(way),
            (RouteType::Unicast, Some(way)) => Route::Out(way),
            // Black holes and prohibitions, and what has no source address.
            (_, _) => Route::Unreachable,
        })
    }

    /// Asks the kernel to resolve a next hop and to keep it resolved (Linux 5.16).
    pub(super) async fn keep_resolved(&self, way: &Way) -> Result<(), HostError> {
        let neighbours = self.handle.neighbours();
        let mut request = neighbours
            .add(way.device, way.next_hop)
            .state(NeighbourState::None)
            .flags(NeighbourFlags::Use)
            .replace();
        request
            .message_mut()
            .attributes
            .push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
        request.execute().await.map_err(|source| asking(way.next_hop, source))
    }
}

/// Calls `note` for each message of a dump.
async fn each<T>(
    messages: impl Stream<Item = Result<T, rtnetlink::Error>>,
    subject: &str,
    mut note: impl FnMut(T),
) -> Result<(), HostError> {
    let mut messages = std::pin::pin!(messages);
    while let Some(message) = messages.try_next().await.map_err(|source| asking(subject, source))? {
        note(message);
    }
    Ok(())
}

fn asking(subject: impl ToString, source: rtnetlink::Error) -> HostError {
    HostError::Netlink { subject: subject.to_string(), source }
}

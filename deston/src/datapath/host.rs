//! What the host knows: routes, links and neighbours, asked and watched over rtnetlink.
//!
//! The kernel programs never resolve anything: they send to the next hop that stands in SERVERS.
//! Keeping that true is the work of this module's callers; asking is the work of this module.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use deston_common::net::Mac;
use futures_util::{Stream, StreamExt, TryStreamExt};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage,
    NeighbourState,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder};
use tokio::sync::Notify;
use tokio::task::JoinSet;

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
    /// To the host itself.
    Local,
    /// Nowhere.
    Unreachable,
    /// Out by an interface.
    Out(Path),
}

/// The way out to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path {
    /// Interface it leaves by.
    pub(super) link: Link,
    /// Source address the host would use.
    pub(super) source: Ipv4Addr,
    /// The gateway, or the address itself on the same link.
    pub(super) next_hop: Ipv4Addr,
    /// The next hop's Ethernet address, while the host knows it.
    pub(super) next_hop_mac: Option<Mac>,
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    /// Zero on a link without Ethernet addresses.
    pub(super) mac: Mac,
    pub(super) is_veth: bool,
    pub(super) is_loopback: bool,
}

impl Host {
    /// Connects to the kernel.
    pub(super) fn connect() -> Result<Self, HostError> {
        let (connection, handle, mut messages) = rtnetlink::new_multicast_connection(&[
            MulticastGroup::Link,
            MulticastGroup::Neigh,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv4Route,
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

    /// Where packets to `address` go.
    pub(super) async fn route(&self, address: Ipv4Addr) -> Result<Route, HostError> {
        let question =
            RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(address, 32).build();
        let answer = self.handle.route().get(question).execute().try_next().await;
        let message = match answer {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(Route::Unreachable),
            // ENETUNREACH and the like: the kernel's way to say that there is no route.
            Err(rtnetlink::Error::NetlinkError(_)) => return Ok(Route::Unreachable),
            Err(source) => return Err(asking(address, source)),
        };
        if message.header.kind == RouteType::Local {
            return Ok(Route::Local);
        }
        let Some(way) = Way::of(&message) else { return Ok(Route::Unreachable) };
        let next_hop = way.gateway.unwrap_or(address);
        let Some(link) = self.link(way.ifindex).await? else { return Ok(Route::Unreachable) };
        let next_hop_mac = self.neighbour(way.ifindex, next_hop).await?;
        Ok(Route::Out(Path { link, source: way.source, next_hop, next_hop_mac }))
    }

    /// Asks the kernel to resolve a next hop and to keep it resolved (Linux 5.16).
    pub(super) async fn keep_resolved(&self, path: &Path) -> Result<(), HostError> {
        let mut request = self
            .handle
            .neighbours()
            .add(path.link.index, IpAddr::V4(path.next_hop))
            .state(NeighbourState::None)
            .flags(NeighbourFlags::Use)
            .replace();
        request
            .message_mut()
            .attributes
            .push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
        request.execute().await.map_err(|source| asking(path.next_hop, source))
    }

    /// The interface that holds an address.
    pub(super) async fn link_with(&self, address: Ipv4Addr) -> Result<Option<Link>, HostError> {
        let mut addresses =
            self.handle.address().get().set_address_filter(IpAddr::V4(address)).execute();
        while let Some(message) =
            addresses.try_next().await.map_err(|source| asking(address, source))?
        {
            let holds = message.attributes.iter().any(|attribute| {
                matches!(attribute, AddressAttribute::Local(local) if *local == IpAddr::V4(address))
            });
            if holds {
                return self.link(message.header.index).await;
            }
        }
        Ok(None)
    }

    /// The interface of a name.
    pub(super) async fn link_named(&self, name: &str) -> Result<Option<Link>, HostError> {
        let request = self.handle.link().get().match_name(name.to_owned());
        first_link(request.execute(), name).await
    }

    /// The interface of an index.
    pub(super) async fn link(&self, index: u32) -> Result<Option<Link>, HostError> {
        first_link(self.handle.link().get().match_index(index).execute(), index).await
    }

    async fn neighbour(&self, index: u32, address: Ipv4Addr) -> Result<Option<Mac>, HostError> {
        let mut neighbours =
            self.handle.neighbours().get().set_address_family(AddressFamily::Inet).execute();
        while let Some(message) =
            neighbours.try_next().await.map_err(|source| asking(address, source))?
        {
            if message.header.ifindex == index && destination(&message) == Some(address) {
                return Ok(usable_mac(&message));
            }
        }
        Ok(None)
    }
}

struct Way {
    ifindex: u32,
    source: Ipv4Addr,
    gateway: Option<Ipv4Addr>,
}

impl Way {
    fn of(message: &RouteMessage) -> Option<Self> {
        let (mut ifindex, mut source, mut gateway) = (None, None, None);
        for attribute in &message.attributes {
            if let RouteAttribute::Oif(index) = attribute {
                ifindex = Some(*index);
            } else if let RouteAttribute::PrefSource(RouteAddress::Inet(address)) = attribute {
                source = Some(*address);
            } else if let RouteAttribute::Gateway(RouteAddress::Inet(address)) = attribute {
                gateway = Some(*address);
            }
        }
        Some(Self { ifindex: ifindex?, source: source?, gateway })
    }
}

async fn first_link(
    links: impl Stream<Item = Result<LinkMessage, rtnetlink::Error>>,
    subject: impl ToString,
) -> Result<Option<Link>, HostError> {
    match std::pin::pin!(links).try_next().await {
        Ok(message) => Ok(message.map(|message| link_of(&message))),
        // ENODEV: there is no such interface.
        Err(rtnetlink::Error::NetlinkError(_)) => Ok(None),
        Err(source) => Err(asking(subject, source)),
    }
}

fn link_of(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: Mac::default(),
        is_veth: false,
        is_loopback: message.header.flags.contains(netlink_packet_route::link::LinkFlags::Loopback),
    };
    for attribute in &message.attributes {
        if let LinkAttribute::IfName(name) = attribute {
            link.name.clone_from(name);
        } else if let LinkAttribute::Address(octets) = attribute {
            link.mac = mac(octets).unwrap_or_default();
        } else if let LinkAttribute::LinkInfo(infos) = attribute {
            link.is_veth = infos.iter().any(|info| matches!(info, LinkInfo::Kind(InfoKind::Veth)));
        }
    }
    link
}

fn destination(message: &NeighbourMessage) -> Option<Ipv4Addr> {
    message.attributes.iter().find_map(|attribute| {
        if let NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) = attribute {
            Some(*address)
        } else {
            None
        }
    })
}

/// The Ethernet address of a neighbour, unless the kernel doubts it is there at all.
fn usable_mac(message: &NeighbourMessage) -> Option<Mac> {
    if matches!(
        message.header.state,
        NeighbourState::Incomplete | NeighbourState::Failed | NeighbourState::None
    ) {
        return None;
    }
    message.attributes.iter().find_map(|attribute| {
        if let NeighbourAttribute::LinkLayerAddress(octets) = attribute {
            mac(octets)
        } else {
            None
        }
    })
}

fn mac(octets: &[u8]) -> Option<Mac> {
    <[u8; 6]>::try_from(octets).ok().map(Mac::from_octets)
}

fn asking(subject: impl ToString, source: rtnetlink::Error) -> HostError {
    HostError::Netlink { subject: subject.to_string(), source }
}

//! Reading back what the process before wrote for its listeners.

use std::net::{IpAddr, SocketAddr};

use aya::maps::MapError;
use aya::maps::lpm_trie::Key;
use deston_common::guard::{LISTENER_BITS, SourceKey};
use deston_common::listener::{ListenerKey, StaticReply};
use deston_common::net::{Address, Ipv6Be};

use super::error::map;
use super::{KernelError, Maps};

/// A listener's number, a prefix and its length, and the verdict.
type Source = (u32, (IpAddr, u8), u32);

/// A server and its protocol, its listener, and whether that is at the TC hook.
type Reply = (SocketAddr, u8, SocketAddr, bool);

impl Maps {
    /// Every prefix of every listener, with its verdict.
    pub fn sources(&self) -> Result<Vec<Source>, KernelError> {
        let v4 = self.v4.sources.iter().map(|entry| entry.map(widen_source));
        let v6 = self.v6.sources.iter().map(|entry| entry.map(widen_source));
        v4.chain(v6).collect::<Result<_, _>>().map_err(map("SOURCES"))
    }

    /// Every server that serves one `dnat` listener alone, and that listener.
    pub fn static_replies(&self) -> Result<Vec<Reply>, KernelError> {
        let v4 = self.v4.static_replies.iter().map(|entry| entry.map(widen_static));
        let v6 = self.v6.static_replies.iter().map(|entry| entry.map(widen_static));
        v4.chain(v6).collect::<Result<_, MapError>>().map_err(map("STATIC_REPLIES"))
    }

    /// The first `count` SNAT addresses of the listener with a number.
    pub fn snat_addresses(&self, number: u32, count: u8) -> Result<Vec<IpAddr>, KernelError> {
        let entry = self.shared.snat_addresses.get(&number, 0).map_err(map("SNAT_ADDRESSES"))?;
        let addresses = entry.addresses.into_iter().take(usize::from(count));
        Ok(addresses.map(IpAddr::from).collect())
    }
}

fn widen_source<A: Address>((key, verdict): (Key<SourceKey<A>>, u32)) -> Source
where
    SourceKey<A>: aya::Pod,
{
    let SourceKey { listener, address } = key.data();
    let bits = u8::try_from(key.prefix_len().saturating_sub(LISTENER_BITS)).unwrap_or(u8::MAX);
    (listener, (IpAddr::from(address.widened()), bits), verdict)
}

fn widen_static<A: Address>((key, reply): (ListenerKey<A>, StaticReply<A>)) -> Reply {
    let wide = |address: A| -> IpAddr { Ipv6Be::into(address.widened()) };
    let server = SocketAddr::new(wide(key.address), key.port.to_host());
    let listener = SocketAddr::new(wide(reply.address), reply.port.to_host());
    (server, key.protocol, listener, reply.tc != 0)
}

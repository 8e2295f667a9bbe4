//! Whether a driver does native XDP, asked of the kernel (generic netlink family `netdev`, since
//! Linux 6.3; Documentation/netlink/specs/netdev.yaml).

use std::io;

use super::generic::{Family, attribute, find};

/// What the kernel says of a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NativeXdp {
    /// It runs programs and redirects what they send.
    Yes,
    /// It does not.
    No,
    /// The kernel cannot tell: one has to try.
    Unknown,
}

/// linux/netdev.h.
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
const NETDEV_XDP_ACT_BASIC: u64 = 1;
const NETDEV_XDP_ACT_REDIRECT: u64 = 2;

/// Asks about the interface of an index.
pub(in crate::datapath) fn native_xdp(index: u32) -> NativeXdp {
    match features(index) {
        Ok(Some(features)) => {
            let needed = NETDEV_XDP_ACT_BASIC | NETDEV_XDP_ACT_REDIRECT;
            if features & needed == needed { NativeXdp::Yes } else { NativeXdp::No }
        }
        Ok(None) | Err(_) => NativeXdp::Unknown,
    }
}

fn features(index: u32) -> io::Result<Option<u64>> {
    let Some(family) = Family::find("netdev")? else { return Ok(None) };
    let of = attribute(NETDEV_A_DEV_IFINDEX, &index.to_ne_bytes());
    let answer = family.ask(NETDEV_CMD_DEV_GET, &of)?;
    let features = answer.as_deref().and_then(|answer| find(answer, NETDEV_A_DEV_XDP_FEATURES));
    Ok(features.and_then(|value| value.first_chunk().copied().map(u64::from_ne_bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_has_no_native_xdp() {
        let index = nix::net::if_::if_nametoindex("lo").unwrap();
        assert_ne!(native_xdp(index), NativeXdp::Yes);
    }
}

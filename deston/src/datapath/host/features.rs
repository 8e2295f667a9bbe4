//! Whether a driver does native XDP, asked of the kernel (generic netlink family `netdev`, since
//! Linux 6.3; Documentation/netlink/specs/netdev.yaml).

use std::io;

use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr};

/// What the kernel says of a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::datapath) enum NativeXdp {
    /// It runs programs and redirects what they send.
    Yes,
    /// It does not.
    No,
    /// The kernel cannot tell: one has to try.
    Unknown,
}

/// `nlmsghdr` (linux/netlink.h).
const HEADER: usize = 16;
/// `genlmsghdr` (linux/genetlink.h).
const GENERIC_HEADER: usize = 4;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;

/// The family of families, and what it answers (linux/genetlink.h).
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

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
    let mut socket = Socket::new(NETLINK_GENERIC)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let name = request(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME, b"netdev\0");
    let family = ask(&socket, &name, CTRL_ATTR_FAMILY_ID)?;
    let family = family.and_then(|value| value.get(..2)?.try_into().ok().map(u16::from_ne_bytes));
    let Some(family) = family else { return Ok(None) };
    let of = request(family, NETDEV_CMD_DEV_GET, NETDEV_A_DEV_IFINDEX, &index.to_ne_bytes());
    let features = ask(&socket, &of, NETDEV_A_DEV_XDP_FEATURES)?;
    Ok(features.and_then(|value| value.get(..8)?.try_into().ok().map(u64::from_ne_bytes)))
}

/// The value of one attribute of the answer; `None` if the kernel refuses or does not say.
fn ask(socket: &Socket, request: &[u8], attribute: u16) -> io::Result<Option<Vec<u8>>> {
    socket.send(request, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    Ok(find(&answer, attribute).map(<[u8]>::to_vec))
}

/// A request with one attribute.
fn request(family: u16, command: u8, attribute: u16, value: &[u8]) -> Vec<u8> {
    let padded = value.len().next_multiple_of(4);
    let mut bytes = Vec::with_capacity(HEADER + GENERIC_HEADER + 4 + padded);
    bytes.extend(((HEADER + GENERIC_HEADER + 4 + padded) as u32).to_ne_bytes());
    bytes.extend(family.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST.to_ne_bytes());
    // Sequence number and sender.
    bytes.extend([0; 8]);
    // Version 1, and two bytes reserved.
    bytes.extend([command, 1, 0, 0]);
    bytes.extend(((4 + value.len()) as u16).to_ne_bytes());
    bytes.extend(attribute.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(HEADER + GENERIC_HEADER + 4 + padded, 0);
    bytes
}

/// The value of an attribute of a generic message.
fn find(message: &[u8], wanted: u16) -> Option<&[u8]> {
    let kind = u16::from_ne_bytes(message.get(4..6)?.try_into().ok()?);
    if kind == NLMSG_ERROR {
        return None;
    }
    let mut rest = message.get(HEADER + GENERIC_HEADER..)?;
    loop {
        let length = usize::from(u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?);
        if kind == wanted {
            return rest.get(4..length);
        }
        // An attribute is at least its own header: a shorter one would be read for ever.
        rest = rest.get(length.max(4).next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_is_found_behind_others() {
        let mut message = request(20, 1, 2, b"netdev\0");
        message.extend([6, 0, 1, 0, 0x1c, 0, 0, 0]);
        assert_eq!(find(&message, 2), Some(&b"netdev\0"[..]));
        assert_eq!(find(&message, 1), Some(&[0x1c, 0][..]));
        assert_eq!(find(&message, 3), None);
    }

    #[test]
    fn a_cut_message_has_no_attribute() {
        let message = request(20, 1, 2, b"netdev\0");
        for length in 0..message.len() - 1 {
            assert_eq!(find(&message[..length], 2), None, "{length} bytes");
        }
    }

    #[test]
    fn the_loopback_interface_has_no_native_xdp() {
        let index = nix::net::if_::if_nametoindex("lo").unwrap();
        assert_ne!(native_xdp(index), NativeXdp::Yes);
    }
}

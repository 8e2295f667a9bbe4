//! Questions to families of generic netlink (linux/genetlink.h): one request, one answer.

use std::io;

use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr};

/// `nlmsghdr` (linux/netlink.h).
const HEADER: usize = 16;
/// `genlmsghdr`.
const GENERIC_HEADER: usize = 4;
/// `nlattr`.
const ATTRIBUTE_HEADER: usize = 4;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
/// Set for attributes that hold others.
pub(super) const NESTED: u16 = 0x8000;
/// The type without what is told beside it.
const TYPE: u16 = 0x3fff;

/// The family of families, and what it answers.
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

/// A family that can be asked.
pub(super) struct Family {
    socket: Socket,
    number: u16,
}

impl Family {
    /// The family of a name; `None` if the kernel has none.
    pub(super) fn find(name: &str) -> io::Result<Option<Self>> {
        let mut socket = Socket::new(NETLINK_GENERIC)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        let mut families = Self { socket, number: GENL_ID_CTRL };
        let name = attribute(CTRL_ATTR_FAMILY_NAME, &[name.as_bytes(), b"\0"].concat());
        let Some(answer) = families.ask(CTRL_CMD_GETFAMILY, &name)? else { return Ok(None) };
        let number = find(&answer, CTRL_ATTR_FAMILY_ID).and_then(|value| value.first_chunk());
        let Some(number) = number else { return Ok(None) };
        families.number = u16::from_ne_bytes(*number);
        Ok(Some(families))
    }

    /// The attributes of the answer to a command; `None` if the kernel refuses.
    pub(super) fn ask(&self, command: u8, attributes: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.socket.send(&request(self.number, command, attributes), 0)?;
        let (answer, _) = self.socket.recv_from_full()?;
        Ok(attributes_of(&answer).map(<[u8]>::to_vec))
    }
}

fn request(family: u16, command: u8, attributes: &[u8]) -> Vec<u8> {
    let length = HEADER + GENERIC_HEADER + attributes.len();
    let mut bytes = Vec::with_capacity(length);
    bytes.extend((length as u32).to_ne_bytes());
    bytes.extend(family.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST.to_ne_bytes());
    // Sequence number and sender.
    bytes.extend([0; 8]);
    // Version 1, and two bytes reserved.
    bytes.extend([command, 1, 0, 0]);
    bytes.extend(attributes);
    bytes
}

/// What follows the headers of an answer.
fn attributes_of(message: &[u8]) -> Option<&[u8]> {
    let kind = u16::from_ne_bytes(*message.get(4..)?.first_chunk()?);
    if kind == NLMSG_ERROR { None } else { message.get(HEADER + GENERIC_HEADER..) }
}

/// One attribute as it is sent.
pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = ATTRIBUTE_HEADER + value.len();
    let mut bytes = Vec::with_capacity(length.next_multiple_of(4));
    bytes.extend((length as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

/// The value of the first attribute of a type.
pub(super) fn find(attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    Attributes(attributes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// Every attribute, with its type; ends where they are cut.
pub(super) struct Attributes<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16::from_ne_bytes(*self.0.first_chunk()?));
        let kind = u16::from_ne_bytes(*self.0.get(2..)?.first_chunk()?) & TYPE;
        // One that is shorter than its own header would be read for ever.
        let value = self.0.get(ATTRIBUTE_HEADER..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes() -> Vec<u8> {
        [attribute(2, b"netdev\0"), attribute(1, &[0x1c, 0]), attribute(3 | NESTED, &[])].concat()
    }

    #[test]
    fn an_attribute_is_found_behind_others() {
        let message = request(20, 1, &attributes());
        let found = attributes_of(&message).unwrap();
        assert_eq!(find(found, 2), Some(&b"netdev\0"[..]));
        assert_eq!(find(found, 1), Some(&[0x1c, 0][..]));
        assert_eq!(find(found, 3), Some(&[][..]));
        assert_eq!(find(found, 4), None);
    }

    #[test]
    fn what_is_cut_ends_the_attributes() {
        let whole = attributes();
        for length in 0..whole.len() {
            assert!(Attributes(&whole[..length]).count() <= 3, "{length} bytes");
        }
        assert_eq!(Attributes(&[3, 0, 1, 0, 0, 0, 0, 0]).count(), 0);
        assert_eq!(attributes_of(&[0; 19]), None);
    }

    #[test]
    fn an_error_has_no_attributes() {
        assert_eq!(attributes_of(&request(NLMSG_ERROR, 0, &attributes())), None);
    }
}

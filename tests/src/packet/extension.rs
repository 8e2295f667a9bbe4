//! IPv6 extension headers.

/// Header numbers.
pub mod kind {
    /// Hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// Routing.
    pub const ROUTING: u8 = 43;
    /// Fragment.
    pub const FRAGMENT: u8 = 44;
    /// Encapsulating security payload, which hides what follows.
    pub const ENCRYPTED: u8 = 50;
    /// Authentication, which counts its length in another unit.
    pub const AUTHENTICATION: u8 = 51;
    /// No next header.
    pub const NONE: u8 = 59;
    /// Destination options.
    pub const DESTINATION: u8 = 60;
}

/// An extension header: its number stands in the header before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// Header number.
    pub kind: u8,
    /// What follows the next header's number and the length: 6 bytes and any multiple of 8.
    pub body: Vec<u8>,
}

impl Extension {
    /// Options (hop-by-hop or destination) that are nothing but padding, `bytes` in all.
    pub fn options(kind: u8, bytes: usize) -> Self {
        assert!(bytes >= 8 && bytes.is_multiple_of(8), "{bytes} bytes make no extension header");
        let mut body = vec![0; bytes - 2];
        // PadN (RFC 8200, section 4.2) with its own length.
        body[0] = 1;
        body[1] = (bytes - 4) as u8;
        Self { kind, body }
    }

    /// A routing header without segments left.
    pub fn routing() -> Self {
        Self { kind: kind::ROUTING, body: vec![0; 6] }
    }

    /// A fragment header; `offset` in bytes.
    pub fn fragment(id: u32, offset: u16, more: bool) -> Self {
        let mut body = vec![];
        body.extend((offset | u16::from(more)).to_be_bytes());
        body.extend(id.to_be_bytes());
        Self { kind: kind::FRAGMENT, body }
    }

    /// The header, naming the `next` one.
    pub(super) fn bytes(&self, next: u8) -> Vec<u8> {
        let mut bytes = vec![next];
        bytes.push(((self.body.len() + 2) / 8 - 1) as u8);
        bytes.extend(&self.body);
        bytes
    }

    /// Whether a header of this number is an extension of the form that all but a few have.
    pub(super) fn is(number: u8) -> bool {
        matches!(number, kind::HOP_BY_HOP | kind::ROUTING | kind::FRAGMENT | kind::DESTINATION)
    }
}

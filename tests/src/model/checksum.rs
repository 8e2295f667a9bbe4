//! Internet checksums, from scratch and mended (RFC 1071; RFC 1624, equation 3), over big-endian
//! words and one addition at a time.

use std::net::IpAddr;

use super::tuple::UDP;

/// One's complement addition with end-around carry.
fn add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum + u16::from(carry)
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u16> + '_ {
    bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]))
}

/// The checksum of bytes.
pub fn of(bytes: &[u8]) -> u16 {
    !words(bytes).fold(0, add)
}

/// The checksum of a transport header and what it carries, with the pseudo header of its family
/// (RFC 9293, section 3.1; RFC 8200, section 8.1).
pub fn transport(source: IpAddr, destination: IpAddr, protocol: u8, bytes: &[u8]) -> u16 {
    let mut all = Vec::new();
    for address in [source, destination] {
        match address {
            IpAddr::V4(v4) => all.extend(v4.octets()),
            IpAddr::V6(v6) => all.extend(v6.octets()),
        }
    }
    all.extend((bytes.len() as u32).to_be_bytes());
    all.extend([0, 0, 0, protocol]);
    all.extend(bytes);
    match of(&all) {
        0 if protocol == UDP => 0xffff,
        sum => sum,
    }
}

/// What changed under a checksum.
#[derive(Clone, Default, Debug)]
pub struct Change {
    /// Words that went and words that came, the former inverted.
    words: Vec<u16>,
}

impl Change {
    /// Bytes that became others of the same, even length.
    pub fn replace(&mut self, from: &[u8], to: &[u8]) {
        assert_eq!(from.len(), to.len());
        self.words.extend(words(from).map(|word| !word));
        self.words.extend(words(to));
    }

    /// The checksum after the change.
    pub fn apply(&self, checksum: u16) -> u16 {
        !self.words.iter().fold(!checksum, |sum, word| add(sum, *word))
    }

    /// The checksum of UDP after the change (RFC 768: 0 is none).
    pub fn apply_udp(&self, checksum: u16) -> u16 {
        match (checksum, self.apply(checksum)) {
            (0, _) => 0,
            (_, 0) => 0xffff,
            (_, sum) => sum,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mended_checksum_is_the_one_from_scratch() {
        let mut bytes = *b"\x45\x00\x00\x28\x12\x34\x40\x00\x40\x06\x00\x00\xc0\x00\x02\x01";
        let before = of(&bytes);
        let mut change = Change::default();
        change.replace(&bytes[12..16], &[198, 51, 100, 7]);
        bytes[12..16].copy_from_slice(&[198, 51, 100, 7]);
        assert_eq!(change.apply(before), of(&bytes));
    }

    #[test]
    fn udp_without_a_checksum_stays_so() {
        let mut change = Change::default();
        change.replace(&[1, 2], &[3, 4]);
        assert_eq!(change.apply_udp(0), 0);
    }
}

//! Checksums from scratch.

use std::net::IpAddr;

/// RFC 1071, section 4.1, over bytes.
pub fn internet_checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Over the pseudo-header too (RFC 793, section 3.1; RFC 8200, section 8.1).
pub(super) fn with_pseudo_header(
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    bytes: &[u8],
) -> u16 {
    let mut summed = Vec::new();
    for address in [source, destination] {
        match address {
            IpAddr::V4(v4) => summed.extend(v4.octets()),
            IpAddr::V6(v6) => summed.extend(v6.octets()),
        }
    }
    // The length as two words and the protocol: the same sum in both families.
    summed.extend((bytes.len() as u32).to_be_bytes());
    summed.extend([0, protocol]);
    summed.extend(bytes);
    internet_checksum(&summed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071_sums_as_it_says() {
        assert_eq!(internet_checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }

    #[test]
    fn an_odd_byte_counts_as_the_high_one() {
        assert_eq!(internet_checksum(&[0x12]), !0x1200);
    }
}

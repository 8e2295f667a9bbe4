//! The checksum of RFC 4960 appendix B (Castagnoli), bit by bit: headers are short, and few have
//! one.

/// The polynomial, reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The checksum of some bytes.
pub(super) fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    !bytes.fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| {
            if sum & 1 == 1 { sum >> 1 ^ POLYNOMIAL } else { sum >> 1 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_rfc_3720() {
        // RFC 3720 B.4, and the check value of the CRC catalogue.
        assert_eq!(crc32c([0; 32].into_iter()), 0x8a91_36aa);
        assert_eq!(crc32c([0xff; 32].into_iter()), 0x62a8_ab43);
        assert_eq!(crc32c(0..32), 0x46dd_794e);
        assert_eq!(crc32c(b"123456789".iter().copied()), 0xe306_9283);
    }
}

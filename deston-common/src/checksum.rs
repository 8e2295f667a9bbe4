//! Incremental internet checksums (RFC 1624, equation 3): the one implementation.
//!
//! Words stay in network byte order throughout: one's complement addition does not mind
//! (RFC 1071, section 2 (B)).

/// A sum of changes, to be applied to a checksum.
#[derive(Clone, Copy, Default)]
pub struct Change(u64);

impl Change {
    /// Nothing has changed.
    #[inline(always)]
    pub const fn none() -> Self {
        Self(0)
    }

    /// A 16-bit word changed.
    #[inline(always)]
    pub const fn word16(self, from: u16, to: u16) -> Self {
        Self(self.0 + (!from) as u64 + to as u64)
    }

    /// A 32-bit word changed.
    #[inline(always)]
    pub const fn word32(self, from: u32, to: u32) -> Self {
        Self(self.0 + (!from) as u64 + to as u64)
    }

    /// The checksum after the change.
    #[inline(always)]
    pub const fn apply(self, checksum: u16) -> u16 {
        let mut sum = (!checksum) as u64 + self.0;
        // Fewer than 2^16 words of 32 bits were added: 48 bits fold to 16 in three steps.
        sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        !(sum as u16)
    }

    /// Another change on top of this one.
    #[inline(always)]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// The change as the 32-bit sum that the kernel's checksum helpers take (`bpf_l4_csum_replace`
    /// with `from` 0 and no size).
    #[inline(always)]
    pub const fn sum32(self) -> u32 {
        let sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        ((sum & 0xffff_ffff) + (sum >> 32)) as u32
    }

    /// The UDP checksum after the change: 0 means "none" and stays, and a sum that computes to 0
    /// is sent as all ones (RFC 768).
    #[inline(always)]
    pub const fn apply_udp(self, checksum: u16) -> u16 {
        if checksum == 0 {
            return 0;
        }
        match self.apply(checksum) {
            0 => 0xffff,
            sum => sum,
        }
    }
}

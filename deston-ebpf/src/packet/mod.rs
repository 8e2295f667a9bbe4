//! What a hook offers of a packet: the only code that forms pointers into one.

mod tc;
mod xdp;

use core::arch::asm;
use core::mem::size_of;

use deston_common::checksum::Change;
use deston_common::hop::Vlan;

use crate::fib::Lookup;

pub(crate) use tc::Tc;
pub(crate) use xdp::Xdp;

/// Longest prefix of a frame that headers are looked for in, bytes. A power of two less one, so
/// that a mask is a bound that the verifier understands.
pub(crate) const MAX_OFFSET: usize = 511;

/// Headers of nearly all packets: Ethernet, two tags, IPv4 with all options, TCP.
pub(crate) const USUAL: usize = 104;

/// Where the transport checksum stands and what has changed under it.
pub(crate) struct Mend {
    /// Place of the checksum in the frame.
    pub(crate) offset: usize,
    /// Changes of the pseudo header (addresses).
    pub(crate) pseudo: Change,
    /// Changes of the transport header.
    pub(crate) header: Change,
    /// UDP, where 0 means that there is no checksum (RFC 768).
    pub(crate) udp: bool,
    /// The pseudo header is IPv6's.
    pub(crate) v6: bool,
}

/// The 32 bits at a place, by one load. The compiler makes two of it, as the place need not be a
/// multiple of 4, and joins them; what is stored in halves and then read whole waits for the
/// processor's store buffer. The kernel allows the load on packets where processors do (x86-64,
/// aarch64).
///
/// # Safety
/// `at` has checked the bounds of `place`.
#[inline(always)]
pub(crate) unsafe fn word(place: *const u32) -> u32 {
    let word: u64;
    // SAFETY: the caller's; the verifier checks the bounds again.
    unsafe {
        asm!("{0} = *(u32 *)({1} + 0)", out(reg) word, in(reg) place,
             options(nostack, preserves_flags, readonly));
    }
    word as u32
}

/// A packet at a hook.
pub(crate) trait Packet: Copy {
    /// Whether this is the TC hook.
    const TC: bool;

    /// Start and end of the frame's linear part, read anew: the verifier forgets them after some
    /// helpers.
    fn bounds(self) -> (usize, usize);

    /// Bytes of the frame.
    fn len(self) -> usize;

    /// The interface the packet came in by.
    fn ifindex(self) -> u32;

    /// A tag that the device took off, if any.
    fn taken_off(self) -> Option<Vlan>;

    /// Makes the first `wanted` bytes linear, where they are not.
    fn pull(self, wanted: usize);

    /// Bytes of payload of each of the packets that this one will be cut into; 0: it stays whole.
    fn segment(self) -> u32;

    /// Mends the transport checksum; `None` if it is not there.
    fn mend(self, mend: &Mend) -> Option<()>;

    /// Moves the start of the frame: more than 0 grows it. Says whether that worked; pointers are
    /// void afterwards.
    fn grow_front(self, more: i32) -> bool;

    /// Makes room of `len` bytes between Ethernet and IP for an outer header, of IPv6 if `v6`.
    /// The Ethernet header is at the front afterwards, its addresses and tags undefined.
    fn encapsulate(self, len: i32, v6: bool) -> bool;

    /// Cuts the frame to `len` bytes.
    fn truncate(self, len: usize) -> bool;

    /// Takes the outermost tag off or puts one on; at XDP the whole header is written by
    /// `transmit`, so only the room is made.
    fn retag(self, from: u16, to: u16, vlans: &[Vlan; 2]) -> bool;

    /// Asks the kernel to send the frame out by an interface; takes effect with the verdict.
    fn redirect(self, ifindex: u32);

    /// Goes on in the program of a stage; returns only if it is missing.
    fn go_on(self, stage: u32);

    /// Asks the kernel's routes and neighbours; says whether both are known.
    fn fib(self, lookup: &mut Lookup) -> bool;

    /// A pointer to `T` at `offset`, if the packet is long enough. `T` is packed to 2 bytes: frames
    /// start at an even address and header lengths are even, and no more is sure.
    #[inline(always)]
    fn at<T>(self, offset: usize) -> Option<*mut T> {
        let (start, end) = self.bounds();
        let start = start + (offset & MAX_OFFSET);
        if start + size_of::<T>() > end {
            return None;
        }
        Some(start as *mut T)
    }
}

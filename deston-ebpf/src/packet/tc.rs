//! A packet at the TC ingress hook: the kernel's own buffer, which may be many packets in one
//! (GSO), have its checksum still to be filled in, and its outer VLAN tag taken off.

use aya_ebpf::bindings::{
    __sk_buff, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6, BPF_F_MARK_MANGLED_0,
    BPF_F_PSEUDO_HDR,
};
use aya_ebpf::helpers::generated::bpf_skb_change_head;
use aya_ebpf::helpers::{
    bpf_fib_lookup, bpf_l4_csum_replace, bpf_redirect, bpf_skb_adjust_room, bpf_skb_change_tail,
    bpf_skb_pull_data, bpf_skb_vlan_pop, bpf_skb_vlan_push,
};
use aya_ebpf::programs::TcContext;
use deston_common::globals;
use deston_common::hop::Vlan;
use deston_common::net::Be16;

use super::{MAX_OFFSET, Mend, Packet};
use crate::fib::Lookup;
use crate::globals as settings;
use crate::stages;

/// Of `bpf_skb_adjust_room`: room after the Ethernet header.
const BPF_ADJ_ROOM_MAC: u32 = 1;
/// Of `bpf_l4_csum_replace` (Linux 6.16): the pseudo header is IPv6's, so a complete checksum of
/// the whole packet changes with it.
const BPF_F_IPV6: u64 = 128;

/// A socket buffer.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Tc(*mut __sk_buff);

impl Tc {
    pub(crate) const fn new(ctx: *mut __sk_buff) -> Self {
        Self(ctx)
    }
}

impl Packet for Tc {
    const TC: bool = true;

    #[inline(always)]
    fn bounds(self) -> (usize, usize) {
        // Volatile: the compiler would load them in a subprogram's caller and pass them on as
        // numbers, which are no pointers to the verifier.
        // SAFETY: the kernel hands a valid context to the program.
        unsafe {
            (
                (&raw const (*self.0).data).read_volatile() as usize,
                (&raw const (*self.0).data_end).read_volatile() as usize,
            )
        }
    }

    #[inline(always)]
    fn len(self) -> usize {
        // SAFETY: the kernel hands a valid context to the program.
        unsafe { (*self.0).len as usize }
    }

    #[inline(always)]
    fn ifindex(self) -> u32 {
        // SAFETY: the kernel hands a valid context to the program.
        unsafe { (*self.0).ifindex }
    }

    #[inline(always)]
    fn taken_off(self) -> Option<Vlan> {
        // SAFETY: the kernel hands a valid context to the program.
        let (present, tpid, tci) =
            unsafe { ((*self.0).vlan_present, (*self.0).vlan_proto, (*self.0).vlan_tci) };
        (present != 0)
            .then(|| Vlan { tpid: Be16::from_word(tpid as u16), tci: Be16::from_host(tci as u16) })
    }

    #[inline(always)]
    fn pull(self, wanted: usize) {
        let (start, end) = self.bounds();
        let len = self.len();
        let wanted = if len < wanted { len } else { wanted };
        if end - start < wanted {
            // SAFETY: a helper on a valid context. If it fails, less can be read, and is.
            unsafe { bpf_skb_pull_data(self.0, wanted as u32) };
        }
    }

    #[inline(always)]
    fn segment(self) -> u32 {
        // SAFETY: the kernel hands a valid context to the program.
        unsafe { (*self.0).gso_size }
    }

    #[inline(always)]
    fn mend(self, mend: &Mend) -> Option<()> {
        let udp = if mend.udp { u64::from(BPF_F_MARK_MANGLED_0) } else { 0 };
        let ipv6 = if mend.v6 && settings::has(globals::flags::CSUM_IPV6) { BPF_F_IPV6 } else { 0 };
        let pseudo = u64::from(BPF_F_PSEUDO_HDR) | udp | ipv6;
        let offset = (mend.offset & MAX_OFFSET) as u32;
        // SAFETY: a helper on a valid context; it checks the bounds.
        let done = unsafe {
            bpf_l4_csum_replace(self.0, offset, 0, mend.pseudo.sum32().into(), pseudo) == 0
                && bpf_l4_csum_replace(self.0, offset, 0, mend.header.sum32().into(), udp) == 0
        };
        done.then_some(())
    }

    #[inline(always)]
    fn grow_front(self, more: i32) -> bool {
        // SAFETY: a helper on a valid context.
        unsafe { bpf_skb_change_head(self.0, more as u32, 0) == 0 }
    }

    #[inline(always)]
    fn encapsulate(self, len: i32, v6: bool) -> bool {
        let flags = if v6 { BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 } else { BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 };
        // SAFETY: a helper on a valid context.
        unsafe { bpf_skb_adjust_room(self.0, len, BPF_ADJ_ROOM_MAC, flags.into()) == 0 }
    }

    #[inline(always)]
    fn truncate(self, len: usize) -> bool {
        // SAFETY: a helper on a valid context.
        unsafe { bpf_skb_change_tail(self.0, len as u32, 0) == 0 }
    }

    #[inline(always)]
    fn retag(self, from: u16, to: u16, vlans: &[Vlan; 2]) -> bool {
        // SAFETY: helpers on a valid context.
        unsafe {
            if from > 0 && bpf_skb_vlan_pop(self.0) != 0 {
                return false;
            }
            if from > 1 && bpf_skb_vlan_pop(self.0) != 0 {
                return false;
            }
            let push =
                |vlan: &Vlan| bpf_skb_vlan_push(self.0, vlan.tpid.word(), vlan.tci.to_host()) == 0;
            if to > 1 && !push(&vlans[1]) {
                return false;
            }
            to == 0 || push(&vlans[0])
        }
    }

    #[inline(always)]
    fn redirect(self, ifindex: u32) {
        // SAFETY: a helper on plain numbers. With flags 0 it cannot fail.
        unsafe { bpf_redirect(ifindex, 0) };
    }

    #[inline(always)]
    fn fib(self, lookup: &mut Lookup) -> bool {
        let params = core::ptr::from_mut(lookup).cast();
        // SAFETY: a helper on a valid context and a structure of the kernel's layout.
        unsafe { bpf_fib_lookup(self.0.cast(), params, size_of::<Lookup>() as i32, 0) == 0 }
    }

    #[inline(always)]
    fn go_on(self, stage: u32) {
        // SAFETY: the map holds programs of this hook alone.
        unsafe { stages::STAGES_TC.tail_call(&TcContext::new(self.0), stage) };
    }
}

//! What is known of the packet at hand. It lives in a map value of this processor and not on the
//! stack, which has 512 bytes; and the verifier, which does not follow the contents of maps, meets
//! one state where it would meet one for each way that led here.

use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::macros::btf_map;
use deston_common::conntrack::tcp;
use deston_common::flow::{FlowEntry, FlowKey, ReplyEntry};
use deston_common::hop::Vlan;
use deston_common::net::{Address, Be16, Ipv4Be, Ipv6Be};
use deston_common::server::ServerId;

/// Which part of a datagram a packet is.
pub(crate) mod part {
    /// All of it.
    pub(crate) const WHOLE: u8 = 0;
    /// The first fragment, which has the ports.
    pub(crate) const FIRST: u8 = 1;
    /// A later fragment, without ports.
    pub(crate) const LATER: u8 = 2;
}

/// The packet at hand, and the entries that are being made for it.
#[repr(C)]
pub(crate) struct Context<A> {
    /// The packet's own tuple; without ports until they are known.
    pub(crate) key: FlowKey<A>,
    /// The tuple it shall leave with.
    pub(crate) to: FlowKey<A>,
    /// `CLOCK_MONOTONIC` nanoseconds.
    pub(crate) now: u64,
    /// Bytes of the IP packet.
    pub(crate) ip_len: u32,
    /// Bytes after the TCP or UDP header.
    pub(crate) payload: u32,
    /// TCP sequence number, host order.
    pub(crate) seq: u32,
    /// TCP acknowledgement number, host order.
    pub(crate) ack: u32,
    /// Where the IP header starts.
    pub(crate) l3: u32,
    /// Where the TCP, UDP or ICMP header starts.
    pub(crate) l4: u32,
    /// Identification of a fragmented datagram, as it stands in the packet.
    pub(crate) fragment_id: u32,
    /// TCP flags; 0 for anything else.
    pub(crate) flags: u8,
    /// Time to live, or hop limit.
    pub(crate) ttl: u8,
    /// One of [`part`].
    pub(crate) part: u8,
    /// 1 if the packet may be cut on its way.
    pub(crate) divisible: u8,
    /// Tags of the frame, those included that the device took off.
    pub(crate) vlan_count: u16,
    /// The server of its flow; 0: none.
    pub(crate) server: ServerId,
    /// The tags, outermost first.
    pub(crate) vlans: [Vlan; 2],
    /// Bits of `address::flags` of the destination (or, if it has none, of the source).
    pub(crate) role: u32,
    /// Pool whose health echo to the destination tells of.
    pub(crate) echo_pool: u32,
    /// SNAT ports of the destination, host order.
    pub(crate) snat_port_min: u16,
    /// See `snat_port_min`.
    pub(crate) snat_port_max: u16,
    /// A `Forwarding`, once the flow or its listener is known.
    pub(crate) forwarding: u8,
    /// 1 if the flow is half open and shall go to another server.
    pub(crate) moves: u8,
    /// Zero.
    pub(crate) pad: u16,
    /// What the packet is to be answered with: the outcome that is counted, and what an ICMP error
    /// says (type, and code 8 bits higher; MTU).
    pub(crate) answer: u32,
    /// See `answer`.
    pub(crate) says: u32,
    /// See `answer`.
    pub(crate) says_mtu: u32,
    /// ICMP error: the tuple of the packet that it quotes.
    pub(crate) quoted: FlowKey<A>,
    /// ICMP error: where the quoted IP header starts, and its transport header.
    pub(crate) quoted_l3: u32,
    /// See `quoted_l3`.
    pub(crate) quoted_l4: u32,
    /// With `moves`: the claim at the server that the flow leaves.
    pub(crate) old: FlowKey<A>,
    /// Claiming: port whose half-open flow may be stolen, and its SNAT address.
    pub(crate) victim: Candidate<A>,
    /// Claiming: port whose closed flow may be ended.
    pub(crate) closed: Candidate<A>,
    /// A flow entry in the making.
    pub(crate) flow: FlowEntry<A>,
    /// A reply entry in the making.
    pub(crate) reply: ReplyEntry<A>,
}

/// A claim that another flow has.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Candidate<A> {
    /// Its SNAT address.
    pub(crate) address: A,
    /// Its port.
    pub(crate) port: Be16,
    /// 1 if there is one.
    pub(crate) is_set: u16,
    /// When the other flow began.
    pub(crate) opened_ns: u64,
}

impl<A: Address> Context<A> {
    /// Whether the packet opens a TCP connection.
    #[inline(always)]
    pub(crate) fn is_opening(&self) -> bool {
        self.flags & (tcp::SYN | tcp::ACK | tcp::RST | tcp::FIN) == tcp::SYN
    }

    /// TCP: the sequence number after this packet; SYN and FIN count one each (RFC 9293, 3.4).
    #[inline(always)]
    pub(crate) fn next_seq(&self) -> u32 {
        let syn = u32::from(self.flags & tcp::SYN != 0);
        let fin = u32::from(self.flags & tcp::FIN != 0);
        self.seq.wrapping_add(self.payload + syn + fin)
    }
}

/// The packet at hand, for each processor. Programs do not nest on one.
#[btf_map]
pub(crate) static CONTEXT4: PerCpuArray<Context<Ipv4Be>, 1> = PerCpuArray::new();
#[btf_map]
pub(crate) static CONTEXT6: PerCpuArray<Context<Ipv6Be>, 1> = PerCpuArray::new();

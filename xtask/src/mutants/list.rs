//! The faults, one or more for each stage. A fault whose text is gone fails a test here: choose
//! another one for its stage.

use super::Mutant;

/// A fault in a file of deston-ebpf/src.
macro_rules! mutants {
    ($($stage:literal, $file:literal, $spec:literal, $fault:literal: $from:literal => $to:literal;)+) => {
        pub(crate) const MUTANTS: &[Mutant] = &[
            $(Mutant {
                stage: $stage,
                fault: $fault,
                file: concat!("deston-ebpf/src/", $file),
                from: $from,
                to: $to,
                spec: $spec,
            },)+
        ];
    };
}

mutants! {
    "parse", "parse.rs", "kernel_parse", "IPv4 options are not skipped":
        "usize::from(ip.version_ihl & 0x0f) * 4" => "usize::from(ip.version_ihl & 0x05) * 4";
    "role", "role.rs", "kernel_reply", "SNAT addresses are foreign":
        "flags::LISTENER | flags::SNAT" => "flags::LISTENER";
    "listener", "listener.rs", "kernel_listener", "a listener of any port goes first":
        "let exact = ListenerKey::new(address, port, protocol);" =>
        "let exact = ListenerKey::new(address, Be16::from_word(port.word() & 0), protocol);";
    "guard", "guard.rs", "kernel_guard", "who is denied is served, and the other way round":
        "*said == verdict::DENY" => "*said != verdict::DENY";
    "select", "select.rs", "kernel_states", "a full server takes new flows":
        "{ FULL } else { TAKEN }" => "{ TAKEN } else { TAKEN }";
    "claim", "takeover.rs", "kernel_claim", "a closed flow's port is reused whatever the number":
        "is_higher && state.is_closed()" => "state.is_closed()";
    "half", "half.rs", "kernel_claim", "a flow is carried by a port that another has":
        "if unsafe { (*entry).flow.is(&cx.key) } {" =>
        "if unsafe { (*entry).flow.is(&(*entry).flow) } {";
    "half", "half.rs", "kernel_claim", "a flow gives back what another has":
        "unsafe { (*reply).flow.is(key) }" => "unsafe { (*reply).flow.is(&(*reply).flow) }";
    "half", "half.rs", "kernel_refusal", "a SYN may be moved again and again":
        "state & State::RETRIED == 0 {" => "state & State::RETRIED != 1 {";
    "promote", "promote.rs", "kernel_promotion", "a promoted flow is not established":
        "State::ESTABLISHED | proved" => "proved";
    "conntrack", "conntrack.rs", "kernel_close", "a closed flow keeps its slot":
        "if state.is_closed() && state.0 & State::RELEASED == 0 {" =>
        "if state.is_closed() && state.0 & State::RELEASED != 0 {";
    "reply", "reply.rs", "kernel_promotion", "another number than the server's is remembered":
        "(*reply).first_seq = cx.seq;" => "(*reply).first_seq = cx.ack;";
    "fragment", "fragment.rs", "kernel_fragments", "ports are borrowed for longer than they are sure":
        "cx.now.saturating_sub(entry.seen_ns) > LIFETIME_NS" =>
        "cx.now.saturating_sub(entry.seen_ns) > 2 * LIFETIME_NS";
    "icmp", "icmp.rs", "kernel_icmp", "the error's checksum forgets the quoted one":
        "change = change.word16(before, after);" => "change = change.word16(before, before);";
    "quote", "quote.rs", "kernel_icmp", "a later fragment's bytes are read as ports":
        "header < size_of::<Ipv4>() || offset != 0" => "header < size_of::<Ipv4>() || offset == 8_191";
    "quote", "quote.rs", "kernel_icmp", "an error about a fragment over IPv6 is not ours":
        "if next != FRAGMENT_HEADER {" => "if next != 255 {";
    "transmit", "transmit.rs", "kernel_half_open", "a packet does not age":
        "F::readdress(packet, cx, cx.ttl.wrapping_sub(1))" => "F::readdress(packet, cx, cx.ttl)";
    "transmit", "packet/xdp.rs", "kernel_half_open", "an absent UDP checksum is computed with":
        "change.apply_udp(*checksum)" => "change.apply(*checksum)";
    "tunnel", "tunnel.rs", "kernel_dsr", "the tunnel runs the wrong way":
        "(server.snat_address, server.address)" => "(server.address, server.snat_address)";
    "complain", "complain.rs", "kernel_time_and_size", "the error tells another length":
        "let rest = mtu.to_be();" => "let rest = (mtu >> 1).to_be();";
    "reset", "reset.rs", "kernel_states", "the reset carries the client's number":
        "if acks { ack } else { 0 }" => "if acks { seq } else { 0 }";
    "static", "static_reply.rs", "kernel_dnat", "a stateless reply is left to the other hook":
        "(entry.tc != 0) != P::TC" => "(entry.tc != 0) == P::TC";
    "event", "event.rs", "kernel_events", "the budget of a trace is not spent":
        "atomic::fetch_sub(&raw mut (*filter).budget, 1)" =>
        "atomic::fetch_sub(&raw mut (*filter).budget, 0)";
    "expire", "expire.rs", "kernel_close", "a flow that has moved on is ended":
        "seen == request.flow_seen_ns && " => "seen >= request.flow_seen_ns && ";
    "verdict", "verdict.rs", "kernel_role", "foreign packets are dropped at XDP":
        "            XDP_PASS\n" => "            XDP_DROP\n";
}

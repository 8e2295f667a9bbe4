//! Another implementation's judgement of a frame: etherparse reads it, and computes every length and
//! checksum that it has.

use etherparse::checksum::Sum16BitWords;
use etherparse::{
    Icmpv4Slice, Icmpv6Slice, IpHeaders, IpNumber, Ipv4HeaderSlice, NetSlice, SlicedPacket,
    TcpSlice, TransportSlice, UdpSlice,
};

use super::{protocol, v4, v6};

/// Fails with what is wrong with a frame: a length, a checksum, or those of the packet that it
/// carries in a tunnel or quotes.
pub fn verify(frame: &[u8]) -> Result<(), String> {
    let sliced = SlicedPacket::from_ethernet(frame).map_err(|error| error.to_string())?;
    verify_packet(&sliced, verify_quote)
}

/// Fails with what is wrong with an ICMP error itself; its quote is not looked into.
pub fn verify_around_quote(frame: &[u8]) -> Result<(), String> {
    let sliced = SlicedPacket::from_ethernet(frame).map_err(|error| error.to_string())?;
    verify_packet(&sliced, |_, _| Ok(()))
}

/// Judges a quote, of a packet of so many bytes in all.
type Judge = fn(&[u8], usize) -> Result<(), String>;

fn verify_packet(sliced: &SlicedPacket<'_>, judge: Judge) -> Result<(), String> {
    let net = sliced.net.as_ref().ok_or("no IP packet")?;
    if let NetSlice::Ipv4(ip) = net {
        let header = ip.header().to_header();
        same("IPv4 header", header.header_checksum, header.calc_header_checksum())?;
    }
    let payload = net.ip_payload_ref().ok_or("no IP payload")?;
    if payload.fragmented {
        return Ok(());
    }
    match &sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => verify_tcp(net, tcp),
        Some(TransportSlice::Udp(udp)) => verify_udp(net, udp, payload.payload),
        Some(TransportSlice::Icmpv4(icmp)) => verify_icmp_v4(icmp, judge),
        Some(TransportSlice::Icmpv6(icmp)) => verify_icmp_v6(net, icmp, judge),
        Some(other) => Err(format!("{other:?} is nothing that the programs send")),
        None if is_tunnel(payload.ip_number) => verify_ip(payload.payload),
        None => Ok(()),
    }
}

/// An IP packet in a tunnel, or quoted whole.
fn verify_ip(bytes: &[u8]) -> Result<(), String> {
    let sliced = SlicedPacket::from_ip(bytes).map_err(|error| format!("inner: {error}"))?;
    verify_packet(&sliced, verify_quote).map_err(|error| format!("inner: {error}"))
}

fn is_tunnel(number: IpNumber) -> bool {
    number == IpNumber(protocol::IPIP) || number == IpNumber(protocol::IPV6)
}

fn verify_tcp(net: &NetSlice<'_>, tcp: &TcpSlice<'_>) -> Result<(), String> {
    let computed = match net {
        NetSlice::Ipv4(ip) => {
            tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination())
        }
        NetSlice::Ipv6(ip) => {
            tcp.calc_checksum_ipv6(ip.header().source(), ip.header().destination())
        }
        NetSlice::Arp(_) => return Err("TCP over ARP".to_owned()),
    };
    same("TCP", tcp.checksum(), computed.map_err(|error| error.to_string())?)
}

fn verify_udp(net: &NetSlice<'_>, udp: &UdpSlice<'_>, payload: &[u8]) -> Result<(), String> {
    if usize::from(udp.length()) != payload.len() {
        return Err(format!("UDP length {} of {} bytes", udp.length(), payload.len()));
    }
    if udp.checksum() == 0 {
        return Ok(());
    }
    let header = udp.to_header();
    let computed = match net {
        NetSlice::Ipv4(ip) => header.calc_checksum_ipv4_raw(
            ip.header().source(),
            ip.header().destination(),
            udp.payload(),
        ),
        NetSlice::Ipv6(ip) => header.calc_checksum_ipv6_raw(
            ip.header().source(),
            ip.header().destination(),
            udp.payload(),
        ),
        NetSlice::Arp(_) => return Err("UDP over ARP".to_owned()),
    };
    same("UDP", udp.checksum(), computed.map_err(|error| error.to_string())?)
}

fn verify_icmp_v4(icmp: &Icmpv4Slice<'_>, judge: Judge) -> Result<(), String> {
    // With its checksum in it, the sum of the whole is nothing but ones.
    let sum = Sum16BitWords::new().add_slice(icmp.slice()).ones_complement();
    same("ICMP", sum, 0)?;
    match icmp.type_u8() {
        v4::UNREACHABLE | v4::TIME_EXCEEDED | v4::PARAMETER => {
            let quote = icmp.payload();
            let header = Ipv4HeaderSlice::from_slice(quote).map_err(|error| error.to_string())?;
            let header = header.to_header();
            same("quoted IPv4 header", header.header_checksum, header.calc_header_checksum())?;
            judge(quote, usize::from(header.total_len))
        }
        _ => Ok(()),
    }
}

fn verify_icmp_v6(net: &NetSlice<'_>, icmp: &Icmpv6Slice<'_>, judge: Judge) -> Result<(), String> {
    let ip = net.ipv6_ref().ok_or("ICMPv6 over another family")?.header();
    if !icmp.is_checksum_valid(ip.source(), ip.destination()) {
        return Err("ICMPv6 checksum".to_owned());
    }
    if (v6::UNREACHABLE..=v6::PARAMETER).contains(&icmp.type_u8()) {
        let quote = icmp.payload();
        let length = quote.get(4..6).ok_or("a quote without a header")?;
        let whole = 40 + usize::from(u16::from_be_bytes([length[0], length[1]]));
        return judge(quote, whole);
    }
    Ok(())
}

/// A quote that holds the whole packet can be judged like one; of a shorter one, the headers.
fn verify_quote(quote: &[u8], whole: usize) -> Result<(), String> {
    if quote.len() >= whole {
        return verify_ip(&quote[..whole]);
    }
    IpHeaders::from_slice_lax(quote).map(drop).map_err(|error| format!("quote: {error}"))
}

fn same(what: &str, found: u16, computed: u16) -> Result<(), String> {
    if found == computed {
        Ok(())
    } else {
        Err(format!("{what} checksum {found:#06x}, and not {computed:#06x}"))
    }
}

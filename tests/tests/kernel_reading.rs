//! Reading many flows: each is told once, however many batches they take.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use deston::datapath::{Kernel, Sizes};
use deston_common::flow::{FlowEntry, FlowKey, ReplyEntry};
use deston_common::net::{Be16, Ipv6Be, TCP};
use deston_tests::require_kernel;

/// More than two batches of each family.
const FLOWS: u16 = 10_000;

/// The tuple of the `n`th flow.
fn key(n: u16, is_v4: bool) -> FlowKey<Ipv6Be> {
    let [high, low] = n.to_be_bytes();
    let (client, listener): (IpAddr, IpAddr) = if is_v4 {
        (Ipv4Addr::new(203, 0, high, low).into(), Ipv4Addr::new(192, 0, 2, 1).into())
    } else {
        let client = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n);
        (client.into(), Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1).into())
    };
    let side = |address: IpAddr, port| (Ipv6Be::from(address), Be16::from_host(port));
    FlowKey::new(side(client, 40_000), side(listener, 80), TCP)
}

fn flow(n: u16, is_v4: bool) -> FlowEntry<Ipv6Be> {
    let key = key(n, is_v4);
    FlowEntry { key, reply: key.reversed(), bytes: n.into(), ..FlowEntry::default() }
}

/// How often each flow was told, by its number and family.
fn told(flows: impl Iterator<Item = FlowEntry<Ipv6Be>>) -> BTreeMap<(u64, bool), u32> {
    let mut told = BTreeMap::new();
    for flow in flows {
        let is_v4 = IpAddr::from(flow.key.source).is_ipv4();
        assert_eq!(flow, self::flow(flow.bytes as u16, is_v4));
        *told.entry((flow.bytes, is_v4)).or_default() += 1;
    }
    told
}

#[test]
fn every_flow_is_told_once() {
    require_kernel!();
    let mut kernel = Kernel::load(Sizes { flows: 16_384, half_open: 65_536 }).unwrap();
    assert_eq!(kernel.flows().count(), 0);
    for is_v4 in [true, false] {
        for n in 0..FLOWS {
            kernel.put_flow(&flow(n, is_v4)).unwrap();
            kernel.put_half_flow(&flow(n, is_v4)).unwrap();
            let key = key(n, is_v4);
            let reply = ReplyEntry { key, flow: key.reversed(), ..ReplyEntry::default() };
            kernel.put_reply(&reply).unwrap();
        }
    }
    for told in [told(kernel.flows()), told(kernel.half_flows())] {
        assert_eq!(told.len(), 2 * usize::from(FLOWS));
        assert!(told.values().all(|times| *times == 1));
    }
    assert_eq!(kernel.replies().unwrap().len(), 2 * usize::from(FLOWS));
    assert_eq!(kernel.reply(&key(7, false)).unwrap().flow, key(7, false).reversed());
    assert_eq!(kernel.half_reply(&key(7, false)), None);
}

#[test]
fn an_ipv6_client_may_claim_a_mapped_address() {
    require_kernel!();
    let mut kernel = Kernel::load(Sizes { flows: 16, half_open: 16 }).unwrap();
    let mut flow = flow(1, false);
    flow.key.source = Ipv6Be::from(IpAddr::from(Ipv4Addr::new(203, 0, 113, 9)));
    flow.reply = flow.key.reversed();
    kernel.put_flow(&flow).unwrap();
    assert_eq!(kernel.flows().collect::<Vec<_>>(), [flow]);
    // It ends as any other does: the sweep asks the family that its listener has.
    let swept = kernel.expire(std::time::Duration::from_secs(1), |_| true).unwrap();
    assert_eq!((swept.seen, swept.idle), (1, 1));
}

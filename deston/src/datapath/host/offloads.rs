//! What a device does in the stack's place, asked of the kernel (generic netlink family `ethtool`,
//! since Linux 5.6; Documentation/networking/ethtool-netlink.rst).

use std::collections::BTreeSet;
use std::io;

use super::generic::{Attributes, Family, NESTED, attribute, find};

/// linux/ethtool_netlink.h.
const ETHTOOL_MSG_FEATURES_GET: u8 = 11;
const ETHTOOL_A_FEATURES_HEADER: u16 = 1;
const ETHTOOL_A_HEADER_DEV_INDEX: u16 = 1;
const ETHTOOL_A_FEATURES_ACTIVE: u16 = 4;
const ETHTOOL_A_BITSET_BITS: u16 = 3;
const ETHTOOL_A_BITSET_BITS_BIT: u16 = 1;
const ETHTOOL_A_BITSET_BIT_NAME: u16 = 2;

/// The features of a device that are on, by the kernel's names, such as `rx-gro`; none if it does
/// not say.
pub(in crate::datapath) fn offloads(index: u32) -> BTreeSet<String> {
    active(index).ok().flatten().unwrap_or_default()
}

fn active(index: u32) -> io::Result<Option<BTreeSet<String>>> {
    let Some(family) = Family::find("ethtool")? else { return Ok(None) };
    let device = attribute(ETHTOOL_A_HEADER_DEV_INDEX, &index.to_ne_bytes());
    let header = attribute(ETHTOOL_A_FEATURES_HEADER | NESTED, &device);
    let answer = family.ask(ETHTOOL_MSG_FEATURES_GET, &header)?;
    Ok(answer.as_deref().and_then(names))
}

/// The names of an answer's active features. The list is one of those that are on.
fn names(answer: &[u8]) -> Option<BTreeSet<String>> {
    let bits = find(find(answer, ETHTOOL_A_FEATURES_ACTIVE)?, ETHTOOL_A_BITSET_BITS)?;
    let bits = Attributes(bits).filter(|(kind, _)| *kind == ETHTOOL_A_BITSET_BITS_BIT);
    let name = |(_, bit)| {
        let text = find(bit, ETHTOOL_A_BITSET_BIT_NAME)?;
        Some(String::from_utf8_lossy(text).trim_end_matches('\0').to_owned())
    };
    Some(bits.filter_map(name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_known_by_its_features() {
        let index = nix::net::if_::if_nametoindex("lo").unwrap();
        let on = offloads(index);
        assert!(on.is_empty() || on.contains("loopback"), "{on:?}");
    }

    #[test]
    fn features_that_are_on_are_listed_by_name() {
        let bit = |name: &[u8]| {
            let bit = [attribute(1, &7_u32.to_ne_bytes()), attribute(2, name)].concat();
            attribute(1 | NESTED, &bit)
        };
        let bits = attribute(3 | NESTED, &[bit(b"rx-gro\0"), bit(b"rx-lro\0")].concat());
        let answer = attribute(4 | NESTED, &bits);
        let on = names(&answer).unwrap();
        assert_eq!(on.into_iter().collect::<Vec<_>>(), ["rx-gro", "rx-lro"]);
        assert_eq!(names(&[]), None);
    }
}

//! Which ports the host gives to its own connections.

use std::ops::RangeInclusive;

use crate::model::HostPorts;

/// As the system says; `None` where it does not.
pub fn host_ports() -> Option<HostPorts> {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).ok();
    let ephemeral = ephemeral(&read("ip_local_port_range")?)?;
    let reserved = reserved(&read("ip_local_reserved_ports").unwrap_or_default());
    Some(HostPorts { ephemeral, reserved })
}

/// Two numbers, such as `32768\t60999`.
fn ephemeral(text: &str) -> Option<RangeInclusive<u16>> {
    let mut numbers = text.split_whitespace().map(str::parse);
    Some(numbers.next()?.ok()?..=numbers.next()?.ok()?)
}

/// Ports and ranges, such as `8080,9000-9010`.
fn reserved(text: &str) -> Vec<RangeInclusive<u16>> {
    let range = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    text.trim().split(',').filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_says_which_ports_it_takes() {
        assert_eq!(ephemeral("32768\t60999\n"), Some(32_768..=60_999));
        assert_eq!(ephemeral("32768"), None);
        assert_eq!(ephemeral(""), None);
    }

    #[test]
    fn the_system_says_which_ports_it_leaves_alone() {
        assert_eq!(reserved("8080,9000-9010\n"), [8_080..=8_080, 9_000..=9_010]);
        assert_eq!(reserved("\n"), []);
    }
}

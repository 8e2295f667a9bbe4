//! Reading values of the network: ports, addresses, prefixes, interfaces.

use std::net::IpAddr;

use ipnet::IpNet;
use toml::de::DeValue;

use super::value::{self, Fault, must_be};
use crate::model::MAX_SNAT_IPS;

/// Names of network interfaces.
pub(super) fn interfaces(key: &str, value: &DeValue<'_>) -> Result<Vec<String>, Fault> {
    let fault =
        |value: &DeValue<'_>| must_be(key, "a list of interfaces such as [\"eth0\"]", value);
    let items = value.as_array().ok_or_else(|| fault(value))?;
    let mut seen: Vec<String> = Vec::new();
    value::each(items, |item| {
        let name = item.as_str().ok_or_else(|| fault(item))?;
        // IFNAMSIZ is 16 with the closing zero; the kernel refuses `/` and white space.
        let valid = (1..16).contains(&name.len()) && !name.contains(['/', ' ', '\t', '\n']);
        if !valid {
            return Err(Fault::new(format!("`{key}` has {name:?}, which cannot be an interface")));
        }
        if seen.iter().any(|other| other == name) {
            return Err(Fault::new(format!("`{key}` names {name:?} twice")));
        }
        seen.push(name.to_owned());
        Ok(name.to_owned())
    })
}

/// A range of ports such as `"10240-32767"`.
pub(super) fn ports(key: &str, value: &DeValue<'_>) -> Result<(u16, u16), Fault> {
    let what = "a range of ports such as \"10240-32767\"";
    let text = value.as_str().ok_or_else(|| must_be(key, what, value))?;
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0);
    text.split_once('-')
        .and_then(|(min, max)| Some((port(min)?, port(max)?)))
        .filter(|(min, max)| min <= max)
        .ok_or_else(|| Fault::new(format!("`{key}` must be {what}, not {text:?}")))
}

/// The port of a listener; 0 is every port.
pub(super) fn listener_port(key: &str, value: &DeValue<'_>) -> Result<u16, Fault> {
    if value.as_str().is_some_and(|text| text.contains('-')) {
        return Err(Fault::new("a range of ports is not available in this version")
            .help(format!("`{key}` may be one port, or 0 for every port")));
    }
    value::number(0..=u16::MAX)(key, value)
}

/// Address prefixes such as `"10.0.0.0/8"`; an address alone is a prefix of its own.
pub(super) fn prefixes(key: &str, value: &DeValue<'_>) -> Result<Vec<IpNet>, Fault> {
    let what = "a list of prefixes such as [\"10.0.0.0/8\", \"2001:db8::/32\"]";
    let items = value.as_array().ok_or_else(|| must_be(key, what, value))?;
    let read = |value: &DeValue<'_>| {
        let text = value.as_str().ok_or_else(|| must_be(key, what, value))?;
        let network = text.parse().or_else(|_| text.parse().map(|address: IpAddr| address.into()));
        let network: IpNet = network.map_err(|_| {
            Fault::new(format!("`{key}` has {text:?}, which is no prefix such as \"10.0.0.0/8\""))
        })?;
        if network != network.trunc() {
            return Err(Fault::new(format!(
                "`{key}` has {text:?}, which has bits behind its length"
            ))
            .help(format!("write \"{}\"", network.trunc())));
        }
        Ok(network)
    };
    value::each(items, read)
}

/// Addresses of this host, of one family.
pub(super) fn snat_ips(key: &str, value: &DeValue<'_>) -> Result<Vec<IpAddr>, Fault> {
    let what = "a list of addresses such as [\"192.0.2.1\"]";
    let items = value.as_array().ok_or_else(|| must_be(key, what, value))?;
    if items.len() > MAX_SNAT_IPS {
        let count = items.len();
        return Err(Fault::new(format!(
            "`{key}` has {count} addresses: at most {MAX_SNAT_IPS} are possible"
        )));
    }
    let read = |value: &DeValue<'_>| {
        let text = value.as_str().ok_or_else(|| must_be(key, what, value))?;
        let address: IpAddr =
            text.parse().map_err(|_| Fault::new(format!("`{key}` has {text:?}, no IP address")))?;
        let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
        let unlike_a_host = address.is_unspecified() || address.is_multicast() || broadcast;
        if unlike_a_host || address.is_loopback() {
            let message = format!("`{key}` has {address}, from which no server can be reached");
            return Err(Fault::new(message));
        }
        Ok(address)
    };
    let mut seen = Vec::new();
    value::each(items, |item| {
        let address = read(item)?;
        if seen.contains(&address) {
            return Err(Fault::new(format!("`{key}` names {address} twice")));
        }
        seen.push(address);
        Ok(address)
    })
}

//! From a host as it is written to an address. Names are looked up once, when the file is read.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs};

/// Asks somebody for the addresses of a name.
type Lookup<'a> = dyn FnMut(&str) -> io::Result<Vec<IpAddr>> + 'a;

/// Looks names up, each once.
pub(super) struct Resolver<'a> {
    lookup: Box<Lookup<'a>>,
    known: BTreeMap<String, Result<IpAddr, Unresolved>>,
}

/// Why a host has no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unresolved {
    /// Nothing is written.
    #[error("is empty: write an IP address or a host name")]
    Empty,
    /// A port, a scheme or a space stands in it.
    #[error("must be an IP address or a host name alone; the port goes into `port`")]
    NotAHost,
    /// A number or several that the system's resolver may take for an address, each in its own way:
    /// a leading zero makes it octal for some.
    #[error("is no IPv4 address: write four numbers from 0 to 255 without leading zeros")]
    OddNumbers,
    /// An IPv4 address in the clothes of an IPv6 one (RFC 4291, section 2.5.5.2): no packet has it.
    #[error("is an IPv4 address written as an IPv6 one: write {0}")]
    Mapped(Ipv4Addr),
    /// The name is not known.
    #[error("cannot be resolved: {0}")]
    Unknown(String),
}

impl<'a> Resolver<'a> {
    /// Asks the system.
    pub(super) fn system() -> Self {
        Self::new(|host| Ok((host, 0).to_socket_addrs()?.map(|address| address.ip()).collect()))
    }

    /// Asks `lookup`.
    pub(super) fn new(lookup: impl FnMut(&str) -> io::Result<Vec<IpAddr>> + 'a) -> Self {
        Self { lookup: Box::new(lookup), known: BTreeMap::new() }
    }

    /// The address of a host; an IPv4 address if it has one.
    pub(super) fn resolve(&mut self, host: &str) -> Result<IpAddr, Unresolved> {
        if let Ok(address) = host.parse() {
            return match address {
                IpAddr::V6(v6) => {
                    v6.to_ipv4_mapped().map_or(Ok(address), |v4| Err(Unresolved::Mapped(v4)))
                }
                IpAddr::V4(_) => Ok(address),
            };
        }
        if host.is_empty() {
            return Err(Unresolved::Empty);
        }
        if !host.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_')) {
            return Err(Unresolved::NotAHost);
        }
        if ends_in_number(host) {
            return Err(Unresolved::OddNumbers);
        }
        if let Some(known) = self.known.get(host) {
            return known.clone();
        }
        let found = (self.lookup)(host)
            .map_err(|error| Unresolved::Unknown(error.to_string()))
            .and_then(|found| preferred(&found));
        self.known.insert(host.to_owned(), found.clone());
        found
    }
}

/// Whether the last part is a number, decimal, octal or hexadecimal, as in no name of a host.
fn ends_in_number(host: &str) -> bool {
    let last = host.strip_suffix('.').unwrap_or(host).rsplit('.').next().unwrap_or_default();
    match last.strip_prefix("0x").or_else(|| last.strip_prefix("0X")) {
        Some(digits) => digits.chars().all(|c| c.is_ascii_hexdigit()),
        None => !last.is_empty() && last.chars().all(|c| c.is_ascii_digit()),
    }
}

fn preferred(found: &[IpAddr]) -> Result<IpAddr, Unresolved> {
    found
        .iter()
        .find(|address| address.is_ipv4())
        .or(found.first())
        .copied()
        .ok_or_else(|| Unresolved::Unknown("the name has no address".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ipv4_is_preferred() {
        let mut resolver = Resolver::new(|_| Ok(vec![address("::1"), address("127.0.0.1")]));
        assert_eq!(resolver.resolve("localhost"), Ok(address("127.0.0.1")));
    }

    #[test]
    fn a_name_with_ipv6_alone_gives_ipv6() {
        let mut resolver = Resolver::new(|_| Ok(vec![address("::1")]));
        assert_eq!(resolver.resolve("localhost"), Ok(address("::1")));
    }

    #[test]
    fn a_name_is_looked_up_once() {
        let mut lookups = 0;
        let mut resolver = Resolver::new(|_| {
            lookups += 1;
            Ok(vec![address("192.0.2.1")])
        });
        resolver.resolve("app").unwrap();
        resolver.resolve("app").unwrap();
        drop(resolver);
        assert_eq!(lookups, 1);
    }

    #[test]
    fn an_address_is_not_looked_up() {
        let mut resolver = Resolver::new(|_| Err(io::Error::other("asked")));
        assert_eq!(resolver.resolve("::1"), Ok(address("::1")));
    }

    #[test]
    fn odd_numbers_are_neither_addresses_nor_names() {
        let mut resolver = Resolver::new(|_| Err(io::Error::other("asked")));
        let odd = [
            "203.0.113.010",
            "0x7f.1",
            "127.1",
            "1",
            "0X7F000001",
            "1.2.3.4.5",
            "256.1.1.1",
            "127.0.0.1.",
            "0x",
        ];
        for host in odd {
            assert_eq!(resolver.resolve(host), Err(Unresolved::OddNumbers), "{host}");
        }
        for name in ["1app", "10.app", "0xen", "app-1", "app.x1"] {
            let error = resolver.resolve(name).unwrap_err();
            assert_eq!(error, Unresolved::Unknown("asked".to_owned()), "{name}");
        }
    }

    #[test]
    fn an_ipv4_address_is_written_as_one() {
        let mut resolver = Resolver::new(|_| Err(io::Error::other("asked")));
        for host in ["::ffff:192.0.2.1", "::ffff:c000:201"] {
            let expected = Err(Unresolved::Mapped(Ipv4Addr::new(192, 0, 2, 1)));
            assert_eq!(resolver.resolve(host), expected, "{host}");
        }
    }

    #[test]
    fn a_host_with_a_port_is_not_a_host() {
        let mut resolver = Resolver::new(|_| Err(io::Error::other("asked")));
        assert_eq!(resolver.resolve("127.0.0.1:80"), Err(Unresolved::NotAHost));
    }
}

//! The names of pinned links: they say what is attached to which interface of which namespace.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::str::FromStr;

use super::Hook;
use crate::model::XdpMode;

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// XDP in the driver.
    Native,
    /// XDP in the network stack.
    Generic,
    /// TC by a link (Linux 6.6 and later).
    Tcx,
    /// TC by a filter of a clsact qdisc, which stays by itself. What is pinned under its name is the
    /// program, as a record that there is a filter.
    Filter,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Native, Self::Generic, Self::Tcx, Self::Filter];

    /// The kind of XDP links in a mode.
    pub(super) fn of_xdp(mode: XdpMode) -> Self {
        match mode {
            XdpMode::Native => Self::Native,
            XdpMode::Generic => Self::Generic,
        }
    }

    /// The hook.
    pub(super) fn hook(self) -> Hook {
        match self {
            Self::Native | Self::Generic => Hook::Xdp,
            Self::Tcx | Self::Filter => Hook::Tc,
        }
    }

    /// As it stands in file names and is told to users.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Native => "xdp",
            Self::Generic => "xdpgeneric",
            Self::Tcx => "tcx",
            Self::Filter => "clsact",
        }
    }
}

/// The file name of a pinned link: `KIND-INTERFACE-NAMESPACE`, by number, since bpffs takes no dots
/// and interfaces of two namespaces may have one index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LinkName {
    pub(super) kind: Kind,
    pub(super) index: u32,
    pub(super) namespace: u64,
}

impl LinkName {
    /// The name of a link in the namespace of this thread.
    pub(super) fn here(kind: Kind, index: u32) -> Self {
        Self { kind, index, namespace: this_namespace() }
    }

    /// Whether the interface is in the namespace of this thread.
    pub(super) fn is_here(&self) -> bool {
        self.namespace == this_namespace()
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.kind.name(), self.index, self.namespace)
    }
}

/// Not the name of a link.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoLink;

impl FromStr for LinkName {
    type Err = NoLink;

    fn from_str(name: &str) -> Result<Self, NoLink> {
        let mut parts = name.split('-');
        let kind =
            parts.next().and_then(|name| Kind::ALL.into_iter().find(|kind| kind.name() == name));
        let index = parts.next().and_then(|index| index.parse().ok());
        let namespace = parts.next().and_then(|namespace| namespace.parse().ok());
        match (kind, index, namespace, parts.next()) {
            (Some(kind), Some(index), Some(namespace), None) => Ok(Self { kind, index, namespace }),
            _ => Err(NoLink),
        }
    }
}

/// The number of this thread's network namespace; 0 where there is no /proc.
fn this_namespace() -> u64 {
    std::fs::metadata("/proc/thread-self/ns/net").map_or(0, |namespace| namespace.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for kind in Kind::ALL {
            let name = LinkName { kind, index: 7, namespace: 4_026_531_840 };
            assert_eq!(name.to_string().parse(), Ok(name));
            assert!(!name.to_string().contains('.'));
        }
    }

    #[test]
    fn other_names_are_no_links() {
        for name in ["", "xdp", "xdp-2", "xdp-2-", "xdp-x-1", "tc-2-1", "xdp-2-1-1"] {
            assert_eq!(name.parse::<LinkName>(), Err(NoLink), "{name}");
        }
    }
}

//! Values that have names, and every way to write them.

use super::value::Names;
use crate::model::{Algorithm, DatapathChoice, Forwarding, Protocol, XdpMode};

/// `layer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LayerName {
    L4,
    L7,
}

/// `kind` of `[pool.health]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HealthKind {
    Tcp,
    Off,
}

/// `workers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Workers {
    Auto,
    Exactly(usize),
}

pub(super) const LAYERS: Names<LayerName> = Names {
    what: "layer",
    known: &[("L4", LayerName::L4), ("L7", LayerName::L7)],
    also: &[("layer4", LayerName::L4), ("layer7", LayerName::L7)],
    later: &[],
};

pub(super) const ALGORITHMS: Names<Algorithm> = Names {
    what: "algorithm",
    known: &[
        ("round_robin", Algorithm::RoundRobin),
        ("weighted_round_robin", Algorithm::WeightedRoundRobin),
        ("ip_hashing", Algorithm::IpHashing),
    ],
    also: &[],
    later: &["maglev", "least_connections", "p2c", "peak_ewma", "random"],
};

pub(super) const PROTOCOLS: Names<Protocol> = Names {
    what: "protocol",
    known: &[("tcp", Protocol::Tcp), ("udp", Protocol::Udp)],
    also: &[],
    later: &[],
};

pub(super) const DATAPATHS: Names<DatapathChoice> = Names {
    what: "datapath",
    known: &[
        ("auto", DatapathChoice::Auto),
        ("xdp", DatapathChoice::Xdp),
        ("userspace", DatapathChoice::Userspace),
    ],
    also: &[],
    later: &["tc"],
};

pub(super) const FORWARDINGS: Names<Forwarding> = Names {
    what: "forwarding",
    known: &[("nat", Forwarding::Nat)],
    also: &[],
    later: &["dnat", "dsr-l2", "dsr-ipip"],
};

pub(super) const HEALTH_KINDS: Names<HealthKind> = Names {
    what: "kind of health check",
    known: &[("tcp", HealthKind::Tcp), ("off", HealthKind::Off)],
    also: &[],
    later: &["http", "grpc", "udp"],
};

pub(super) const XDP_MODES: Names<XdpMode> = Names {
    what: "XDP mode",
    known: &[("native", XdpMode::Native), ("generic", XdpMode::Generic)],
    also: &[],
    later: &[],
};

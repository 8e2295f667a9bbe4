//! Values that have names, and every way to write them.

use http::HeaderName;
use toml::de::DeValue;

use super::value::{self, Fault, Names};
use crate::model::{
    Alpn, DatapathChoice, Forwarding, HashOn, LimitKey, OnDown, OnStop, Protocol, TlsVersion,
    XdpMode,
};

/// `layer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LayerName {
    L4,
    L7,
}

/// `algorithm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AlgorithmName {
    RoundRobin,
    WeightedRoundRobin,
    IpHashing,
    Maglev,
    LeastConnections,
    P2c,
    Random,
}

/// `kind` of `[pool.health]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HealthKind {
    Tcp,
    Http,
    Off,
}

/// `of` of `[listener.rate_limit]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limited {
    Connections,
    Requests,
}

/// `access` of `[log]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AccessForm {
    Json,
    Combined,
    Template,
    Off,
}

/// `by` of `[pool.sticky]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StickyBy {
    Ip,
}

/// `protocol` of `[[server]]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProtocolName {
    Auto,
    H1,
    H2,
    H2c,
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

pub(super) const ALGORITHMS: Names<AlgorithmName> = Names {
    what: "algorithm",
    known: &[
        ("round_robin", AlgorithmName::RoundRobin),
        ("weighted_round_robin", AlgorithmName::WeightedRoundRobin),
        ("ip_hashing", AlgorithmName::IpHashing),
        ("maglev", AlgorithmName::Maglev),
        ("least_connections", AlgorithmName::LeastConnections),
        ("p2c", AlgorithmName::P2c),
        ("random", AlgorithmName::Random),
    ],
    also: &[],
    later: &["peak_ewma"],
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
        ("tc", DatapathChoice::Tc),
        ("userspace", DatapathChoice::Userspace),
    ],
    also: &[],
    later: &[],
};

pub(super) const FORWARDINGS: Names<Forwarding> = Names {
    what: "forwarding",
    known: &[
        ("nat", Forwarding::Nat),
        ("dnat", Forwarding::Dnat),
        ("dsr-l2", Forwarding::DsrL2),
        ("dsr-ipip", Forwarding::DsrIpip),
    ],
    also: &[],
    later: &[],
};

pub(super) const HEALTH_KINDS: Names<HealthKind> = Names {
    what: "kind of health check",
    known: &[("tcp", HealthKind::Tcp), ("http", HealthKind::Http), ("off", HealthKind::Off)],
    also: &[],
    later: &["grpc", "udp"],
};

pub(super) const ACCESS: Names<AccessForm> = Names {
    what: "form of the access log",
    known: &[
        ("json", AccessForm::Json),
        ("combined", AccessForm::Combined),
        ("template", AccessForm::Template),
        ("off", AccessForm::Off),
    ],
    also: &[],
    later: &[],
};

pub(super) const XDP_MODES: Names<XdpMode> = Names {
    what: "XDP mode",
    known: &[("native", XdpMode::Native), ("generic", XdpMode::Generic)],
    also: &[],
    later: &[],
};

pub(super) const ON_STOP: Names<OnStop> = Names {
    what: "way to stop",
    known: &[("detach", OnStop::Detach), ("keep", OnStop::Keep)],
    also: &[],
    later: &[],
};

pub(super) const ON_DOWN: Names<OnDown> = Names {
    what: "treatment of connections",
    known: &[("reset", OnDown::Reset), ("drain", OnDown::Drain), ("rehash", OnDown::Rehash)],
    also: &[],
    later: &[],
};

pub(super) const LIMITED: Names<Limited> = Names {
    what: "kind of rate limit",
    known: &[("connections", Limited::Connections), ("requests", Limited::Requests)],
    also: &[],
    later: &[],
};

pub(super) const STICKY_BY: Names<StickyBy> = Names {
    what: "kind of stickiness",
    known: &[("ip", StickyBy::Ip)],
    also: &[],
    later: &["cookie"],
};

const HASH_ON: Names<HashOn> = Names {
    what: "thing to hash",
    known: &[("flow", HashOn::Flow), ("ip", HashOn::Ip), ("ip+port", HashOn::IpPort)],
    also: &[],
    later: &["path"],
};

/// `hash_on`.
pub(super) fn hash_on(key: &str, value: &DeValue<'_>) -> Result<HashOn, Fault> {
    refuse_part_of_a_request(key, value, &["header", "cookie", "query"])?;
    value::one_of(&HASH_ON)(key, value)
}

/// `key` of `[listener.rate_limit]`.
pub(super) fn limit_key(key: &str, value: &DeValue<'_>) -> Result<LimitKey, Fault> {
    let what = "`ip`, or `header:NAME` or `cookie:NAME`";
    let text = value.as_str().ok_or_else(|| value::must_be(key, what, value))?;
    let fault = || Fault::new(format!("`{key}` must be {what}, not {text:?}"));
    match text.split_once(':') {
        None if value::folded(text) == "ip" => Ok(LimitKey::Ip),
        Some(("header", name)) => {
            HeaderName::from_bytes(name.as_bytes()).map(LimitKey::Header).map_err(|_| fault())
        }
        // RFC 6265 4.1.1: a cookie's name is a token, as a field's is, but case matters.
        Some(("cookie", name)) if HeaderName::from_bytes(name.as_bytes()).is_ok() => {
            Ok(LimitKey::Cookie(name.to_owned()))
        }
        Some(_) | None => Err(fault()),
    }
}

/// Tells what a later version will know, such as `header:X-User`, from typos.
fn refuse_part_of_a_request(key: &str, value: &DeValue<'_>, kinds: &[&str]) -> Result<(), Fault> {
    let kind = value.as_str().and_then(|text| text.split_once(':')).map(|(kind, _)| kind);
    match kind.filter(|kind| kinds.contains(&value::folded(kind).as_str())) {
        Some(kind) => {
            Err(Fault::new(format!("`{key} = \"{kind}:..\"` is not available in this version")))
        }
        None => Ok(()),
    }
}

/// Whether clients must show a certificate.
pub(super) const CLIENT_AUTH: Names<bool> = Names {
    what: "client authentication",
    known: &[("required", true), ("optional", false)],
    also: &[],
    later: &[],
};

pub(super) const TLS_VERSIONS: Names<TlsVersion> = Names {
    what: "version of TLS",
    known: &[("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)],
    also: &[],
    later: &[],
};

const ALPN: Names<Alpn> = Names {
    what: "protocol",
    known: &[("h2", Alpn::H2), ("http/1.1", Alpn::Http11)],
    also: &[],
    later: &[],
};

/// `alpn`: protocols, best first.
pub(super) fn alpn(key: &str, value: &DeValue<'_>) -> Result<Vec<Alpn>, Fault> {
    let what = "a list such as [\"h2\", \"http/1.1\"]";
    let items = value.as_array().ok_or_else(|| value::must_be(key, what, value))?;
    let read = |item: &toml::Spanned<DeValue<'_>>| {
        value::one_of(&ALPN)(key, item.get_ref()).map_err(|fault| fault.within(item.span()))
    };
    let offered: Vec<Alpn> = items.iter().map(read).collect::<Result<_, _>>()?;
    if offered.is_empty() {
        return Err(Fault::new(format!("`{key}` must be {what}, not empty")));
    }
    Ok(offered)
}

pub(super) const SERVER_PROTOCOLS: Names<ProtocolName> = Names {
    what: "protocol",
    known: &[
        ("auto", ProtocolName::Auto),
        ("h1", ProtocolName::H1),
        ("h2", ProtocolName::H2),
        ("h2c", ProtocolName::H2c),
    ],
    also: &[("http/1.1", ProtocolName::H1)],
    later: &[],
};

//! Values that have names, and every way to write them.

use http::HeaderName;
use toml::de::DeValue;

use super::value::{self, Fault, Names};
use crate::model::{
    AcceptProxyProtocol, Alpn, DatapathChoice, ForwardedFields, Forwarding, HashKey, HashOn,
    LimitKey, Mode, OnDown, OnStop, Overflow, Protocol, ProxyProtocol, TlsVersion, Underscores,
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
    PeakEwma,
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
    Cookie,
}

/// `protocol` of `[[server]]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProtocolName {
    Auto,
    H1,
    H2,
    H2c,
}

/// `on` of `[pool.retry]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetryOn {
    Connect,
    Reset,
    ServerError,
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

pub(super) const MODES: Names<Mode> = Names {
    what: "mode",
    known: &[("strict", Mode::Strict), ("lenient", Mode::Lenient)],
    also: &[],
    later: &[],
};

pub(super) const UNDERSCORES: Names<Underscores> = Names {
    what: "way with underscores",
    known: &[("drop", Underscores::Drop), ("keep", Underscores::Keep)],
    also: &[],
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
        ("peak_ewma", AlgorithmName::PeakEwma),
        ("random", AlgorithmName::Random),
    ],
    also: &[],
    later: &[],
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

pub(super) const OVERFLOW: Names<Overflow> = Names {
    what: "treatment of overflow",
    known: &[("reject", Overflow::Reject), ("any", Overflow::Any)],
    also: &[],
    later: &[],
};

const RETRY_ON: Names<RetryOn> = Names {
    what: "cause of a retry",
    known: &[
        ("connect", RetryOn::Connect),
        ("reset", RetryOn::Reset),
        ("5xx", RetryOn::ServerError),
    ],
    also: &[],
    later: &[],
};

/// `on` of `[pool.retry]`: causes, perhaps none.
pub(super) fn retry_on(key: &str, value: &DeValue<'_>) -> Result<Vec<RetryOn>, Fault> {
    let what = "a list such as [\"connect\", \"reset\"]";
    let items = value.as_array().ok_or_else(|| value::must_be(key, what, value))?;
    value::each(items, |item| value::one_of(&RETRY_ON)(key, item))
}

pub(super) const LIMITED: Names<Limited> = Names {
    what: "kind of rate limit",
    known: &[("connections", Limited::Connections), ("requests", Limited::Requests)],
    also: &[],
    later: &[],
};

pub(super) const STICKY_BY: Names<StickyBy> = Names {
    what: "kind of stickiness",
    known: &[("ip", StickyBy::Ip), ("cookie", StickyBy::Cookie)],
    also: &[],
    later: &[],
};

pub(super) const ACCEPT_PROXY_PROTOCOL: Names<AcceptProxyProtocol> = Names {
    what: "way to accept the PROXY protocol",
    known: &[
        ("off", AcceptProxyProtocol::Off),
        ("optional", AcceptProxyProtocol::Optional),
        ("require", AcceptProxyProtocol::Require),
    ],
    also: &[],
    later: &[],
};

pub(super) const PROXY_PROTOCOLS: Names<Option<ProxyProtocol>> = Names {
    what: "version of the PROXY protocol",
    known: &[("off", None), ("v1", Some(ProxyProtocol::V1)), ("v2", Some(ProxyProtocol::V2))],
    also: &[],
    later: &[],
};

pub(super) const FORWARDED: Names<ForwardedFields> = Names {
    what: "kind of forwarded fields",
    known: &[
        ("x", ForwardedFields::X),
        ("rfc7239", ForwardedFields::Rfc7239),
        ("both", ForwardedFields::Both),
        ("off", ForwardedFields::Off),
    ],
    also: &[],
    later: &[],
};

const HASH_ON: Names<HashOn> = Names {
    what: "thing to hash",
    known: &[("flow", HashOn::Flow), ("ip", HashOn::Ip), ("ip+port", HashOn::IpPort)],
    also: &[],
    later: &[],
};

/// The name of a cookie (RFC 6265 4.1.1).
pub(super) fn cookie(key: &str, value: &DeValue<'_>) -> Result<String, Fault> {
    let name = value::text(key, value)?;
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(is_token) {
        let what = "the name of a cookie, 1 to 64 letters, digits, `_` and the like";
        return Err(Fault::new(format!("`{key}` must be {what}, not {name:?}")));
    }
    Ok(name)
}

/// `hash_on`.
#[derive(Clone, Debug)]
pub(super) enum Hashed {
    Address(HashOn),
    Request(HashKey),
}

/// `hash_on`.
pub(super) fn hash_on(key: &str, value: &DeValue<'_>) -> Result<Hashed, Fault> {
    let text = value.as_str().unwrap_or_default();
    if value::folded(text) == "path" {
        return Ok(Hashed::Request(HashKey::Path));
    }
    let Some((kind, name)) = text.split_once(':') else {
        return value::one_of(&HASH_ON)(key, value).map(Hashed::Address).map_err(|fault| {
            fault.help("of a request, `path`, `header:NAME`, `cookie:NAME` or `query:NAME`")
        });
    };
    let wrong = |what: &str| Fault::new(format!("`{key}` must name {what}, not {name:?}"));
    let is_token = !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_graphic() && !b"=;,&\"".contains(&byte));
    Ok(Hashed::Request(match value::folded(kind).as_str() {
        "header" => HashKey::Header(name.parse().map_err(|_| wrong("a field"))?),
        "cookie" if is_token => HashKey::Cookie(name.to_owned()),
        "cookie" => return Err(wrong("a cookie")),
        "query" if is_token => HashKey::Query(name.to_owned()),
        "query" => return Err(wrong("a parameter")),
        _ => {
            let message = format!("unknown thing to hash `{kind}:{name}`");
            let help = "it may be `header:NAME`, `cookie:NAME` or `query:NAME`";
            return Err(Fault::new(message).help(help));
        }
    }))
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
    let offered = value::each(items, |item| value::one_of(&ALPN)(key, item))?;
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

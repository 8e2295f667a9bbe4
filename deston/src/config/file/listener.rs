//! `[[listener]]`, and the listener's keys of `[load_balancer]`.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::auth::auth;
use super::edits::MessageEdits;
use super::http::{Http, Limits};
use super::{Identity, Origin, Tls};
use crate::config::names::{
    self, DATAPATHS, FORWARDINGS, LAYERS, LIMITED, LayerName, Limited, PROTOCOLS,
};
use crate::config::network;
use crate::config::problem::Span;
use crate::config::rate::{self, Rate};
use crate::config::section::{Field, Section};
use crate::config::value::{self, Zero};
use crate::model::{Auth, DatapathChoice, Forwarding, LimitKey, Protocol};

/// `[[listener]]`.
pub(in crate::config) struct Listener {
    pub(in crate::config) header: Option<Span>,
    pub(in crate::config) name: Field<String>,
    pub(in crate::config) address: Field<String>,
    pub(in crate::config) port: Field<u16>,
    pub(in crate::config) layer: Field<LayerName>,
    pub(in crate::config) protocol: Field<Protocol>,
    pub(in crate::config) pool: Field<String>,
    pub(in crate::config) datapath: Field<DatapathChoice>,
    pub(in crate::config) forwarding: Field<Forwarding>,
    pub(in crate::config) interfaces: Field<Vec<String>>,
    pub(in crate::config) snat_ips: Field<Vec<IpAddr>>,
    pub(in crate::config) snat_ports: Field<(u16, u16)>,
    pub(in crate::config) allow: Field<Vec<IpNet>>,
    pub(in crate::config) deny: Field<Vec<IpNet>>,
    pub(in crate::config) rate_limit: RateLimit,
    pub(in crate::config) origin: Origin,
    pub(in crate::config) icmp_echo: Field<bool>,
    pub(in crate::config) flows: Flows,
    pub(in crate::config) request_head: Field<Duration>,
    pub(in crate::config) client_idle: Field<Duration>,
    pub(in crate::config) stream_idle: Field<Duration>,
    pub(in crate::config) tunnel_idle: Field<Duration>,
    pub(in crate::config) tls_handshake: Field<Duration>,
    pub(in crate::config) tls: Tls,
    pub(in crate::config) http: Http,
    pub(in crate::config) limits: Limits,
    pub(in crate::config) auth: Field<Option<Auth>>,
    pub(in crate::config) headers: Headers,
}

/// `[listener.headers]`.
pub(in crate::config) struct Headers {
    pub(in crate::config) header: Option<Span>,
    pub(in crate::config) edits: MessageEdits,
    pub(in crate::config) identity: Identity,
}

/// `[listener.rate_limit]`.
pub(in crate::config) struct RateLimit {
    pub(in crate::config) header: Option<Span>,
    pub(in crate::config) of: Field<Limited>,
    pub(in crate::config) key: Field<LimitKey>,
    pub(in crate::config) rate: Field<Rate>,
    pub(in crate::config) burst: Field<u32>,
}

/// `[listener.flows]`.
pub(in crate::config) struct Flows {
    pub(in crate::config) header: Option<Span>,
    pub(in crate::config) tcp_syn: Field<Duration>,
    pub(in crate::config) tcp_established: Field<Duration>,
    pub(in crate::config) tcp_fin: Field<Duration>,
    pub(in crate::config) tcp_rst: Field<Duration>,
    pub(in crate::config) udp_one_way: Field<Duration>,
    pub(in crate::config) udp_two_way: Field<Duration>,
    pub(in crate::config) one_packet: Field<bool>,
}

impl Listener {
    /// A `[[listener]]`.
    pub(super) fn named(section: &mut Section<'_>) -> Self {
        let name = section.get("name", value::name);
        let pool = section.get("pool", value::name);
        Self { name, pool, ..Self::unnamed(section) }
    }

    /// A listener's keys, those that name things left out.
    pub(super) fn unnamed(section: &mut Section<'_>) -> Self {
        let timeouts = section.child("timeouts");
        let tls_handshake = timeouts.get("tls_handshake", value::duration(Zero::Off));
        let request_head = timeouts.get("request_head", value::duration(Zero::Off));
        let client_idle = timeouts.get("client_idle", value::duration(Zero::Off));
        let stream_idle = timeouts.get("stream_idle", value::duration(Zero::Off));
        let tunnel_idle = timeouts.get("tunnel_idle", value::duration(Zero::Off));
        Self {
            header: section.header(),
            name: Field::Absent,
            address: section.get("address", value::text),
            port: section.get("port", network::listener_port),
            layer: section.get("layer", value::one_of(&LAYERS)),
            protocol: section.get("protocol", value::one_of(&PROTOCOLS)),
            pool: Field::Absent,
            datapath: section.get("datapath", value::one_of(&DATAPATHS)),
            forwarding: section.get("forwarding", value::one_of(&FORWARDINGS)),
            interfaces: section.get("interfaces", network::interfaces),
            snat_ips: section.get("snat_ips", network::snat_ips),
            snat_ports: section.get("snat_ports", network::ports),
            allow: section.get("allow", network::prefixes),
            deny: section.get("deny", network::prefixes),
            rate_limit: RateLimit::read(section.child("rate_limit")),
            origin: Origin::read(section),
            icmp_echo: section.get("icmp_echo", value::flag),
            flows: Flows::read(section.child("flows")),
            request_head,
            client_idle,
            stream_idle,
            tunnel_idle,
            tls_handshake,
            tls: Tls::read(section.child("tls")),
            http: Http::read(section.child("http")),
            limits: Limits::read(section.child("limits")),
            auth: section.get("auth", auth(section.base())),
            headers: Headers::read(section.child("headers")),
        }
    }
}

impl Headers {
    fn read(section: &mut Section<'_>) -> Self {
        Self {
            header: section.header(),
            edits: MessageEdits::read(section),
            identity: Identity::read(section),
        }
    }
}

impl RateLimit {
    fn read(section: &mut Section<'_>) -> Self {
        Self {
            header: section.header(),
            of: section.get("of", value::one_of(&LIMITED)),
            key: section.get("key", names::limit_key),
            rate: section.get("rate", rate::rate),
            burst: section.get("burst", value::number(1..=u32::MAX)),
        }
    }
}

impl Flows {
    fn read(section: &mut Section<'_>) -> Self {
        Self {
            header: section.header(),
            tcp_syn: section.get("tcp_syn", value::duration(Zero::Refused)),
            tcp_established: section.get("tcp_established", value::duration(Zero::Refused)),
            tcp_fin: section.get("tcp_fin", value::duration(Zero::Refused)),
            tcp_rst: section.get("tcp_rst", value::duration(Zero::Refused)),
            udp_one_way: section.get("udp_one_way", value::duration(Zero::Refused)),
            udp_two_way: section.get("udp_two_way", value::duration(Zero::Refused)),
            one_packet: section.get("one_packet", value::flag),
        }
    }
}

//! What a listener speaks: the settings of each layer, and which keys go with which.

use std::net::IpAddr;
use std::sync::Arc;

use super::edits::edits;
use super::origin::accepts;
use super::tls::tls;
use super::{guard, http, pools, reach};
use crate::config::file;
use crate::config::names::LayerName;
use crate::config::problem::{Problem, Problems, Span};
use crate::config::section::Field;
use crate::model::{FlowTimeouts, HttpTimeouts, Identity, L4, L7, Layer, Protocol, SnatPorts};

/// The layer and its settings; reports keys that are not for it.
pub(super) fn layer(
    file: &file::Listener,
    ip: Option<IpAddr>,
    pool: Option<&pools::Draft<'_>>,
    problems: &Problems,
) -> Option<Layer> {
    match file.layer.or(LayerName::L4)? {
        LayerName::L4 => {
            check_absent(&l7_keys(file), "is for layer 7", "write `layer = \"L7\"`", problems);
            guard::check_connections(&file.rate_limit, problems);
            reach::check(file, ip, pool, problems);
            l4(file, problems).map(Layer::L4)
        }
        LayerName::L7 => {
            check_absent(&l4_keys(file), "is for layer 4", "write `layer = \"L4\"`", problems);
            if let Some(at) = file.port.given().filter(|at| at.value == 0) {
                let message = "`port = 0` is for layer 4: a layer 7 listener has one port";
                problems.add(Problem::at(at.span.clone(), message));
            }
            l7(file, problems).map(Layer::L7)
        }
    }
}

fn l4(file: &file::Listener, problems: &Problems) -> Option<L4> {
    let protocol = file.protocol.or(Protocol::Tcp)?;
    if let (Protocol::Udp, Some(at)) = (protocol, file.tunnel_idle.given()) {
        let message = "`tunnel_idle` is for TCP, and this listener's protocol is UDP";
        problems.add(
            Problem::at(at.key.clone(), message).help("use `udp_two_way` of [listener.flows]"),
        );
    }
    let one_packet = file.flows.one_packet.given().filter(|at| at.value);
    if let (Protocol::Tcp, Some(at)) = (protocol, one_packet) {
        let message = "`one_packet` is for UDP, and this listener's protocol is TCP";
        problems.add(Problem::at(at.key.clone(), message).help("remove it"));
    }
    let default = L4::default();
    let SnatPorts { min, max } = default.snat_ports;
    let (min, max) = file.snat_ports.or((min, max))?;
    let flows = default.flows;
    Some(L4 {
        protocol,
        datapath: file.datapath.or(default.datapath)?,
        forwarding: file.forwarding.or(default.forwarding)?,
        interfaces: file.interfaces.or(default.interfaces)?,
        snat_ips: file.snat_ips.or(default.snat_ips)?,
        snat_ports: SnatPorts { min, max },
        icmp_echo: file.icmp_echo.or(default.icmp_echo)?,
        one_packet: file.flows.one_packet.or(default.one_packet)?,
        flows: FlowTimeouts {
            tcp_syn: file.flows.tcp_syn.or(flows.tcp_syn)?,
            tcp_established: file.flows.tcp_established.or(flows.tcp_established)?,
            tcp_fin: file.flows.tcp_fin.or(flows.tcp_fin)?,
            tcp_rst: file.flows.tcp_rst.or(flows.tcp_rst)?,
            udp_one_way: file.flows.udp_one_way.or(flows.udp_one_way)?,
            udp_two_way: file.flows.udp_two_way.or(flows.udp_two_way)?,
        },
        tunnel_idle: file.tunnel_idle.or(default.tunnel_idle)?,
    })
}

fn l7(file: &file::Listener, problems: &Problems) -> Option<L7> {
    let (rules, limits) = (http::rules(&file.http, problems), http::limits(&file.limits, problems));
    let default = L7::default();
    let h2 = file.http.h2.or(default.h2);
    let tls = tls(&file.tls, h2.unwrap_or(true), problems);
    let timeouts = default.timeouts;
    Some(L7 {
        datapath: file.datapath.or(default.datapath)?,
        interfaces: file.interfaces.or(default.interfaces)?,
        timeouts: HttpTimeouts {
            request_head: file.request_head.or(timeouts.request_head)?,
            client_idle: file.client_idle.or(timeouts.client_idle)?,
            stream_idle: file.stream_idle.or(timeouts.stream_idle)?,
            tunnel_idle: file.tunnel_idle.or(timeouts.tunnel_idle)?,
            tls_handshake: file.tls_handshake.or(timeouts.tls_handshake)?,
        },
        tls: tls?,
        h2: h2?,
        rules: rules?,
        limits: limits?,
        routes: default.routes,
        edits: Arc::new(edits(&file.headers.edits)?),
        forwarded: file.origin.forwarded.or(default.forwarded)?,
        identity: Identity {
            request_id: file.headers.identity.request_id.or(default.identity.request_id)?,
            traceparent: file.headers.identity.traceparent.or(default.identity.traceparent)?,
        },
        error_pages: file.http.error_pages.or(default.error_pages)?,
        auth: file.auth.or(None)?,
        request_limit: guard::request_limit(&file.rate_limit)?,
    })
}

/// A key and where it is written, if it is.
type Written = (&'static str, Option<Span>);

fn written<T: Clone>(key: &'static str, field: &Field<T>) -> Written {
    (key, field.given().map(|at| at.key.clone()))
}

fn l7_keys(file: &file::Listener) -> [Written; 9] {
    // It bounds headers of the PROXY protocol, too.
    let handshake = if accepts(file) { None } else { Some(&file.tls_handshake) };
    [
        written("request_head", &file.request_head),
        written("client_idle", &file.client_idle),
        written("stream_idle", &file.stream_idle),
        ("tls_handshake", handshake.and_then(|field| written("", field).1)),
        ("tls", file.tls.header.clone()),
        ("http", file.http.header.clone()),
        ("limits", file.limits.header.clone()),
        ("headers", file.headers.header.clone().or(file.origin.headers.clone())),
        written("auth", &file.auth),
    ]
}

fn l4_keys(file: &file::Listener) -> [Written; 6] {
    [
        written("protocol", &file.protocol),
        written("forwarding", &file.forwarding),
        written("snat_ips", &file.snat_ips),
        written("snat_ports", &file.snat_ports),
        written("icmp_echo", &file.icmp_echo),
        ("flows", file.flows.header.clone()),
    ]
}

fn check_absent(keys: &[Written], why: &str, otherwise: &str, problems: &Problems) {
    for (key, span) in keys {
        if let Some(span) = span {
            problems.add(
                Problem::at(span.clone(), format!("`{key}` {why}"))
                    .help(format!("remove it, or {otherwise}")),
            );
        }
    }
}

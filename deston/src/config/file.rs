//! Every table and key of the file, as the user wrote them: read, typed, not yet judged together.
//!
//! `[load_balancer]` is read as a listener and as a pool from the same table. Keys that belong to a
//! later version are named beside those of this one, so that an error can tell them from typos.

use std::time::Duration;

use toml::de::DeTable;

use super::names::{
    ALGORITHMS, DATAPATHS, FORWARDINGS, HEALTH_KINDS, HealthKind, LAYERS, LayerName, PROTOCOLS,
    Workers, XDP_MODES,
};
use super::problem::{Problems, Span};
use super::section::{Field, Section};
use super::value::{self, Zero};
use crate::model::{Algorithm, DatapathChoice, Forwarding, Protocol, XdpMode};

/// The file.
pub(super) struct File {
    pub(super) load_balancer: LoadBalancer,
    pub(super) listeners: Vec<Listener>,
    pub(super) pools: Vec<Pool>,
    pub(super) servers: Vec<Server>,
    pub(super) runtime: Runtime,
    pub(super) kernel: Kernel,
}

/// `[load_balancer]`: the listener and the pool `default`.
pub(super) struct LoadBalancer {
    pub(super) written: bool,
    pub(super) listener: Listener,
    pub(super) pool: Pool,
}

/// `[[listener]]`.
pub(super) struct Listener {
    pub(super) header: Option<Span>,
    pub(super) name: Field<String>,
    pub(super) address: Field<String>,
    pub(super) port: Field<u16>,
    pub(super) layer: Field<LayerName>,
    pub(super) protocol: Field<Protocol>,
    pub(super) pool: Field<String>,
    pub(super) datapath: Field<DatapathChoice>,
    pub(super) forwarding: Field<Forwarding>,
    pub(super) interfaces: Field<Vec<String>>,
    pub(super) snat_ports: Field<(u16, u16)>,
    pub(super) flows: Flows,
    pub(super) request_head: Field<Duration>,
    pub(super) client_idle: Field<Duration>,
    pub(super) stream_idle: Field<Duration>,
    pub(super) tunnel_idle: Field<Duration>,
}

/// `[listener.flows]`.
pub(super) struct Flows {
    pub(super) header: Option<Span>,
    pub(super) tcp_syn: Field<Duration>,
    pub(super) tcp_established: Field<Duration>,
    pub(super) tcp_fin: Field<Duration>,
    pub(super) tcp_rst: Field<Duration>,
    pub(super) udp_one_way: Field<Duration>,
    pub(super) udp_two_way: Field<Duration>,
}

/// `[[pool]]`.
pub(super) struct Pool {
    pub(super) header: Option<Span>,
    pub(super) name: Field<String>,
    pub(super) algorithm: Field<Algorithm>,
    pub(super) connect: Field<Duration>,
    pub(super) response_head: Field<Duration>,
    pub(super) server_idle: Field<Duration>,
    pub(super) health: Health,
}

/// `[pool.health]`.
pub(super) struct Health {
    pub(super) written: bool,
    pub(super) kind: Field<HealthKind>,
    pub(super) interval: Field<Duration>,
    pub(super) timeout: Field<Duration>,
    pub(super) rise: Field<u32>,
    pub(super) fall: Field<u32>,
}

/// `[[server]]`.
pub(super) struct Server {
    pub(super) header: Option<Span>,
    pub(super) name: Field<String>,
    pub(super) address: Field<String>,
    pub(super) port: Field<u16>,
    pub(super) pool: Field<String>,
    pub(super) weight: Field<u16>,
    pub(super) max_connections: Field<u32>,
}

/// `[runtime]`.
pub(super) struct Runtime {
    pub(super) workers: Field<Workers>,
    pub(super) drain_timeout: Field<Duration>,
    pub(super) hash_seed: Field<String>,
}

/// `[kernel]`.
pub(super) struct Kernel {
    pub(super) xdp_mode: Field<XdpMode>,
    pub(super) flows: Field<u32>,
}

/// Reads the whole file.
pub(super) fn read(table: &DeTable<'_>, problems: &Problems) -> File {
    let mut root = Section::root(table, problems);
    root.later(&["include", "route", "admin", "log", "tracing"]);
    let file = File {
        load_balancer: load_balancer(root.child("load_balancer")),
        listeners: root.each("listener", named_listener),
        pools: root.each("pool", named_pool),
        servers: root.each("server", server),
        runtime: runtime(root.child("runtime")),
        kernel: kernel(root.child("kernel")),
    };
    root.finish();
    file
}

fn load_balancer(section: &mut Section<'_>) -> LoadBalancer {
    LoadBalancer { written: section.is_written(), listener: listener(section), pool: pool(section) }
}

fn named_listener(section: &mut Section<'_>) -> Listener {
    let name = section.get("name", value::name);
    let pool = section.get("pool", value::name);
    Listener { name, pool, ..listener(section) }
}

/// A listener's keys, those that name things left out.
fn listener(section: &mut Section<'_>) -> Listener {
    section.later(&["snat_ips", "allow", "deny", "icmp_echo", "rate_limit", "trusted_proxies"]);
    section.later(&["accept_proxy_protocol", "tls", "limits", "http", "headers"]);
    let timeouts = section.child("timeouts");
    timeouts.later(&["tls_handshake"]);
    let request_head = timeouts.get("request_head", value::duration(Zero::Off));
    let client_idle = timeouts.get("client_idle", value::duration(Zero::Off));
    let stream_idle = timeouts.get("stream_idle", value::duration(Zero::Off));
    let tunnel_idle = timeouts.get("tunnel_idle", value::duration(Zero::Off));
    Listener {
        header: section.header(),
        name: Field::Absent,
        address: section.get("address", value::text),
        port: section.get("port", value::number(1..=u16::MAX)),
        layer: section.get("layer", value::one_of(&LAYERS)),
        protocol: section.get("protocol", value::one_of(&PROTOCOLS)),
        pool: Field::Absent,
        datapath: section.get("datapath", value::one_of(&DATAPATHS)),
        forwarding: section.get("forwarding", value::one_of(&FORWARDINGS)),
        interfaces: section.get("interfaces", value::interfaces),
        snat_ports: section.get("snat_ports", value::ports),
        flows: flows(section.child("flows")),
        request_head,
        client_idle,
        stream_idle,
        tunnel_idle,
    }
}

fn flows(section: &mut Section<'_>) -> Flows {
    section.later(&["one_packet"]);
    Flows {
        header: section.header(),
        tcp_syn: section.get("tcp_syn", value::duration(Zero::Refused)),
        tcp_established: section.get("tcp_established", value::duration(Zero::Refused)),
        tcp_fin: section.get("tcp_fin", value::duration(Zero::Refused)),
        tcp_rst: section.get("tcp_rst", value::duration(Zero::Refused)),
        udp_one_way: section.get("udp_one_way", value::duration(Zero::Refused)),
        udp_two_way: section.get("udp_two_way", value::duration(Zero::Refused)),
    }
}

fn named_pool(section: &mut Section<'_>) -> Pool {
    let name = section.get("name", value::name);
    Pool { name, ..pool(section) }
}

/// A pool's keys, its name left out.
fn pool(section: &mut Section<'_>) -> Pool {
    section.later(&["hash_on", "overflow", "on_down", "slow_start"]);
    section.later(&["queue", "retry", "outlier", "sticky", "dns"]);
    let timeouts = section.child("timeouts");
    let connect = timeouts.get("connect", value::duration(Zero::Refused));
    let response_head = timeouts.get("response_head", value::duration(Zero::Off));
    let server_idle = timeouts.get("server_idle", value::duration(Zero::Off));
    Pool {
        header: section.header(),
        name: Field::Absent,
        algorithm: section.get("algorithm", value::one_of(&ALGORITHMS)),
        connect,
        response_head,
        server_idle,
        health: health(section.child("health")),
    }
}

fn health(section: &mut Section<'_>) -> Health {
    section.later(&["path", "host", "expect", "port"]);
    Health {
        written: section.is_written(),
        kind: section.get("kind", value::one_of(&HEALTH_KINDS)),
        interval: section.get("interval", value::duration(Zero::Refused)),
        timeout: section.get("timeout", value::duration(Zero::Refused)),
        rise: section.get("rise", value::number(1..=1_000)),
        fall: section.get("fall", value::number(1..=1_000)),
    }
}

fn server(section: &mut Section<'_>) -> Server {
    section.later(&["backup", "drain", "protocol", "slow_start", "proxy_protocol", "tls"]);
    Server {
        header: section.header(),
        name: section.get("name", value::name),
        address: section.get("address", value::text),
        port: section.get("port", value::number(1..=u16::MAX)),
        pool: section.get("pool", value::name),
        weight: section.get("weight", value::number(1..=u16::MAX)),
        max_connections: section.get("max_connections", value::number(1..=u32::MAX)),
    }
}

fn runtime(section: &mut Section<'_>) -> Runtime {
    section.later(&["watch"]);
    Runtime {
        workers: section.get("workers", value::workers),
        drain_timeout: section.get("drain_timeout", value::duration(Zero::Off)),
        hash_seed: section.get("hash_seed", value::text),
    }
}

fn kernel(section: &mut Section<'_>) -> Kernel {
    section.later(&["instance", "pin", "on_stop", "half_open", "flood_gate"]);
    Kernel {
        xdp_mode: section.get("xdp_mode", value::one_of(&XDP_MODES)),
        flows: section.get("flows", value::number(1_024..=16_777_216)),
    }
}

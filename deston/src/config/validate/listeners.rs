//! Listeners: their addresses, and which keys go with which layer.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use deston_common::limits::{MAX_LISTENERS, SNAT_PORT_MAX, SNAT_PORT_MIN};

use super::pools::{self, Pools};
use super::{DEFAULT, check_named, check_names, host};
use crate::config::file::{self, File};
use crate::config::names::LayerName;
use crate::config::problem::{Problem, Problems, Span};
use crate::config::resolve::Resolver;
use crate::config::section::Field;
use crate::model::{
    DatapathChoice, FlowTimeouts, Forwarding, Guard, HttpTimeouts, L4, L7, Layer, Listener,
    Protocol, SnatPorts,
};

/// A listener on its way into the model.
pub(super) struct Draft {
    /// `None` if something about it is wrong.
    pub(super) listener: Option<Listener>,
    /// Name of its pool; empty if what is written is wrong.
    pub(super) pool: String,
    /// Where its address stands.
    span: Option<Span>,
}

impl Draft {
    pub(super) fn layer(&self) -> Option<&Layer> {
        self.listener.as_ref().map(|listener| &listener.layer)
    }
}

/// Reads `[[listener]]` and the listener of `[load_balancer]`.
pub(super) fn read(
    file: &File,
    pools: &Pools<'_>,
    resolver: &mut Resolver<'_>,
    problems: &Problems,
) -> Vec<Draft> {
    let balancer = &file.load_balancer;
    let implicit = (balancer.written || file.listeners.is_empty()).then_some(&balancer.listener);
    let mut names: Vec<(&str, Option<Span>)> = Vec::new();
    if let Some(listener) = implicit {
        names.push((DEFAULT, listener.header.clone()));
    }
    for listener in &file.listeners {
        check_named("listener", &listener.name, listener.header.as_ref(), problems);
        names.extend(listener.name.given().map(|at| (at.value.as_str(), Some(at.span.clone()))));
    }
    check_names("listener", names.into_iter(), problems);
    if file.listeners.len() >= MAX_LISTENERS as usize {
        let count = file.listeners.len();
        let most = MAX_LISTENERS - 1;
        problems.add(Problem::of_file(format!(
            "there are {count} listeners: at most {most} are possible"
        )));
    }

    let implicit = implicit.map(|listener| (Some(DEFAULT.to_owned()), listener));
    let written =
        file.listeners.iter().map(|file| (file.name.given().map(|at| at.value.clone()), file));
    let drafts: Vec<Draft> = implicit
        .into_iter()
        .chain(written)
        .map(|(name, file)| draft(name, file, pools, resolver, problems))
        .collect();
    check_addresses(&drafts, problems);
    drafts
}

fn draft(
    name: Option<String>,
    file: &file::Listener,
    pools: &Pools<'_>,
    resolver: &mut Resolver<'_>,
    problems: &Problems,
) -> Draft {
    let span = file.port.span().or(file.address.span()).or(file.header.clone());
    let pool = file.pool.or(DEFAULT.to_owned());
    let found = pool
        .as_deref()
        .and_then(|pool| pools.find(pool, file.pool.given(), file.header.as_ref(), problems));
    let ip = host(&file.address, resolver, file.header.as_ref(), problems);
    let layer = layer(file, ip, found, problems);
    let address = ip.zip(file.port.or(8080)).map(|(ip, port)| SocketAddr::new(ip, port));
    if let (Some(address), Some(found)) = (address, found) {
        check_loop(file, address, found, problems);
    }
    let parts = name.zip(address).zip(pool.clone()).zip(layer);
    let listener = parts.map(|(((name, address), pool), layer)| Listener {
        name,
        address,
        pool,
        guard: Guard::default(),
        layer,
    });
    Draft { listener, pool: pool.unwrap_or_default(), span }
}

fn layer(
    file: &file::Listener,
    ip: Option<IpAddr>,
    pool: Option<&pools::Draft<'_>>,
    problems: &Problems,
) -> Option<Layer> {
    match file.layer.or(LayerName::L4)? {
        LayerName::L4 => {
            check_absent(&l7_keys(file), "is for layer 7", "write `layer = \"L7\"`", problems);
            check_kernel(file, ip, pool, problems);
            l4(file, problems).map(Layer::L4)
        }
        LayerName::L7 => {
            check_absent(&l4_keys(file), "is for layer 4", "write `layer = \"L4\"`", problems);
            l7(file).map(Layer::L7)
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
    let (min, max) = file.snat_ports.or((SNAT_PORT_MIN, SNAT_PORT_MAX))?;
    Some(L4 {
        protocol,
        datapath: file.datapath.or(DatapathChoice::Auto)?,
        forwarding: file.forwarding.or(Forwarding::Nat)?,
        interfaces: file.interfaces.or(Vec::new())?,
        snat_ips: Vec::new(),
        snat_ports: SnatPorts { min, max },
        icmp_echo: true,
        one_packet: false,
        flows: FlowTimeouts {
            tcp_syn: file.flows.tcp_syn.or(Duration::from_secs(20))?,
            tcp_established: file.flows.tcp_established.or(Duration::from_secs(2 * 60 * 60))?,
            tcp_fin: file.flows.tcp_fin.or(Duration::from_secs(30))?,
            tcp_rst: file.flows.tcp_rst.or(Duration::from_secs(5))?,
            udp_one_way: file.flows.udp_one_way.or(Duration::from_secs(30))?,
            udp_two_way: file.flows.udp_two_way.or(Duration::from_secs(180))?,
        },
        tunnel_idle: file.tunnel_idle.or(Duration::from_secs(60 * 60))?,
    })
}

fn l7(file: &file::Listener) -> Option<L7> {
    Some(L7 {
        datapath: DatapathChoice::Auto,
        interfaces: Vec::new(),
        timeouts: HttpTimeouts {
            request_head: file.request_head.or(Duration::from_secs(10))?,
            client_idle: file.client_idle.or(Duration::from_secs(60))?,
            stream_idle: file.stream_idle.or(Duration::from_secs(5 * 60))?,
            tunnel_idle: file.tunnel_idle.or(Duration::from_secs(60 * 60))?,
        },
    })
}

/// A key and where it is written, if it is.
type Written = (&'static str, Option<Span>);

fn written<T: Clone>(key: &'static str, field: &Field<T>) -> Written {
    (key, field.given().map(|at| at.key.clone()))
}

fn l7_keys(file: &file::Listener) -> [Written; 3] {
    [
        written("request_head", &file.request_head),
        written("client_idle", &file.client_idle),
        written("stream_idle", &file.stream_idle),
    ]
}

fn l4_keys(file: &file::Listener) -> [Written; 6] {
    [
        written("protocol", &file.protocol),
        written("datapath", &file.datapath),
        written("forwarding", &file.forwarding),
        written("interfaces", &file.interfaces),
        written("snat_ports", &file.snat_ports),
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

/// Reports what the kernel datapath cannot carry.
fn check_kernel(
    file: &file::Listener,
    ip: Option<IpAddr>,
    pool: Option<&pools::Draft<'_>>,
    problems: &Problems,
) {
    let xdp = file.datapath.given().filter(|at| at.value == DatapathChoice::Xdp);
    if ip.is_some_and(|ip| ip.is_ipv6()) {
        let why = "is for the kernel datapath, which carries IPv4 alone";
        let mut keys = vec![
            written("forwarding", &file.forwarding),
            written("interfaces", &file.interfaces),
            written("snat_ports", &file.snat_ports),
        ];
        keys.extend(xdp.map(|at| ("xdp", Some(at.span.clone()))));
        check_absent(&keys, why, "listen on an IPv4 address", problems);
    }
    let ipv6 = |draft: &&pools::ServerDraft| draft.server.address.is_ipv6();
    if let (Some(at), Some(server)) = (xdp, pool.and_then(|pool| pool.servers.iter().find(ipv6))) {
        let address = server.server.address;
        problems.add(
            Problem::at(
                at.span.clone(),
                format!("`xdp` carries IPv4 alone, and {address} is IPv6"),
            )
            .see(server.span.clone(), "this server"),
        );
    }
}

fn check_loop(
    file: &file::Listener,
    address: SocketAddr,
    pool: &pools::Draft<'_>,
    problems: &Problems,
) {
    if let Some(server) = pool.servers.iter().find(|draft| draft.server.address == address) {
        problems.add(
            Problem::near(server.span.clone(), format!("{address} is the listener itself"))
                .see(file.address.span().or(file.header.clone()), "this listener"),
        );
    }
}

fn check_addresses(drafts: &[Draft], problems: &Problems) {
    let key = |draft: &Draft| {
        let listener = draft.listener.as_ref()?;
        Some((listener.address, listener.protocol()))
    };
    for (place, draft) in drafts.iter().enumerate() {
        let Some((address, protocol)) = key(draft) else { continue };
        let same = |other: &&Draft| key(other) == Some((address, protocol));
        if let Some(first) = drafts.iter().take(place).find(same) {
            problems.add(
                Problem::near(
                    draft.span.clone(),
                    format!("another listener has {address}/{protocol}: choose another port"),
                )
                .see(first.span.clone(), "the first one"),
            );
        }
    }
}

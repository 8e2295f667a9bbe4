//! A healthy host, for specs to make ill.

use std::collections::BTreeSet;

use super::{Facts, bpffs, forwarding, kernel, modules, privileges};
use crate::config;
use crate::datapath::{
    Chosen, Examined, Hook, Interface, NativeXdp, Out, Peer, Program, Reach, ServerWay, Site,
};
use crate::model::HostPorts;

/// Index of the interface that clients come in by.
pub(super) const CLIENTS: u32 = 2;
/// Index of the interface that servers are reached by.
pub(super) const SERVERS: u32 = 3;

/// An Ethernet interface in good order.
pub(super) fn interface(name: &str) -> Interface {
    Interface {
        name: name.to_owned(),
        is_veth: false,
        is_loopback: false,
        mtu: 1_500,
        peer: Peer::None,
        below: None,
        native_xdp: NativeXdp::Yes,
        program: Program::None,
        offloads: BTreeSet::from(["rx-gro".to_owned()]),
    }
}

/// A host in good order, and `lines` of a listener at 198.51.100.1:80.
pub(super) fn with(lines: &str) -> Facts {
    with_datapath("xdp", lines)
}

/// The same, with a datapath.
pub(super) fn with_datapath(datapath: &str, lines: &str) -> Facts {
    let text = format!(
        "[load_balancer]\naddress = \"198.51.100.1\"\nport = 80\ndatapath = \"{datapath}\"\n{lines}\n\
         [[server]]\naddress = \"203.0.113.2\"\nport = 80"
    );
    let model = config::parse("config.toml", &text).unwrap();
    let listener = model.listeners[0].clone();
    let listener_address = listener.address.ip();
    let server = &model.pools[0].servers[0];
    let out = Out {
        device: SERVERS,
        interface: SERVERS,
        next_hop: server.address.ip(),
        is_known: true,
        mtu: 1_500,
    };
    let way =
        ServerWay { name: server.name.clone(), address: server.address, reach: Reach::Out(out) };
    let site = Site {
        interfaces: [(CLIENTS, interface("clients")), (SERVERS, interface("servers"))].into(),
        listeners: vec![Examined {
            listener,
            chosen: Ok(Chosen { hook: Hook::Xdp, why_not_xdp: None }),
            clients: vec![CLIENTS],
            servers: vec![way],
        }],
        addresses: BTreeSet::from([listener_address]),
        default_device: Some(CLIENTS),
    };
    Facts {
        model,
        site,
        kernel: kernel::Kernel { release: "6.12.1".to_owned(), has_bpf: Some(true) },
        jit: Some(true),
        modules: [modules::Module::There; 2],
        privileges: privileges::Privileges {
            effective: u64::MAX,
            program: "/usr/bin/deston".into(),
            first_port: 1_024,
        },
        bpffs: bpffs::Bpffs::Shared,
        orphans: Vec::new(),
        forwards: forwarding::Forwards { v4: true, v6: true },
        strict: Vec::new(),
        ports: Some(HostPorts { ephemeral: 32_768..=60_999, reserved: Vec::new() }),
        firewall: false,
    }
}

/// A host in good order.
pub(super) fn healthy() -> Facts {
    with("")
}

/// The way to the server.
pub(super) fn out(facts: &mut Facts) -> &mut Out {
    match &mut facts.site.listeners[0].servers[0].reach {
        Reach::Out(out) => out,
        Reach::Nowhere | Reach::TooManyTags | Reach::Here => panic!("a way out"),
    }
}

/// An interface of the host.
pub(super) fn at(facts: &mut Facts, index: u32) -> &mut Interface {
    facts.site.interfaces.get_mut(&index).unwrap()
}

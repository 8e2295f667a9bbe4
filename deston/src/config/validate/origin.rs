//! Whom a listener believes, and what goes with that: only userspace reads and sends headers of the
//! PROXY protocol, and only trusted proxies are believed.

use super::pools::{self, ServerDraft};
use super::reach;
use crate::config::file;
use crate::config::names::LayerName;
use crate::config::problem::{Problem, Problems};
use crate::model::{AcceptProxyProtocol, DatapathChoice, Forwarding, Origin, Protocol};

/// `trusted_proxies` and `accept_proxy_protocol`, for a listener that `pool` serves.
pub(super) fn origin(
    file: &file::Listener,
    pool: Option<&pools::Draft<'_>>,
    problems: &Problems,
) -> Option<Origin> {
    let layer = file.layer.or(LayerName::L4)?;
    check_trust(file, layer, problems);
    match layer {
        LayerName::L4 => check_datapath(file, pool, problems),
        LayerName::L7 => check_rate_limit(file, problems),
    }
    let default = Origin::default();
    Some(Origin {
        trusted_proxies: file.origin.trusted_proxies.or(Vec::new())?.into_iter().collect(),
        accept: file.origin.accept.or(default.accept)?,
        deadline: file.tls_handshake.or(default.deadline)?,
    })
}

/// Whether headers of the PROXY protocol are read.
pub(super) fn accepts(file: &file::Listener) -> bool {
    file.origin.accept.given().is_some_and(|at| at.value != AcceptProxyProtocol::Off)
}

fn check_trust(file: &file::Listener, layer: LayerName, problems: &Problems) {
    let accept = file.origin.accept.given().filter(|_| accepts(file));
    let Some(trusted) = file.origin.trusted_proxies.or(Vec::new()) else { return };
    if let Some(at) = accept.filter(|_| trusted.is_empty()) {
        let message = "`accept_proxy_protocol` believes trusted proxies alone, and there are none";
        problems.add(
            Problem::at(at.key.clone(), message)
                .help("write `trusted_proxies = [..]`, the addresses that proxies connect from"),
        );
    }
    let written = file.origin.trusted_proxies.given().filter(|at| !at.value.is_empty());
    if let (LayerName::L4, Some(at), true) = (layer, written, accept.is_none()) {
        let message = "layer 4 is told of clients by the PROXY protocol alone, and this listener \
                       does not accept it";
        problems.add(
            Problem::at(at.key.clone(), message)
                .help("write `accept_proxy_protocol = \"require\"`, or `layer = \"L7\"`"),
        );
    }
}

/// What userspace alone does cannot be asked of the kernel.
fn check_datapath(file: &file::Listener, pool: Option<&pools::Draft<'_>>, problems: &Problems) {
    let accept = file.origin.accept.given().filter(|_| accepts(file));
    if let (Some(at), Some(Protocol::Udp)) = (accept, file.protocol.or(Protocol::Tcp)) {
        let message = "`accept_proxy_protocol` is for TCP, and this listener's protocol is UDP";
        problems.add(Problem::at(at.key.clone(), message).help("remove it"));
        return;
    }
    let Some(forwarding) = file.forwarding.or(Forwarding::Nat) else { return };
    let Some((asks, span)) = reach::asks_kernel(file, forwarding) else { return };
    let help = "write `datapath = \"auto\"` or \"userspace\", and what goes with that";
    if let Some(at) = accept {
        let message = format!("`accept_proxy_protocol` is read in userspace, and {asks} is not");
        problems.add(Problem::at(at.key.clone(), message).see(span, "asked for here").help(help));
        return;
    }
    let sends = |draft: &&ServerDraft| draft.server.speech.proxy_protocol.is_some();
    if let Some(draft) = pool.and_then(|pool| pool.servers.iter().find(sends)) {
        let message = format!("`proxy_protocol` is sent by userspace, and {asks} is not");
        problems.add(
            Problem::near(draft.proxy_span.clone(), message).see(span, "asked for here").help(help),
        );
    }
}

/// The kernel counts connections before anybody can be told whose they are.
fn check_rate_limit(file: &file::Listener, problems: &Problems) {
    let kernel = file.datapath.given().filter(|at| match at.value {
        DatapathChoice::Xdp | DatapathChoice::Tc => true,
        DatapathChoice::Auto | DatapathChoice::Userspace => false,
    });
    let trusted = file.origin.trusted_proxies.given().filter(|at| !at.value.is_empty());
    if let (Some(kernel), Some(limit), Some(_)) = (kernel, &file.rate_limit.header, trusted) {
        let message = format!(
            "the rate limit spares `trusted_proxies`, which datapath `{}` cannot do",
            kernel.value
        );
        problems.add(
            Problem::at(limit.clone(), message)
                .see(Some(kernel.span.clone()), "the datapath")
                .help("write `datapath = \"auto\"` or \"userspace\""),
        );
    }
}

//! Who clients are said to be: the keys of a listener that are about that, and
//! `[listener.headers]`.

use ipnet::IpNet;

use crate::config::names::{ACCEPT_PROXY_PROTOCOL, FORWARDED};
use crate::config::network;
use crate::config::problem::Span;
use crate::config::section::{Field, Section};
use crate::config::value;
use crate::model::{AcceptProxyProtocol, ForwardedFields};

/// `trusted_proxies`, `accept_proxy_protocol` and `[listener.headers]`.
pub(in crate::config) struct Origin {
    pub(in crate::config) trusted_proxies: Field<Vec<IpNet>>,
    pub(in crate::config) accept: Field<AcceptProxyProtocol>,
    pub(in crate::config) headers: Option<Span>,
    pub(in crate::config) forwarded: Field<ForwardedFields>,
}

impl Origin {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let trusted_proxies = section.get("trusted_proxies", network::prefixes);
        let accept = section.get("accept_proxy_protocol", value::one_of(&ACCEPT_PROXY_PROTOCOL));
        let headers = section.child("headers");
        headers.later(&["request_id", "request", "response"]);
        let forwarded = headers.get("forwarded", value::one_of(&FORWARDED));
        Self { trusted_proxies, accept, headers: headers.header(), forwarded }
    }
}

//! Who a request comes from and through whom: the fields of a trusted peer are read, those of
//! others replaced, and what is known is written.
//!
//! X-Forwarded-For and Forwarded (RFC 7239) list the way of a request, each proxy adding whom it
//! got it from. From the right, the first address that is not trusted is the client: what stands
//! left of it is that client's own tale. Only the kind that is written is believed.

mod chain;
mod element;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use http::header::{FORWARDED, HOST};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::model::{ForwardedFields, Origin};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// The last step of a request's way: from the peer of its connection to us.
#[derive(Clone, Copy)]
pub(super) struct Step<'a> {
    /// The peer.
    pub(super) peer: IpAddr,
    /// The peer as a header value.
    pub(super) value: &'a HeaderValue,
    /// The scheme that it has used.
    pub(super) scheme: &'static str,
    /// Which fields are written.
    pub(super) fields: ForwardedFields,
}

/// What a trusted peer says of the way before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    client: IpAddr,
    /// X-Forwarded-For as it came.
    list: Option<String>,
    proto: Option<HeaderValue>,
    host: Option<HeaderValue>,
    /// The elements of Forwarded that can be read.
    elements: Option<String>,
}

impl Told {
    /// Whose request it is.
    pub(super) fn client(&self) -> IpAddr {
        self.client
    }
}

/// What the fields of a request say. `None`: its peer is not to be believed.
pub(super) fn read(headers: &HeaderMap, step: &Step<'_>, origin: &Origin) -> Option<Told> {
    if !origin.trusts(step.peer) {
        return None;
    }
    let (x, rfc7239) = kinds(step.fields);
    let mut told = Told { client: step.peer, list: None, proto: None, host: None, elements: None };
    let by_list = if x { read_list(headers, step, origin, &mut told) } else { None };
    let by_elements = if rfc7239 { read_elements(headers, step, origin, &mut told) } else { None };
    told.client = match (by_list, by_elements) {
        // A proxy that writes one kind may pass the other on as its client wrote it.
        (Some(one), Some(other)) if one != other => step.peer,
        (Some(client), _) | (None, Some(client)) => client,
        (None, None) => step.peer,
    };
    Some(told)
}

/// Writes the fields for a server. `real_ip`: whether it is to have X-Real-IP.
pub(super) fn write(headers: &mut HeaderMap, step: &Step<'_>, told: Option<&Told>, real_ip: bool) {
    let (x, rfc7239) = kinds(step.fields);
    if x {
        write_list(headers, step, told);
    } else {
        for name in [X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST] {
            headers.remove(name);
        }
    }
    if rfc7239 {
        let ours = element::compose(step.peer, headers.get(HOST), step.scheme);
        let before = told.and_then(|told| told.elements.as_deref());
        headers.insert(FORWARDED, appended(before, &ours));
    }
    if real_ip {
        match (x, told) {
            (false, _) => drop(headers.remove(X_REAL_IP)),
            (true, None) => drop(headers.insert(X_REAL_IP, step.value.clone())),
            (true, Some(told)) => {
                let client = super::downstream::header_value(told.client);
                headers.insert(X_REAL_IP, client);
            }
        }
    }
}

fn write_list(headers: &mut HeaderMap, step: &Step<'_>, told: Option<&Told>) {
    let list = match told.and_then(|told| told.list.as_deref()) {
        None => step.value.clone(),
        before => appended(before, step.value.to_str().unwrap_or("unknown")),
    };
    headers.insert(X_FORWARDED_FOR, list);
    let proto = told.and_then(|told| told.proto.clone());
    let proto = proto.unwrap_or(HeaderValue::from_static(step.scheme));
    headers.insert(X_FORWARDED_PROTO, proto);
    let host = told.and_then(|told| told.host.clone()).or_else(|| headers.get(HOST).cloned());
    match host {
        Some(host) => headers.insert(X_FORWARDED_HOST, host),
        None => headers.remove(X_FORWARDED_HOST),
    };
}

/// Whether X-Forwarded-* and whether Forwarded are written, and believed.
fn kinds(fields: ForwardedFields) -> (bool, bool) {
    match fields {
        ForwardedFields::X => (true, false),
        ForwardedFields::Rfc7239 => (false, true),
        ForwardedFields::Both => (true, true),
        ForwardedFields::Off => (false, false),
    }
}

fn read_list(
    headers: &HeaderMap,
    step: &Step<'_>,
    origin: &Origin,
    told: &mut Told,
) -> Option<IpAddr> {
    // Said by the peer of its own client: the last value, if there are several.
    let last = |name| {
        let value = headers.get_all(name).iter().next_back()?.to_str().ok()?;
        value.rsplit(',').next().map(str::trim)
    };
    let proto = last(X_FORWARDED_PROTO).and_then(element::scheme);
    told.proto = proto.map(HeaderValue::from_static);
    let host = last(X_FORWARDED_HOST).filter(|host| is_host(host));
    told.host = host.and_then(|host| HeaderValue::from_str(host).ok());
    told.list = joined(headers, &X_FORWARDED_FOR);
    let nodes = told.list.as_deref()?.rsplit(',').map(|node| chain::node(node.trim()));
    Some(chain::client(step.peer, nodes, origin))
}

fn read_elements(
    headers: &HeaderMap,
    step: &Step<'_>,
    origin: &Origin,
    told: &mut Told,
) -> Option<IpAddr> {
    let text = joined(headers, &FORWARDED)?;
    told.elements = element::readable(&text).map(str::to_owned);
    let nodes = element::from_the_right(&text).map(|element| chain::node(&element?.node?));
    Some(chain::client(step.peer, nodes, origin))
}

/// A field's values as one list; `None` if it is absent, empty or no text.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let mut all = String::new();
    for value in headers.get_all(name) {
        let value = value.to_str().ok()?.trim();
        if !value.is_empty() {
            if !all.is_empty() {
                all.push_str(", ");
            }
            all.push_str(value);
        }
    }
    if all.is_empty() { None } else { Some(all) }
}

fn appended(before: Option<&str>, ours: &str) -> HeaderValue {
    let all = match before {
        Some(before) => HeaderValue::try_from(format!("{before}, {ours}")),
        None => HeaderValue::from_str(ours),
    };
    // Made of what was a header's text, and of addresses.
    all.unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

fn is_host(text: &str) -> bool {
    text.parse::<Authority>().is_ok_and(|authority| !authority.as_str().contains('@'))
}

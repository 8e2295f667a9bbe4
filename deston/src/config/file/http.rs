//! `[listener.http]` and `[listener.limits]`.

use super::pages::error_pages;
use crate::config::names::{MODES, UNDERSCORES};
use crate::config::problem::Span;
use crate::config::section::{Field, Section};
use crate::config::size::size;
use crate::config::{value, web};
use crate::model::{ErrorPages, Mode, Underscores};

/// `[listener.http]`.
pub(in crate::config) struct Http {
    pub(in crate::config) header: Option<Span>,
    pub(in crate::config) mode: Field<Mode>,
    pub(in crate::config) h2: Field<bool>,
    pub(in crate::config) methods: Field<Vec<http::Method>>,
    pub(in crate::config) trace: Field<bool>,
    pub(in crate::config) upgrades: Field<Vec<String>>,
    pub(in crate::config) underscores: Field<Underscores>,
    pub(in crate::config) error_pages: Field<ErrorPages>,
}

/// `[listener.limits]`.
pub(in crate::config) struct Limits {
    pub(in crate::config) header: Option<Span>,
    pub(in crate::config) connections: Field<u32>,
    pub(in crate::config) connections_per_ip: Field<u32>,
    pub(in crate::config) header_bytes: Field<u64>,
    pub(in crate::config) headers: Field<u16>,
    pub(in crate::config) uri_bytes: Field<u64>,
    pub(in crate::config) body_bytes: Field<u64>,
}

impl Http {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        section.later(&["connect", "compression"]);
        let base = section.base();
        Self {
            header: section.header(),
            mode: section.get("mode", value::one_of(&MODES)),
            h2: section.get("h2", value::flag),
            methods: section.get("methods", web::methods),
            trace: section.get("trace", value::flag),
            upgrades: section.get("upgrades", web::upgrades),
            underscores: section.get("underscores", value::one_of(&UNDERSCORES)),
            error_pages: section.get("error_pages", error_pages(base)),
        }
    }
}

impl Limits {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        // hyper's buffer holds about 400 KiB; `http::Uri` holds 65,534 bytes.
        let head = || size(1_024..=262_144, "from 1KiB to 256KiB");
        let target = || size(64..=65_534, "from 64 to 65534 bytes");
        let body = || size(0..=u64::MAX, "(\"0\": no limit)");
        Self {
            header: section.header(),
            connections: section.get("connections", value::number(0..=u32::MAX)),
            connections_per_ip: section.get("connections_per_ip", value::number(0..=u32::MAX)),
            header_bytes: section.get("header_bytes", head()),
            headers: section.get("headers", value::number(8..=1_000)),
            uri_bytes: section.get("uri_bytes", target()),
            body_bytes: section.get("body_bytes", body()),
        }
    }
}

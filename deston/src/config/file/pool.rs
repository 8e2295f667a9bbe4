//! `[[pool]]` and `[[server]]`, and the pool's keys of `[load_balancer]`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Queue, Retry, ServerTls};
use crate::config::names::{
    self, ALGORITHMS, AlgorithmName, HEALTH_KINDS, HealthKind, ON_DOWN, OVERFLOW, PROXY_PROTOCOLS,
    ProtocolName, SERVER_PROTOCOLS, STICKY_BY, StickyBy,
};
use crate::config::problem::Span;
use crate::config::section::{Field, Section};
use crate::config::value::{self, Zero};
use crate::config::web;
use crate::model::{OnDown, Overflow, ProxyProtocol};

/// `[[pool]]`.
pub(in crate::config) struct Pool {
    pub(in crate::config) header: Option<Span>,
    pub(in crate::config) name: Field<String>,
    pub(in crate::config) algorithm: Field<AlgorithmName>,
    pub(in crate::config) hash_on: Field<names::Hashed>,
    pub(in crate::config) load_factor: Field<u32>,
    pub(in crate::config) on_down: Field<OnDown>,
    pub(in crate::config) connect: Field<Duration>,
    pub(in crate::config) response_head: Field<Duration>,
    pub(in crate::config) server_idle: Field<Duration>,
    pub(in crate::config) total: Field<Duration>,
    pub(in crate::config) health: Health,
    pub(in crate::config) outlier: Outlier,
    pub(in crate::config) sticky: Sticky,
    pub(in crate::config) overflow: Field<Overflow>,
    pub(in crate::config) queue: Queue,
    pub(in crate::config) retry: Retry,
}

/// `[pool.health]`.
pub(in crate::config) struct Health {
    pub(in crate::config) header: Option<Span>,
    pub(in crate::config) kind: Field<HealthKind>,
    pub(in crate::config) path: Field<String>,
    pub(in crate::config) host: Field<Option<String>>,
    pub(in crate::config) expect: Field<Vec<RangeInclusive<u16>>>,
    pub(in crate::config) port: Field<u16>,
    pub(in crate::config) interval: Field<Duration>,
    pub(in crate::config) timeout: Field<Duration>,
    pub(in crate::config) rise: Field<u32>,
    pub(in crate::config) fall: Field<u32>,
}

/// `[pool.outlier]`.
pub(in crate::config) struct Outlier {
    pub(in crate::config) count_5xx: Field<bool>,
    pub(in crate::config) failures: Field<u32>,
    pub(in crate::config) eject: Field<Duration>,
    pub(in crate::config) max_ejected: Field<u8>,
}

/// `[pool.sticky]`.
pub(in crate::config) struct Sticky {
    pub(in crate::config) header: Option<Span>,
    pub(in crate::config) by: Field<StickyBy>,
    pub(in crate::config) cookie: Field<String>,
    pub(in crate::config) ttl: Field<Duration>,
}

/// `[[server]]`.
pub(in crate::config) struct Server {
    pub(in crate::config) header: Option<Span>,
    pub(in crate::config) name: Field<String>,
    pub(in crate::config) address: Field<String>,
    pub(in crate::config) port: Field<u16>,
    pub(in crate::config) pool: Field<String>,
    pub(in crate::config) weight: Field<u16>,
    pub(in crate::config) max_connections: Field<u32>,
    pub(in crate::config) drain: Field<bool>,
    pub(in crate::config) backup: Field<bool>,
    pub(in crate::config) protocol: Field<ProtocolName>,
    pub(in crate::config) proxy_protocol: Field<Option<ProxyProtocol>>,
    pub(in crate::config) tls: ServerTls,
}

impl Pool {
    /// A `[[pool]]`.
    pub(super) fn named(section: &mut Section<'_>) -> Self {
        let name = section.get("name", value::name);
        Self { name, ..Self::unnamed(section) }
    }

    /// A pool's keys, its name left out.
    pub(super) fn unnamed(section: &mut Section<'_>) -> Self {
        section.later(&["slow_start", "dns"]);
        let timeouts = section.child("timeouts");
        let connect = timeouts.get("connect", value::duration(Zero::Refused));
        let response_head = timeouts.get("response_head", value::duration(Zero::Off));
        let server_idle = timeouts.get("server_idle", value::duration(Zero::Off));
        let total = timeouts.get("total", value::duration(Zero::Off));
        Self {
            header: section.header(),
            name: Field::Absent,
            algorithm: section.get("algorithm", value::one_of(&ALGORITHMS)),
            hash_on: section.get("hash_on", names::hash_on),
            load_factor: section.get("load_factor", value::factor),
            on_down: section.get("on_down", value::one_of(&ON_DOWN)),
            connect,
            response_head,
            server_idle,
            total,
            health: Health::read(section.child("health")),
            outlier: Outlier::read(section.child("outlier")),
            sticky: Sticky::read(section.child("sticky")),
            overflow: section.get("overflow", value::one_of(&OVERFLOW)),
            queue: Queue::read(section.child("queue")),
            retry: Retry::read(section.child("retry")),
        }
    }
}

impl Health {
    fn read(section: &mut Section<'_>) -> Self {
        Self {
            header: section.header(),
            kind: section.get("kind", value::one_of(&HEALTH_KINDS)),
            path: section.get("path", web::path),
            host: section.get("host", web::host),
            expect: section.get("expect", web::statuses),
            port: section.get("port", value::number(0..=u16::MAX)),
            interval: section.get("interval", value::duration(Zero::Refused)),
            timeout: section.get("timeout", value::duration(Zero::Refused)),
            rise: section.get("rise", value::number(1..=1_000)),
            fall: section.get("fall", value::number(1..=1_000)),
        }
    }
}

impl Outlier {
    fn read(section: &mut Section<'_>) -> Self {
        Self {
            count_5xx: section.get("count_5xx", value::flag),
            failures: section.get("failures", value::number(1..=1_000)),
            eject: section.get("eject", value::duration(Zero::Refused)),
            max_ejected: section.get("max_ejected", value::share),
        }
    }
}

impl Sticky {
    fn read(section: &mut Section<'_>) -> Self {
        Self {
            header: section.header(),
            by: section.get("by", value::one_of(&STICKY_BY)),
            cookie: section.get("cookie", names::cookie),
            ttl: section.get("ttl", value::duration(Zero::Refused)),
        }
    }
}

impl Server {
    /// A `[[server]]`.
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        section.later(&["slow_start"]);
        Self {
            header: section.header(),
            name: section.get("name", value::name),
            address: section.get("address", value::text),
            port: section.get("port", value::number(0..=u16::MAX)),
            pool: section.get("pool", value::name),
            weight: section.get("weight", value::number(1..=u16::MAX)),
            max_connections: section.get("max_connections", value::number(1..=u32::MAX)),
            drain: section.get("drain", value::flag),
            backup: section.get("backup", value::flag),
            protocol: section.get("protocol", value::one_of(&SERVER_PROTOCOLS)),
            proxy_protocol: section.get("proxy_protocol", value::one_of(&PROXY_PROTOCOLS)),
            tls: ServerTls::read(section.child("tls")),
        }
    }
}

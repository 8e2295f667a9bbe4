//! Pools and their servers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use deston_common::limits::{MAX_POOL_SERVERS, MAX_POOLS, MAX_SERVERS};
use deston_common::sequence;
use deston_common::server::ServerId;
use deston_common::table::{Member, Table, TableError};

use super::listeners;
use super::{DEFAULT, check_named, check_names, host};
use crate::config::file::{self, File};
use crate::config::names::HealthKind;
use crate::config::problem::{Problem, Problems, Span};
use crate::config::resolve::Resolver;
use crate::config::section::{At, Field};
use crate::config::value;
use crate::model::{
    Algorithm, Checks, Health, Layer, OnDown, Outlier, Pool, PoolTimeouts, Protocol, Server,
};

/// All pools of a file.
pub(super) struct Pools<'f> {
    pub(super) drafts: Vec<Draft<'f>>,
    /// Some pool's name is wrong, so an unknown name may be meant for it.
    unsure: bool,
}

/// A pool on its way into the model.
pub(super) struct Draft<'f> {
    pub(super) name: String,
    file: &'f file::Pool,
    pub(super) servers: Vec<ServerDraft>,
    /// Whether a listener with protocol `udp` uses the pool.
    serves_udp: bool,
    /// Whether every server that names this pool is valid.
    complete: bool,
}

/// A server on its way into the model.
pub(super) struct ServerDraft {
    pub(super) server: Server,
    pub(super) span: Option<Span>,
    name_span: Option<Span>,
}

/// Reads `[[pool]]`, the pool of `[load_balancer]`, and every `[[server]]` into its pool.
pub(super) fn read<'f>(
    file: &'f File,
    resolver: &mut Resolver<'_>,
    problems: &Problems,
) -> Pools<'f> {
    let mut pools = named(file, problems);
    for server in &file.servers {
        let draft = self::server(server, resolver, problems);
        let pool = match &server.pool {
            Field::Wrong => continue,
            Field::Absent => DEFAULT,
            Field::Given(at) => &at.value,
        };
        match pools.drafts.iter_mut().find(|draft| draft.name == pool) {
            Some(pool) => match draft {
                Some(draft) => pool.servers.push(draft),
                None => pool.complete = false,
            },
            None => pools.unknown(pool, server.pool.given(), server.header.as_ref(), problems),
        }
    }
    if file.servers.len() >= MAX_SERVERS as usize {
        let most = MAX_SERVERS - 1;
        problems.add(Problem::of_file(format!(
            "there are {} servers: at most {most} are possible",
            file.servers.len()
        )));
    }
    for draft in &pools.drafts {
        check_servers(draft, problems);
    }
    pools
}

fn named<'f>(file: &'f File, problems: &Problems) -> Pools<'f> {
    let balancer = &file.load_balancer;
    let mut named: Vec<(&str, Option<Span>, &file::Pool)> = Vec::new();
    let mut unsure = false;
    if balancer.written {
        named.push((DEFAULT, balancer.pool.header.clone(), &balancer.pool));
    }
    for pool in &file.pools {
        check_named("pool", &pool.name, pool.header.as_ref(), problems);
        match pool.name.given() {
            Some(At { value, span, .. }) => named.push((value, Some(span.clone()), pool)),
            None => unsure = true,
        }
    }
    check_names("pool", named.iter().map(|(name, span, _)| (*name, span.clone())), problems);
    if file.pools.len() >= MAX_POOLS as usize {
        problems.add(Problem::of_file(format!(
            "there are {} pools: at most {} are possible",
            file.pools.len(),
            MAX_POOLS - 1
        )));
    }
    let mut taken: Vec<&str> = Vec::new();
    named.retain(|(name, ..)| {
        let first = !taken.contains(name);
        taken.push(name);
        first
    });
    // Without a table of its own the pool exists as soon as a listener is served by it.
    let used = file.listeners.is_empty()
        || file.listeners.iter().any(|listener| match &listener.pool {
            Field::Absent => true,
            Field::Wrong => false,
            Field::Given(at) => at.value == DEFAULT,
        });
    if used && named.iter().all(|(name, ..)| *name != DEFAULT) {
        named.push((DEFAULT, None, &balancer.pool));
    }
    let serves_udp = |name: &str| {
        let udp = |listener: &file::Listener| {
            listener.protocol.given().is_some_and(|at| at.value == Protocol::Udp)
        };
        let pool_of = |listener: &file::Listener| listener.pool.or(DEFAULT.to_owned());
        (name == DEFAULT && udp(&balancer.listener))
            || file.listeners.iter().any(|l| udp(l) && pool_of(l).as_deref() == Some(name))
    };
    let drafts = named
        .into_iter()
        .map(|(name, _, file)| Draft {
            name: name.to_owned(),
            file,
            servers: Vec::new(),
            serves_udp: serves_udp(name),
            complete: true,
        })
        .collect();
    Pools { drafts, unsure }
}

fn server(
    file: &file::Server,
    resolver: &mut Resolver<'_>,
    problems: &Problems,
) -> Option<ServerDraft> {
    let ip = host(&file.address, resolver, file.header.as_ref(), problems)?;
    let address = SocketAddr::new(ip, file.port.or(3000)?);
    let span = file.address.span().or(file.port.span()).or(file.header.clone());
    let everyone = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
    if ip.is_unspecified() || ip.is_multicast() || everyone {
        let message = format!("`address` must be the address of one server, not {ip}");
        problems.add(Problem::near(span, message));
        return None;
    }
    let server = Server {
        name: file.name.or(address.to_string())?,
        address,
        weight: NonZeroU16::new(file.weight.or(1)?)?,
        max_connections: NonZeroU32::new(file.max_connections.or(1000)?)?,
        drain: false,
    };
    Some(ServerDraft { server, span, name_span: file.name.span().or(file.header.clone()) })
}

fn check_servers(draft: &Draft<'_>, problems: &Problems) {
    let name = &draft.name;
    if draft.servers.is_empty() && draft.complete {
        problems.add(
            Problem::near(draft.place(), format!("pool `{name}` has no servers"))
                .help(format!("add a [[server]] with `pool = \"{name}\"`")),
        );
    }
    if draft.servers.len() > MAX_POOL_SERVERS {
        let message = format!(
            "pool `{name}` has {} servers: at most {MAX_POOL_SERVERS} are possible",
            draft.servers.len()
        );
        problems.add(Problem::near(draft.place(), message));
        return;
    }
    for (place, server) in draft.servers.iter().enumerate() {
        let same = |other: &&ServerDraft| other.server.address == server.server.address;
        if let Some(first) = draft.servers.iter().take(place).find(same) {
            let address = server.server.address;
            problems.add(
                Problem::near(
                    server.span.clone(),
                    format!(
                        "{address} is in pool `{name}` already: use `weight` for a larger share"
                    ),
                )
                .see(first.span.clone(), "the first one"),
            );
        }
    }
    let unlike_addresses =
        draft.servers.iter().filter(|draft| draft.server.name != draft.server.address.to_string());
    let names = unlike_addresses.map(|draft| (draft.server.name.as_str(), draft.name_span.clone()));
    check_names(&format!("server of pool `{name}`"), names, problems);
    check_weights(draft, problems);
}

fn check_weights(draft: &Draft<'_>, problems: &Problems) {
    if draft.file.algorithm.or(Algorithm::RoundRobin) != Some(Algorithm::WeightedRoundRobin) {
        return;
    }
    let members: Vec<Member> = draft
        .servers
        .iter()
        .map(|draft| Member { id: ServerId(1), identity: 0, weight: draft.server.weight.get() })
        .collect();
    match sequence::fill_weighted(&mut Box::new(Table::EMPTY), &members) {
        Ok(()) => {}
        Err(TableError::CycleTooLong) => problems.add(
            Problem::near(
                draft.file.algorithm.span().or(draft.place()),
                format!("the weights of pool `{}` make too long a cycle", draft.name),
            )
            .help(format!(
                "divided by their common divisor they may add up to {}: use smaller weights",
                deston_common::limits::MAGLEV_SLOTS
            )),
        ),
        // Both are reported where the count and the weights are read.
        Err(TableError::TooManyServers | TableError::ZeroWeight) => {}
    }
}

/// Reports what depends on who uses a pool.
pub(super) fn check_use(pools: &Pools<'_>, listeners: &[listeners::Draft], problems: &Problems) {
    for draft in &pools.drafts {
        let mut users = listeners.iter().filter(|user| user.pool == draft.name).peekable();
        let only_l4 = users.peek().is_some()
            && users.all(|user| user.layer().is_some_and(|layer| matches!(layer, Layer::L4(_))));
        if !only_l4 {
            continue;
        }
        let fields = [
            ("response_head", &draft.file.response_head),
            ("server_idle", &draft.file.server_idle),
        ];
        for (key, at) in fields.iter().filter_map(|(key, field)| Some((key, field.given()?))) {
            let message =
                format!("`{key}` is for layer 7, and pool `{}` serves layer 4", draft.name);
            problems.add(Problem::at(at.key.clone(), message).help("remove it"));
        }
    }
}

impl Pools<'_> {
    /// The pool of a name; reports one that is not there.
    pub(super) fn find(
        &self,
        name: &str,
        written: Option<&At<String>>,
        header: Option<&Span>,
        problems: &Problems,
    ) -> Option<&Draft<'_>> {
        let found = self.drafts.iter().find(|draft| draft.name == name);
        if found.is_none() {
            self.unknown(name, written, header, problems);
        }
        found
    }

    fn unknown(
        &self,
        name: &str,
        written: Option<&At<String>>,
        header: Option<&Span>,
        problems: &Problems,
    ) {
        if self.unsure {
            return;
        }
        let names: Vec<&str> = self.drafts.iter().map(|draft| draft.name.as_str()).collect();
        let problem = match written {
            Some(at) => match value::nearest(name, names.iter().copied()) {
                Some(near) => Problem::at(
                    at.span.clone(),
                    format!("unknown pool `{name}`, did you mean `{near}`?"),
                ),
                None => Problem::at(at.span.clone(), format!("unknown pool `{name}`"))
                    .help(format!("add a [[pool]] with `name = \"{name}\"`")),
            },
            None => Problem::near(
                header.cloned(),
                format!("this server belongs to pool `{name}`, which no listener uses"),
            )
            .help(format!("add `pool = \"..\"`: {}", value::list(&names, "or"))),
        };
        problems.add(problem);
    }
}

impl Draft<'_> {
    /// Where the pool stands in the file.
    fn place(&self) -> Option<Span> {
        self.file.name.span().or(self.file.header.clone())
    }

    /// The pool, if everything about it is valid.
    pub(super) fn pool(self) -> Option<Pool> {
        let file = self.file;
        Some(Pool {
            timeouts: PoolTimeouts {
                connect: file.connect.or(Duration::from_secs(3))?,
                response_head: file.response_head.or(Duration::from_secs(60))?,
                server_idle: file.server_idle.or(Duration::from_secs(4))?,
            },
            algorithm: file.algorithm.or(Algorithm::RoundRobin)?,
            health: self.health()?,
            outlier: Outlier::default(),
            sticky: None,
            on_down: if self.serves_udp { OnDown::Rehash } else { OnDown::Drain },
            servers: self.servers.into_iter().map(|draft| draft.server).collect(),
            name: self.name,
        })
    }

    fn health(&self) -> Option<Health> {
        let file = &self.file.health;
        // A UDP server need not listen on TCP, so a TCP probe must be asked for.
        let wanted = file.written || (self.servers.len() > 1 && !self.serves_udp);
        let default = if wanted { HealthKind::Tcp } else { HealthKind::Off };
        let checks = Checks {
            port: None,
            interval: file.interval.or(Duration::from_secs(5))?,
            timeout: file.timeout.or(Duration::from_secs(2))?,
            rise: file.rise.or(2)?,
            fall: file.fall.or(3)?,
        };
        Some(match file.kind.or(default)? {
            HealthKind::Tcp => Health::Tcp(checks),
            HealthKind::Off => Health::Off,
        })
    }
}

//! Pools and their servers.

use deston_common::limits::{MAX_POOLS, MAX_SERVERS};

use super::{DEFAULT, check_named, check_names, listeners, servers, settings, treatment};
use crate::config::file::{self, File};
use crate::config::names::LayerName;
use crate::config::problem::{Problem, Problems, Span};
use crate::config::resolve::Resolver;
use crate::config::section::{At, Field};
use crate::config::value;
use crate::model::{Layer, Pool, PoolTimeouts, Protocol, Server};

/// All pools of a file.
pub(super) struct Pools<'f> {
    pub(super) drafts: Vec<Draft<'f>>,
    /// Some pool's name is wrong, so an unknown name may be meant for it.
    unsure: bool,
}

/// A pool on its way into the model.
pub(super) struct Draft<'f> {
    pub(super) name: String,
    pub(super) file: &'f file::Pool,
    pub(super) servers: Vec<ServerDraft>,
    pub(super) users: Users,
    /// Whether every server that names this pool is valid.
    pub(super) complete: bool,
}

/// What kinds of listeners a pool serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Users {
    /// Layer 4.
    pub(super) l4: bool,
    /// Protocol UDP.
    pub(super) udp: bool,
    /// Every port.
    pub(super) any_port: bool,
    /// One port.
    pub(super) one_port: bool,
}

/// A server on its way into the model.
pub(super) struct ServerDraft {
    pub(super) server: Server,
    pub(super) span: Option<Span>,
    pub(super) name_span: Option<Span>,
    pub(super) port_span: Option<Span>,
    pub(super) proxy_span: Option<Span>,
}

/// Reads `[[pool]]`, the pool of `[load_balancer]`, and every `[[server]]` into its pool.
pub(super) fn read<'f>(
    file: &'f File,
    resolver: &mut Resolver<'_>,
    problems: &Problems,
) -> Pools<'f> {
    let mut pools = named(file, problems);
    for server in &file.servers {
        let pool = match &server.pool {
            Field::Wrong => None,
            Field::Absent => Some(DEFAULT),
            Field::Given(at) => Some(at.value.as_str()),
        };
        let place = pools.drafts.iter().position(|draft| Some(draft.name.as_str()) == pool);
        let users = place.and_then(|place| pools.drafts.get(place)).map(|draft| draft.users);
        let draft = servers::server(server, users, resolver, problems);
        match place.and_then(|place| pools.drafts.get_mut(place)) {
            Some(pool) => match draft {
                Some(draft) => pool.servers.push(draft),
                None => pool.complete = false,
            },
            None => {
                let (written, header) = (server.pool.given(), server.header.as_ref());
                pool.into_iter().for_each(|pool| pools.unknown(pool, written, header, problems));
            }
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
        servers::check(draft, problems);
        if draft.users.any_port && draft.users.one_port {
            let name = &draft.name;
            let message = format!(
                "pool `{name}` serves a listener with `port = 0`, which keeps the client's port, \
                 and one that has a port"
            );
            problems.add(Problem::near(draft.place(), message).help("give each its own pool"));
        }
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
        })
        || routed(file, DEFAULT);
    if used && named.iter().all(|(name, ..)| *name != DEFAULT) {
        named.push((DEFAULT, None, &balancer.pool));
    }
    let drafts = named
        .into_iter()
        .map(|(name, _, pool)| Draft {
            name: name.to_owned(),
            file: pool,
            servers: Vec::new(),
            users: users(file, name),
            complete: true,
        })
        .collect();
    Pools { drafts, unsure }
}

/// Who uses the pool of a name, as far as that is written without a mistake.
fn users(file: &File, pool: &str) -> Users {
    let implicit = file.implicit_listener().filter(|_| pool == DEFAULT);
    let named =
        |listener: &&file::Listener| listener.pool.or(DEFAULT.to_owned()).as_deref() == Some(pool);
    let mut users = Users::default();
    for listener in implicit.into_iter().chain(file.listeners.iter().filter(named)) {
        let is_udp = listener.protocol.or(Protocol::Tcp) == Some(Protocol::Udp);
        let any_port = listener.port.or(super::DEFAULT_PORT).map(|port| port == 0);
        users.l4 |= listener.layer.or(LayerName::L4) == Some(LayerName::L4);
        users.udp |= is_udp;
        users.any_port |= any_port == Some(true);
        users.one_port |= any_port == Some(false);
    }
    // A listener of layer 7, which has one port.
    users.one_port |= routed(file, pool);
    users
}

/// Whether a route sends requests to the pool of a name.
fn routed(file: &File, pool: &str) -> bool {
    file.routes.iter().any(|route| route.pools().any(|name| name == pool))
}

/// Reports what depends on who uses a pool.
pub(super) fn check_use(
    file: &File,
    pools: &Pools<'_>,
    listeners: &[listeners::Draft],
    problems: &Problems,
) {
    for draft in &pools.drafts {
        let mut users = listeners.iter().filter(|user| user.pool == draft.name).peekable();
        let only_l4 = users.peek().is_some()
            && users.all(|user| user.layer().is_some_and(|layer| matches!(layer, Layer::L4(_))));
        if !only_l4 || routed(file, &draft.name) {
            continue;
        }
        let (file, retry) = (draft.file, &draft.file.retry);
        let fields = [
            ("response_head", file.response_head.key()),
            ("server_idle", file.server_idle.key()),
            ("total", file.total.key()),
            ("attempts", retry.attempts.key()),
            ("budget", retry.budget.key()),
            ("floor", retry.floor.key()),
            ("replay_bytes", retry.replay_bytes.key()),
            ("count_5xx", file.outlier.count_5xx.key()),
            ("load_factor", file.load_factor.key()),
        ];
        for (key, at) in fields.iter().filter_map(|(key, at)| Some((key, at.as_ref()?))) {
            let message =
                format!("`{key}` is for layer 7, and pool `{}` serves layer 4", draft.name);
            problems.add(Problem::at(at.clone(), message).help("remove it"));
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
                format!("this server belongs to pool `{name}`, which nothing uses"),
            )
            .help(format!("add `pool = \"..\"`: {}", value::list(&names, "or"))),
        };
        problems.add(problem);
    }
}

impl Draft<'_> {
    /// Where the pool stands in the file.
    pub(super) fn place(&self) -> Option<Span> {
        self.file.name.span().or(self.file.header.clone())
    }

    /// The pool, if everything about it is valid.
    pub(super) fn pool(self, problems: &Problems) -> Option<Pool> {
        let file = self.file;
        let algorithm = settings::algorithm(&self, problems);
        let hash_key = settings::hash_key(&self, problems);
        let health = settings::health(&self, problems);
        let known = settings::sticky(&self, problems);
        let timeouts = PoolTimeouts::default();
        let (sticky, cookie) = match known? {
            None => (None, None),
            Some(settings::Known::Ip(sticky)) => (Some(sticky), None),
            Some(settings::Known::Cookie(cookie)) => (None, Some(cookie)),
        };
        Some(Pool {
            timeouts: PoolTimeouts {
                connect: file.connect.or(timeouts.connect)?,
                response_head: file.response_head.or(timeouts.response_head)?,
                server_idle: file.server_idle.or(timeouts.server_idle)?,
                total: file.total.or(timeouts.total)?,
            },
            algorithm: algorithm?,
            hash_key: hash_key?,
            health: health?,
            outlier: settings::outlier(&file.outlier)?,
            sticky,
            cookie,
            on_down: settings::on_down(&self)?,
            treatment: treatment::treatment(file)?,
            servers: self.servers.into_iter().map(|draft| draft.server).collect(),
            name: self.name,
        })
    }
}

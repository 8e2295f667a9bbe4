//! What is valid and still worth knowing: what a forwarding lacks, what will not do much.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::{
    Algorithm, DatapathChoice, Forwarding, HashOn, L4, Layer, Listener, Model, Outlier, Pool,
    PoolTimeouts, Route, SnatPorts,
};

/// Something worth knowing about a valid configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Note {
    /// Servers answer clients past Deston.
    #[error(
        "listener {listener}: with `{forwarding}` no replies are seen: no SYN goes to a second \
         server, failed handshakes eject no server, `max_connections` is not met exactly, and \
         replies are not counted; servers need the listener's address on a device without ARP"
    )]
    NoReplies {
        /// The listener.
        listener: String,
        /// How servers are reached.
        forwarding: Forwarding,
    },
    /// Servers answer clients by their routes.
    #[error(
        "listener {listener}: with `dnat` servers see the client's address, so their default route \
         must lead through Deston"
    )]
    RouteBack {
        /// The listener.
        listener: String,
    },
    /// What is set looks at handshakes, and none is seen.
    #[error(
        "pool {pool}: [pool.outlier] has no effect, since its listeners are `dsr-*`: no handshake's \
         end is seen; [pool.health] takes out servers that fail"
    )]
    InertOutlier {
        /// The pool.
        pool: String,
    },
    /// What is set is of connections that the process opens for clients, and it opens none.
    #[error(
        "pool {pool}: `connect` of [pool.timeouts] has no effect, since the kernel alone serves its \
         listeners; probes have their own `timeout`"
    )]
    InertConnect {
        /// The pool.
        pool: String,
    },
    /// The host's own connections come from some of the same ports.
    #[error(
        "listener {listener}: `snat_ports` {}-{} has ports of the host's own connections, {}-{}: \
         choose others, or keep them free by `sysctl -w net.ipv4.ip_local_reserved_ports={}-{}`",
        .ports.min, .ports.max, .host.start(), .host.end(), .ports.min, .ports.max
    )]
    SharedPorts {
        /// The listener.
        listener: String,
        /// Its `snat_ports`.
        ports: SnatPorts,
        /// The host's (`net.ipv4.ip_local_port_range`).
        host: RangeInclusive<u16>,
    },
    /// The algorithm keeps a client's server by itself.
    #[error("pool {pool}: its algorithm keeps a client's server already, without [pool.sticky]")]
    StickyTwice {
        /// The pool.
        pool: String,
    },
    /// An earlier route is for all that a route is for, at every listener that has it.
    #[error("{route} never matches: {before}, which comes before it, takes all of its requests")]
    DeadRoute {
        /// The route.
        route: String,
        /// The earlier one; of several listeners, at the first.
        before: String,
    },
}

/// Ports of the host's own connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPorts {
    /// Those it takes (`net.ipv4.ip_local_port_range`, for IPv6 too).
    pub ephemeral: RangeInclusive<u16>,
    /// But for these (`net.ipv4.ip_local_reserved_ports`).
    pub reserved: Vec<RangeInclusive<u16>>,
}

impl HostPorts {
    /// Whether the host may take one of `ports`.
    pub fn meet(&self, ports: SnatPorts) -> bool {
        let is_reserved = |port| self.reserved.iter().any(|range| range.contains(&port));
        (ports.min..=ports.max).any(|port| self.ephemeral.contains(&port) && !is_reserved(port))
    }
}

impl Note {
    /// The listener, of a note that matters only if the kernel carries it.
    pub fn of_kernel_listener(&self) -> Option<&str> {
        match self {
            Self::NoReplies { listener, .. }
            | Self::RouteBack { listener }
            | Self::SharedPorts { listener, .. } => Some(listener),
            Self::StickyTwice { .. }
            | Self::InertOutlier { .. }
            | Self::InertConnect { .. }
            | Self::DeadRoute { .. } => None,
        }
    }

    /// Whether something is wrong with it, so that a log should tell.
    pub fn is_warning(&self) -> bool {
        match self {
            Self::NoReplies { .. } | Self::RouteBack { .. } => false,
            Self::SharedPorts { .. }
            | Self::StickyTwice { .. }
            | Self::InertOutlier { .. }
            | Self::InertConnect { .. }
            | Self::DeadRoute { .. } => true,
        }
    }
}

/// Everything worth knowing about a model. `host` is unknown where the system does not say.
pub fn notes(model: &Model, host: Option<&HostPorts>) -> Vec<Note> {
    let listeners = model.listeners.iter().flat_map(|listener| match &listener.layer {
        Layer::L4(l4) => of_listener(listener, l4, host),
        Layer::L7(_) => Vec::new(),
    });
    let pools = model
        .pools
        .iter()
        .flat_map(|pool| of_pool(pool).into_iter().chain(inert(pool, &model.listeners)));
    listeners.chain(pools).chain(dead_routes(&model.listeners)).collect()
}

/// Tables of a pool that none of its listeners makes use of. One that says what holds anyway, or that
/// switches off what is not there, misleads nobody.
fn inert(pool: &Pool, listeners: &[Arc<Listener>]) -> Vec<Note> {
    let routed = |listener: &Listener| match &listener.layer {
        Layer::L4(_) => false,
        Layer::L7(l7) => l7.routes.iter().any(|route| route.pools().any(|name| name == pool.name)),
    };
    let uses = |listener: &&Arc<Listener>| listener.pool == pool.name || routed(listener);
    let of_pool = || listeners.iter().filter(uses);
    if of_pool().next().is_none() {
        return Vec::new();
    }
    let is_direct = |listener: &Arc<Listener>| match &listener.layer {
        Layer::L4(l4) => l4.forwarding.is_direct_return(),
        Layer::L7(_) => false,
    };
    let mut notes = Vec::new();
    let is_set = pool.outlier != Outlier::default() && pool.outlier.max_ejected > 0;
    if is_set && of_pool().all(is_direct) {
        notes.push(Note::InertOutlier { pool: pool.name.clone() });
    }
    let is_set = pool.timeouts.connect != PoolTimeouts::default().connect;
    if is_set && of_pool().all(|listener| listener.needs_kernel().is_some()) {
        notes.push(Note::InertConnect { pool: pool.name.clone() });
    }
    notes
}

/// Routes that no request reaches, as far as that can be told without a doubt.
fn dead_routes(listeners: &[Arc<Listener>]) -> Vec<Note> {
    // By their places: the earlier route, or that a listener has none.
    let mut routes: BTreeMap<usize, (&Route, Option<&Route>)> = BTreeMap::new();
    for listener in listeners {
        let Layer::L7(l7) = &listener.layer else { continue };
        for (index, route) in l7.routes.iter().enumerate() {
            let mut earlier = l7.routes.iter().take(index);
            let before = earlier.find(|earlier| earlier.covers(route)).map(Arc::as_ref);
            let known = routes.entry(route.place).or_insert((route, before));
            if before.is_none() {
                known.1 = None;
            }
        }
    }
    let dead = routes.into_values().filter_map(|(route, before)| {
        before
            .map(|before| Note::DeadRoute { route: route.to_string(), before: before.to_string() })
    });
    dead.collect()
}

fn of_listener(listener: &Listener, l4: &L4, host: Option<&HostPorts>) -> Vec<Note> {
    let name = || listener.name.clone();
    let may_be_in_kernel = l4.datapath != DatapathChoice::Userspace;
    match l4.forwarding {
        Forwarding::Nat => host
            .filter(|host| may_be_in_kernel && host.meet(l4.snat_ports))
            .map(|host| Note::SharedPorts {
                listener: name(),
                ports: l4.snat_ports,
                host: host.ephemeral.clone(),
            })
            .into_iter()
            .collect(),
        Forwarding::Dnat => vec![Note::RouteBack { listener: name() }],
        Forwarding::DsrL2 | Forwarding::DsrIpip => {
            vec![Note::NoReplies { listener: name(), forwarding: l4.forwarding }]
        }
    }
}

fn of_pool(pool: &Pool) -> Option<Note> {
    let keeps = match pool.algorithm {
        Algorithm::IpHashing | Algorithm::Maglev(HashOn::Ip) => true,
        Algorithm::RoundRobin
        | Algorithm::WeightedRoundRobin
        | Algorithm::Maglev(HashOn::Flow | HashOn::IpPort)
        | Algorithm::LeastConnections
        | Algorithm::P2c
        | Algorithm::PeakEwma
        | Algorithm::Random => false,
    };
    (keeps && pool.hash_key.is_none() && pool.sticky.is_some())
        .then(|| Note::StickyTwice { pool: pool.name.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    /// What is told of a listener and its pool, on a host that takes ports from 32768 on.
    fn told(lines: &str, reserved: &[RangeInclusive<u16>]) -> Vec<String> {
        told_with(lines, "", reserved)
    }

    /// The same, and tables behind the keys.
    fn told_with(lines: &str, tables: &str, reserved: &[RangeInclusive<u16>]) -> Vec<String> {
        let text = format!(
            "[load_balancer]\n{lines}\naddress = \"192.0.2.1\"\nport = 80\n{tables}\n\
             [[server]]\naddress = \"198.51.100.1\"\nport = 80"
        );
        let model = config::parse("config.toml", &text).unwrap();
        let host = HostPorts { ephemeral: 32_768..=60_999, reserved: reserved.to_vec() };
        notes(&model, Some(&host)).iter().map(Note::to_string).collect()
    }

    #[test]
    fn nothing_is_told_of_nat_on_ports_of_its_own() {
        assert_eq!(told("", &[]), [""; 0]);
    }

    #[test]
    fn direct_return_tells_what_it_lacks() {
        for forwarding in ["dsr-l2", "dsr-ipip"] {
            let told = told(&format!("forwarding = \"{forwarding}\""), &[]);
            let [note] = told.as_slice() else { panic!("{told:?}") };
            assert!(note.starts_with(&format!("listener default: with `{forwarding}`")), "{note}");
            for lacking in ["SYN", "eject", "`max_connections`", "replies are not counted"] {
                assert!(note.contains(lacking), "{lacking} in {note}");
            }
        }
    }

    #[test]
    fn a_table_that_direct_return_makes_no_use_of_is_named() {
        let ejects = "[load_balancer.outlier]\nfailures = 2";
        let of = |forwarding: &str, table: &str| {
            let lines = format!("datapath = \"xdp\"\nforwarding = \"{forwarding}\"");
            told_with(&lines, table, &[])
        };
        let has = |told: &[String], table: &str| told.iter().any(|note| note.contains(table));
        for forwarding in ["dsr-l2", "dsr-ipip"] {
            assert!(has(&of(forwarding, ejects), "pool default: [pool.outlier] has no effect"));
        }
        assert!(!has(&of("nat", ejects), "outlier"));
        assert!(!has(&of("dnat", ejects), "outlier"), "it sees handshakes");
        assert!(!has(&of("dsr-l2", "[load_balancer.outlier]\nmax_ejected = 0.0"), "outlier"));

        let connects = "[load_balancer.timeouts]\nconnect = \"1s\"";
        for forwarding in ["dnat", "dsr-l2", "dsr-ipip"] {
            assert!(has(&of(forwarding, connects), "`connect` of [pool.timeouts] has no effect"));
        }
        assert!(!has(&of("nat", connects), "connect"), "userspace may serve it");
    }

    #[test]
    fn dnat_tells_of_the_route_back() {
        let told = told("forwarding = \"dnat\"", &[]);
        let [note] = told.as_slice() else { panic!("{told:?}") };
        assert!(note.contains("default route must lead through Deston"), "{note}");
    }

    #[test]
    fn ports_that_the_host_takes_too_are_told_unless_they_are_reserved() {
        let ports = "snat_ports = \"30000-40000\"";
        let note = "listener default: `snat_ports` 30000-40000 has ports of the host's own \
                    connections, 32768-60999: choose others, or keep them free by \
                    `sysctl -w net.ipv4.ip_local_reserved_ports=30000-40000`";
        assert_eq!(told(ports, &[]), [note]);
        assert_eq!(told(ports, &[32_768..=39_999]), [note]);
        assert_eq!(told(ports, &[30_000..=40_000]), [""; 0]);
        assert_eq!(told(&format!("{ports}\ndatapath = \"userspace\""), &[]), [""; 0]);
    }

    #[test]
    fn stickiness_that_adds_nothing_is_told() {
        let sticky = "sticky = { by = \"ip\" }";
        let note = "pool default: its algorithm keeps a client's server already, without \
                    [pool.sticky]";
        for keeps in ["ip_hashing\"", "maglev\"\nhash_on = \"ip\""] {
            assert_eq!(told(&format!("algorithm = \"{keeps}\n{sticky}"), &[]), [note]);
        }
        assert_eq!(told(&format!("algorithm = \"maglev\"\n{sticky}"), &[]), [""; 0]);
    }

    /// What is told of routes of two layer 7 listeners, `a` and `b`.
    fn of_routes(routes: &str) -> Vec<String> {
        let listener = |name: &str, port: u16| {
            format!("[[listener]]\nname = \"{name}\"\nport = {port}\nlayer = \"L7\"\n")
        };
        let (a, b) = (listener("a", 80), listener("b", 81));
        let text = format!("{a}{b}{routes}\n[[server]]\naddress = \"198.51.100.1\"");
        let model = config::parse("config.toml", &text).unwrap();
        notes(&model, None).iter().map(Note::to_string).collect()
    }

    #[test]
    fn a_route_behind_one_that_takes_all_of_its_requests_is_told() {
        let end = "\npool = \"default\"\n";
        let route = |lines: &str| format!("[[route]]\n{lines}{end}");
        let told = of_routes(&(route("path = \"/a/*\"") + &route("path = \"/a/b\"")));
        let note = "route 2 (path /a/b) never matches: route 1 (path /a/*), which comes before it, \
                    takes all of its requests";
        assert_eq!(told, [note]);
        let told = of_routes(&(route("") + &route("methods = [\"GET\"]")));
        assert!(told[0].starts_with("route 2 (method GET) never matches: route 1 (any request)"));
        assert_eq!(of_routes(&(route("path = \"/a/b\"") + &route("path = \"/a/*\""))), [""; 0]);
    }

    #[test]
    fn what_a_route_of_layer_7_makes_use_of_has_an_effect() {
        let text = |route: &str| {
            format!(
                "[[listener]]\nname = \"k\"\naddress = \"192.0.2.1\"\nport = 80\n\
                 forwarding = \"dnat\"\npool = \"p\"\n[[listener]]\nname = \"web\"\n\
                 layer = \"L7\"\n{route}[[pool]]\nname = \"p\"\n[pool.timeouts]\n\
                 connect = \"1s\"\n[[server]]\npool = \"p\"\naddress = \"198.51.100.1\"\n\
                 [[server]]\naddress = \"198.51.100.2\"\n"
            )
        };
        let is_told = |route: &str| {
            let model = config::parse("config.toml", &text(route)).unwrap();
            notes(&model, None).contains(&Note::InertConnect { pool: "p".to_owned() })
        };
        assert!(is_told(""));
        assert!(!is_told("[[route]]\npath = \"/a\"\npool = \"p\"\n"));
    }

    #[test]
    fn a_route_that_one_listener_still_reaches_is_not_told() {
        let first = "[[route]]\nlistener = \"a\"\npool = \"default\"\n";
        let second = "[[route]]\npath = \"/x\"\npool = \"default\"\n";
        assert_eq!(of_routes(&format!("{first}{second}")), [""; 0]);
        let other = first.replace("\"a\"", "\"b\"");
        assert_eq!(of_routes(&format!("{first}{other}{second}")).len(), 1);
    }
}

//! `[pool.sticky]` by cookie: the client brings what says which server it was given.
//!
//! The cookie names the server by a keyed hash, so that it tells nobody an address, and the time at
//! which it was given. It is between the client and us: no server sees it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use deston_common::hash::{self, Seed, siphash13};
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Request};

use super::hashed::cookie;
use crate::live::Server;
use crate::model::StickyCookie;

/// Sets the identifiers of cookies apart from other hashes of addresses.
const COOKIES: u64 = 0x636f_6f6b_6965;

/// What a client's cookie says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    server: u64,
    /// In seconds since 1970.
    given: u64,
}

/// The stickiness of one request.
pub(super) struct Stickiness {
    settings: StickyCookie,
    seed: Seed,
    now: u64,
    told: Option<Told>,
    /// The client's connection is under TLS.
    secure: bool,
}

impl Stickiness {
    /// Reads the cookie and takes it out of the request.
    pub(super) fn read<B>(
        settings: &StickyCookie,
        seed: Seed,
        secure: bool,
        request: &mut Request<B>,
    ) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        let told = cookie(request.headers(), &settings.name).and_then(parse);
        // One that has outlived its time, or comes from the future, is none.
        let ttl = settings.ttl.as_secs();
        let told = told.filter(|told| told.given <= now && now - told.given <= ttl);
        remove(request.headers_mut(), &settings.name);
        Self { settings: settings.clone(), seed, now, told, secure }
    }

    /// The one of `servers` that the client was given.
    pub(super) fn server(&self, servers: &[Arc<Server>]) -> Option<Arc<Server>> {
        let told = self.told?;
        servers.iter().find(|server| self.name(server) == told.server).cloned()
    }

    /// Tells the client its server, unless it knows and does not forget soon.
    pub(super) fn tell(&self, server: &Server, response: &mut HeaderMap) {
        let server = self.name(server);
        let half = self.settings.ttl.as_secs() / 2;
        let is_fresh = |told: Told| told.server == server && self.now - told.given <= half;
        if self.told.is_some_and(is_fresh) {
            return;
        }
        let (name, ttl) = (&self.settings.name, self.settings.ttl.as_secs());
        let secure = if self.secure { "; Secure" } else { "" };
        let now = self.now;
        let text = format!(
            "{name}={server:016x}{now:x}; Path=/; Max-Age={ttl}; HttpOnly; SameSite=Lax{secure}"
        );
        // Names are tokens, and the rest is ASCII.
        if let Ok(value) = HeaderValue::try_from(text) {
            response.append(SET_COOKIE, value);
        }
    }

    fn name(&self, server: &Server) -> u64 {
        siphash13(self.seed, hash::server(self.seed, server.address()), COOKIES)
    }
}

fn parse(value: &[u8]) -> Option<Told> {
    let text = std::str::from_utf8(value).ok()?;
    let (server, given) = text.split_at_checked(16)?;
    let hex = |digits| u64::from_str_radix(digits, 16).ok();
    Some(Told { server: hex(server)?, given: hex(given)? })
}

/// Takes a cookie out of the fields that bring it, and fields that bring nothing else.
fn remove(headers: &mut HeaderMap, name: &str) {
    if cookie(headers, name).is_none() {
        return;
    }
    let is_it = |pair: &&[u8]| {
        pair.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.starts_with(b"="))
    };
    let fields: Vec<HeaderValue> = headers.get_all(COOKIE).iter().cloned().collect();
    headers.remove(COOKIE);
    for field in fields {
        let pairs = field.as_bytes().split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let kept: Vec<&[u8]> = pairs.filter(|pair| !is_it(pair) && !pair.is_empty()).collect();
        if let Ok(value) = HeaderValue::from_bytes(&kept.join(&b"; "[..]))
            && !kept.is_empty()
        {
            headers.append(COOKIE, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use deston_common::server::ServerId;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn servers() -> Vec<Arc<Server>> {
        (1..=3)
            .map(|id| {
                let address = SocketAddr::from(([192, 0, 2, 1], id));
                Arc::new(Server::new(ServerId(id), "s".to_owned(), address, 1))
            })
            .collect()
    }

    fn at(now: u64, told: Option<Told>) -> Stickiness {
        let settings = StickyCookie { name: "id".to_owned(), ttl: Duration::from_secs(100) };
        Stickiness { settings, seed: Seed::from_text("test"), now, told, secure: false }
    }

    /// The cookie that a client is told, as it brings it.
    fn cookie_of(stickiness: &Stickiness, server: &Server) -> Option<String> {
        let mut headers = HeaderMap::new();
        stickiness.tell(server, &mut headers);
        let text = headers.get(SET_COOKIE)?.to_str().unwrap();
        text.split(';').next()?.strip_prefix("id=").map(str::to_owned)
    }

    #[test]
    fn a_client_that_brings_its_cookie_gets_its_server() {
        let servers = servers();
        for server in &servers {
            let brought = cookie_of(&at(NOW, None), server).unwrap();
            let told = parse(brought.as_bytes());
            let found = at(NOW + 9, told).server(&servers).unwrap();
            assert_eq!(found.id(), server.id());
            assert!(at(NOW, told).server(&[]).is_none(), "it is gone");
        }
        assert!(at(NOW, None).server(&servers).is_none());
    }

    #[test]
    fn a_cookie_is_given_anew_when_half_its_time_is_over_or_the_server_is_another() {
        let servers = servers();
        let told = parse(cookie_of(&at(NOW, None), &servers[0]).unwrap().as_bytes());
        assert_eq!(cookie_of(&at(NOW + 50, told), &servers[0]), None);
        assert!(cookie_of(&at(NOW + 51, told), &servers[0]).is_some());
        assert!(cookie_of(&at(NOW, told), &servers[1]).is_some());
    }

    #[test]
    fn a_cookie_tells_no_address_and_no_script() {
        let mut headers = HeaderMap::new();
        let stickiness = Stickiness { secure: true, ..at(0x6b49_d200, None) };
        stickiness.tell(&servers()[0], &mut headers);
        let text = headers[SET_COOKIE].to_str().unwrap();
        let (value, attributes) = text.split_once("; ").unwrap();
        assert_eq!(attributes, "Path=/; Max-Age=100; HttpOnly; SameSite=Lax; Secure");
        assert!(value.starts_with("id=") && value.ends_with("6b49d200"), "{value}");
        let other = Seed::from_text("other");
        assert_ne!(
            Stickiness { seed: other, ..at(0, None) }.name(&servers()[0]),
            at(0, None).name(&servers()[0])
        );
    }

    #[test]
    fn what_is_no_cookie_of_ours_is_none() {
        for value in ["", "1", "0123456789abcdef", "x123456789abcdef12", "0123456789abcdefx"] {
            assert_eq!(parse(value.as_bytes()), None, "{value}");
        }
    }

    #[test]
    fn an_expired_cookie_is_none() {
        let settings = StickyCookie { name: "id".to_owned(), ttl: Duration::from_secs(100) };
        let read = |given: &str| {
            let field = format!("id=0123456789abcdef{given}");
            let mut request = Request::get("/").header(COOKIE, field).body(()).unwrap();
            Stickiness::read(&settings, Seed::default(), false, &mut request).told
        };
        assert_eq!(read("1"), None, "of 1970");
        assert_eq!(read("ffffffffffff"), None, "of the future");
    }

    #[test]
    fn the_cookie_is_taken_out_and_nothing_else() {
        let cases: [(&[&str], &[&str]); 4] = [
            (&["id=1"], &[]),
            (&["a=b; id=1; c=d"], &["a=b; c=d"]),
            (&["id=1;id=2", "idx=3;xid=4"], &["idx=3; xid=4"]),
            (&["a=b;c=d"], &["a=b;c=d"]),
        ];
        for (before, after) in cases {
            let mut headers = HeaderMap::new();
            for field in before {
                headers.append(COOKIE, field.parse().unwrap());
            }
            remove(&mut headers, "id");
            let left: Vec<&str> =
                headers.get_all(COOKIE).iter().map(|field| field.to_str().unwrap()).collect();
            assert_eq!(left, after, "{before:?}");
        }
    }
}

//! Configurations with more than one listener.

use std::fmt::Write as _;
use std::net::SocketAddr;

use deston::datapath::Hook;

/// A configuration in the making.
#[derive(Clone, Default)]
pub struct Config {
    listeners: String,
    pools: String,
    servers: String,
    rest: String,
}

impl Config {
    /// Without anything.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a listener at a hook, served by the pool of the same name. `keys` are lines.
    pub fn listener(mut self, name: &str, hook: Hook, address: SocketAddr, keys: &str) -> Self {
        let datapath = match hook {
            Hook::Xdp => "xdp",
            Hook::Tc => "tc",
        };
        let (ip, port) = (address.ip(), address.port());
        let _ = writeln!(
            self.listeners,
            "[[listener]]\nname = \"{name}\"\npool = \"{name}\"\naddress = \"{ip}\"\nport = {port}\n\
             datapath = \"{datapath}\"\n{keys}"
        );
        self
    }

    /// With a pool; its servers have the numbers of their places.
    pub fn pool(mut self, name: &str, keys: &str, servers: &[SocketAddr]) -> Self {
        let _ = writeln!(self.pools, "[[pool]]\nname = \"{name}\"\n{keys}");
        servers.iter().fold(self, |config, server| config.server(name, *server, ""))
    }

    /// With one more server of a pool. `keys` are lines.
    pub fn server(mut self, pool: &str, address: SocketAddr, keys: &str) -> Self {
        let (ip, port) = (address.ip(), address.port());
        let _ = writeln!(
            self.servers,
            "[[server]]\npool = \"{pool}\"\naddress = \"{ip}\"\nport = {port}\n{keys}"
        );
        self
    }

    /// With more sections.
    pub fn section(mut self, text: &str) -> Self {
        let _ = writeln!(self.rest, "{text}");
        self
    }

    /// The file.
    pub fn text(&self) -> String {
        [self.listeners.as_str(), &self.pools, &self.servers, &self.rest].concat()
    }
}

//! `deston check`: validate, start nothing.

use std::collections::BTreeSet;
use std::path::Path;

use deston::config;
use deston::control::host_ports;
use deston::model::{self, DatapathChoice, Layer, Listener, Model};

use super::{INVALID, OK, complain_of, say};

/// Validates the file and says what is in it, or what running it needs.
pub(crate) fn check(path: &Path, needs: bool) -> u8 {
    match config::load(path) {
        Ok(model) if needs => say(privileges(&model)),
        Ok(model) => {
            say(&format!("{}: valid: {}", path.display(), summary(&model)));
            for note in model::notes(&model, host_ports().as_ref()) {
                say(&format!("note: {note}"));
            }
        }
        Err(report) => {
            complain_of(&report);
            return INVALID;
        }
    }
    OK
}

/// `root` if a listener cannot be had without; `auto` makes do wherever userspace can serve.
fn privileges(model: &Model) -> &'static str {
    let kernel = |listener: &Listener| match listener.datapath() {
        DatapathChoice::Xdp | DatapathChoice::Tc => true,
        DatapathChoice::Auto => listener.needs_kernel().is_some(),
        DatapathChoice::Userspace => false,
    };
    if model.listeners.iter().any(|listener| kernel(listener)) { "root" } else { "user" }
}

fn summary(model: &Model) -> String {
    let servers = model.pools.iter().map(|pool| pool.servers.len()).sum();
    let mut counts = vec![
        count(model.listeners.len(), "listener"),
        count(model.pools.len(), "pool"),
        count(servers, "server"),
    ];
    let routes = routes(model);
    if routes > 0 {
        counts.push(count(routes, "route"));
    }
    counts.join(", ")
}

/// A route of several listeners is one.
fn routes(model: &Model) -> usize {
    let places = model.listeners.iter().flat_map(|listener| match &listener.layer {
        Layer::L4(_) => [].as_slice(),
        Layer::L7(l7) => &l7.routes,
    });
    places.map(|route| route.place).collect::<BTreeSet<_>>().len()
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(text: &str) -> Model {
        config::parse("config.toml", text).unwrap()
    }

    #[test]
    fn what_only_the_kernel_can_do_needs_root() {
        let xdp = "[load_balancer]\naddress = \"192.0.2.1\"\ndatapath = \"xdp\"\n[[server]]\n\
                   address = \"198.51.100.1\"";
        assert_eq!(privileges(&model(xdp)), "root");
        assert_eq!(privileges(&model("[load_balancer]\ndatapath = \"auto\"\n[[server]]")), "user");
        assert_eq!(privileges(&model("[load_balancer]\nlayer = \"L7\"\n[[server]]")), "user");
        assert_eq!(privileges(&model("[load_balancer]\ndatapath = \"tc\"\n[[server]]")), "root");
        let dnat = "[load_balancer]\nforwarding = \"dnat\"\n[[server]]";
        assert_eq!(privileges(&model(dnat)), "root");
    }

    #[test]
    fn the_summary_counts_what_there_is() {
        let text = "[[server]]\nport = 1\n[[server]]\nport = 2";
        assert_eq!(summary(&model(text)), "1 listener, 1 pool, 2 servers");
        let listener = |name: &str, port: u16| {
            format!("[[listener]]\nname = \"{name}\"\nport = {port}\nlayer = \"L7\"\n")
        };
        let routes = "[[route]]\npath = \"/a\"\nrespond = {}\n";
        let text = format!("{}{}{routes}[[server]]", listener("a", 1), listener("b", 2));
        assert_eq!(summary(&model(&text)), "2 listeners, 1 pool, 1 server, 1 route");
    }
}

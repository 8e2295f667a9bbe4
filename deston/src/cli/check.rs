//! `deston check`: validate, start nothing.

use std::path::Path;

use deston::config;
use deston::control::host_ports;
use deston::model::{self, DatapathChoice, Listener, Model};

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
    let counts = [
        count(model.listeners.len(), "listener"),
        count(model.pools.len(), "pool"),
        count(servers, "server"),
    ];
    counts.join(", ")
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
    }
}

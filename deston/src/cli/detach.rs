//! `deston detach`: take an instance out of the kernel, with or without its process.

use std::path::Path;

use deston::datapath::{PinError, Removed, instances, remove_instance};

use super::instance::Instance;
use super::{FAILED, OK, complain, say};

/// Takes away all that is pinned for an instance, and says what that was.
pub(crate) fn detach(config: &Path, instance: Instance, force: bool) -> u8 {
    let is_named = instance.is_named();
    let name = match instance.name(config) {
        Ok(name) => name,
        Err(code) => return code,
    };
    match remove_instance(&name, force) {
        Ok(Some(removed)) => {
            say(&told(&name, &removed));
            OK
        }
        // Who names an instance means one that there is.
        Ok(None) if is_named => {
            complain(&format!("instance `{name}`: nothing is there{}", others()));
            FAILED
        }
        Ok(None) => {
            say(&format!("instance `{name}`: nothing is there{}", others()));
            OK
        }
        Err(PinError::Held(_)) => {
            complain(&format!(
                "instance `{name}`: a deston holds it; stop that, or give `--force` to take away \
                 what it uses"
            ));
            FAILED
        }
        Err(error) => {
            complain(&format!("instance `{name}`: {error}"));
            FAILED
        }
    }
}

fn told(name: &str, removed: &Removed) -> String {
    let mut lines: Vec<String> =
        removed.links.iter().map(|link| format!("detached: {link}")).collect();
    lines.push(format!("instance `{name}`: removed, with {} maps", removed.maps));
    lines.join("\n")
}

/// The instances that there are, for somebody who meant one of them.
fn others() -> String {
    match instances() {
        Ok(names) if !names.is_empty() => format!(" (there are: {})", names.join(", ")),
        Ok(_) | Err(_) => String::new(),
    }
}

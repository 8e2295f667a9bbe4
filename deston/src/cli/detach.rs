//! `deston detach`: take an instance out of the kernel, with or without its process.

use std::path::Path;

use deston::config;
use deston::datapath::{PinError, Removed, instances, remove_instance};

use super::{FAILED, INVALID, OK, complain, complain_of, say};

/// The instance of a configuration that names none.
const DEFAULT: &str = "default";

/// Takes away all that is pinned for an instance, and says what that was.
pub(crate) fn detach(config: &Path, instance: Option<String>, force: bool) -> u8 {
    let name = match instance {
        Some(name) => name,
        None if !config.exists() => DEFAULT.to_owned(),
        None => match config::load(config) {
            Ok(model) => model.kernel.instance,
            Err(report) => {
                complain_of(&report);
                complain("`--instance NAME` does without the file");
                return INVALID;
            }
        },
    };
    match remove_instance(&name, force) {
        Ok(Some(removed)) => {
            say(&told(&name, &removed));
            OK
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

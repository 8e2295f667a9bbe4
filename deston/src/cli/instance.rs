//! Which instance a command is about.

use std::path::Path;

use deston::config;

use super::{INVALID, complain, complain_of};

/// The instance of a configuration that names none.
const DEFAULT: &str = "default";

/// `--instance`, of every command that has it.
#[derive(Debug, clap::Args)]
pub(crate) struct Instance {
    /// Which [default: that of the configuration file, or `default` if there is no file]
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,
}

impl Instance {
    /// Whether the user has named it.
    pub(crate) fn is_named(&self) -> bool {
        self.instance.is_some()
    }

    /// The instance that is meant, or the exit code.
    pub(crate) fn name(self, config: &Path) -> Result<String, u8> {
        match self.instance {
            Some(name) => Ok(name),
            None if !config.exists() => Ok(DEFAULT.to_owned()),
            None => match config::load(config) {
                Ok(model) => Ok(model.kernel.instance),
                Err(report) => {
                    complain_of(&report);
                    complain("`--instance NAME` does without the file");
                    Err(INVALID)
                }
            },
        }
    }
}

//! Where the workspace is, which files belong to it, and which binaries it builds.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};

use crate::command;

/// The repository's root folder.
pub(crate) fn root() -> PathBuf {
    // Cargo sets the variable for a program it runs; the built-in value serves one run by hand.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Every file under `root`, as sorted paths relative to it, build output and version control left
/// out.
pub(crate) fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(root.join(&folder))
            .with_context(|| format!("reading {}", root.join(&folder).display()))?;
        for entry in entries {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            let kind = entry.file_type()?;
            if kind.is_dir() && !is_left_out(&path) {
                folders.push(path);
            } else if kind.is_file() && path != Path::new(".git") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn is_left_out(folder: &Path) -> bool {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    name == ".git" || name == "target" || name.starts_with("target-")
}

/// Copies the workspace's files to another folder.
pub(crate) fn copy(root: &Path, to: &Path) -> Result<()> {
    for file in files(root)? {
        let target = to.join(&file);
        if let Some(folder) = target.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::copy(root.join(&file), &target)
            .with_context(|| format!("copying {}", file.display()))?;
    }
    Ok(())
}

/// How the host's crates are built.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    Dev,
    Release,
}

/// Builds the `deston` binary and returns its path, wherever cargo is told to put it.
pub(crate) fn build_deston(profile: Profile) -> Result<PathBuf> {
    let mut arguments = vec!["build", "--locked", "--package", "deston", "--bin", "deston"];
    if profile == Profile::Release {
        arguments.push("--release");
    }
    build(&arguments, "deston")
}

/// Builds files of specifications and returns each name with the path of its test program.
pub(crate) fn build_specs(names: &[String]) -> Result<Vec<(String, PathBuf)>> {
    // The packages that running the tests selects, so that both build the same.
    let mut arguments = vec!["test", "--workspace", "--exclude", "deston-ebpf", "--locked"];
    arguments.push("--no-run");
    arguments.extend(names.iter().flat_map(|name| ["--test", name]));
    let messages = messages(&arguments)?;
    let found = |name: &String| {
        let path = executable(&messages, name)
            .with_context(|| format!("cargo built no test program `{name}`"))?;
        Ok((name.clone(), path))
    };
    names.iter().map(found).collect()
}

fn build(arguments: &[&str], name: &str) -> Result<PathBuf> {
    executable(&messages(arguments)?, name)
        .with_context(|| format!("cargo built no program `{name}`"))
}

/// Runs cargo and returns its JSON messages.
fn messages(arguments: &[&str]) -> Result<String> {
    let mut build = command::cargo();
    build.current_dir(root()).args(arguments).arg("--message-format=json-render-diagnostics");
    let line = command::line(&build);
    let output = build
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("starting `{line}`"))?;
    if !output.status.success() {
        bail!("`{line}` ended with {}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The path of a binary in cargo's JSON messages.
fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_is_read_from_cargos_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"serde"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"deston"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"deston"},"executable":"/t/deston"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages, "deston"), Some(PathBuf::from("/t/deston")));
        assert_eq!(executable(messages, "serde"), None);
    }

    #[test]
    fn the_workspace_has_its_own_sources_among_its_files() {
        let files = files(&root()).unwrap();
        assert!(files.contains(&PathBuf::from("xtask/src/workspace.rs")));
        assert!(!files.iter().any(|file| file.starts_with("target")));
    }
}

//! What the checked-in object was built from, so that a stale one is noticed without a toolchain.
//!
//! Two hashes stand beside the object: of everything that goes into it (sources, manifests, the
//! lock entries of its dependencies, tool versions and flags), and of the object itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};
use toml::{Table, Value};

use super::{DIGEST, OBJECT, recipe};
use crate::{toolchain, workspace};

/// The crates whose sources go into the object.
const CRATES: [&str; 2] = ["deston-common", "deston-ebpf"];

/// The contents of the digest file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Digest {
    inputs: String,
    object: String,
}

impl Digest {
    /// The digest of an object built from the tree at `root`.
    pub(crate) fn of(root: &Path, object: &[u8]) -> Result<Self> {
        Ok(Self { inputs: hash(&inputs(root)?), object: hex(&Sha256::digest(object)) })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "inputs sha256:{}\nobject sha256:{}", self.inputs, self.object)
    }
}

/// Fails unless the digest file names the sources and the object that are here.
pub(crate) fn verify(root: &Path) -> Result<()> {
    const REMEDY: &str = "run `cargo xtask ebpf` and commit the result";
    let read = |file: &str| {
        std::fs::read(root.join(file)).with_context(|| format!("reading {file}; {REMEDY}"))
    };
    let written = String::from_utf8_lossy(&read(DIGEST)?).into_owned();
    let Digest { inputs, object } = Digest::of(root, &read(OBJECT)?)?;
    if !written.lines().any(|line| line == format!("inputs sha256:{inputs}")) {
        bail!("{OBJECT} is stale: its sources changed since it was built; {REMEDY}");
    }
    if !written.lines().any(|line| line == format!("object sha256:{object}")) {
        bail!("{OBJECT} is not the object that {DIGEST} names; {REMEDY}");
    }
    Ok(())
}

/// Everything that goes into the object, by name.
fn inputs(root: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut inputs = BTreeMap::new();
    for name in CRATES {
        for file in workspace::files(&root.join(name))? {
            if file.starts_with("src") || file == Path::new("Cargo.toml") {
                let path = Path::new(name).join(file);
                let bytes = std::fs::read(root.join(&path))?;
                inputs.insert(path.display().to_string(), bytes);
            }
        }
    }
    let workspace = table(root, "Cargo.toml")?;
    let dependencies = CRATES
        .iter()
        .map(|name| Ok(required_dependencies(&table(root, &format!("{name}/Cargo.toml"))?)))
        .collect::<Result<Vec<_>>>()?
        .concat();
    for dependency in &dependencies {
        let declared = &workspace["workspace"]["dependencies"];
        insert(&mut inputs, format!("declared {dependency}"), declared.get(dependency));
    }
    insert(&mut inputs, "package".into(), workspace["workspace"].get("package"));
    insert(&mut inputs, "profile".into(), workspace.get("profile").and_then(|p| p.get("release")));
    for (name, package) in locked(&table(root, "Cargo.lock")?, &dependencies)? {
        inputs.insert(format!("locked {name}"), package.into_bytes());
    }
    let tools = format!("rustc {} bpf-linker {}", toolchain::RUSTC, toolchain::BPF_LINKER);
    inputs.insert("tools".into(), tools.into_bytes());
    inputs
        .insert("flags".into(), [recipe::FLAGS, &[recipe::TARGET]].concat().join(" ").into_bytes());
    Ok(inputs)
}

fn insert(inputs: &mut BTreeMap<String, Vec<u8>>, name: String, value: Option<&Value>) {
    inputs.insert(name, value.map(Value::to_string).unwrap_or_default().into_bytes());
}

fn table(root: &Path, file: &str) -> Result<Table> {
    let text =
        std::fs::read_to_string(root.join(file)).with_context(|| format!("reading {file}"))?;
    text.parse().with_context(|| format!("reading {file}"))
}

/// The names of a manifest's normal dependencies that no feature switches.
fn required_dependencies(manifest: &Table) -> Vec<String> {
    let dependencies = manifest.get("dependencies").and_then(Value::as_table);
    dependencies
        .into_iter()
        .flatten()
        .filter(|(_, value)| value.get("optional").and_then(Value::as_bool) != Some(true))
        .map(|(name, _)| name.clone())
        .collect()
}

/// The registry packages that `roots` lead to in a lock file, each with its version and checksum.
fn locked(lock: &Table, roots: &[String]) -> Result<BTreeMap<String, String>> {
    let packages = lock.get("package").and_then(Value::as_array).context("no packages locked")?;
    let text = |package: &Value, key: &str| {
        package.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let mut seen = BTreeSet::new();
    let mut found = BTreeMap::new();
    let mut wanted: Vec<String> = roots.to_vec();
    while let Some(want) = wanted.pop() {
        if !seen.insert(want.clone()) {
            continue;
        }
        // "name", or "name version" where a lock file has several versions.
        let mut words = want.split_whitespace();
        let (name, version) = (words.next().unwrap_or_default(), words.next());
        for package in packages.iter().filter(|package| {
            text(package, "name") == name
                && version.is_none_or(|version| text(package, "version") == version)
                // A crate of the workspace has no checksum; its manifest named its dependencies.
                && package.get("checksum").is_some()
        }) {
            let version = text(package, "version");
            found.insert(format!("{name} {version}"), text(package, "checksum"));
            let dependencies = package.get("dependencies").and_then(Value::as_array);
            let dependencies = dependencies.into_iter().flatten().filter_map(Value::as_str);
            wanted.extend(dependencies.map(str::to_owned));
        }
    }
    Ok(found)
}

/// Names and lengths are hashed too, so that no two sets of inputs read alike.
fn hash(inputs: &BTreeMap<String, Vec<u8>>) -> String {
    let mut hasher = Sha256::new();
    for (name, bytes) in inputs {
        hasher.update(format!("{name}\n{}\n", bytes.len()));
        hasher.update(bytes);
    }
    hex(&hasher.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(file: &str, old: &str, new: &str) -> (String, String) {
        let folder = tempfile::tempdir().unwrap();
        workspace::copy(&workspace::root(), folder.path()).unwrap();
        let before = hash(&inputs(folder.path()).unwrap());
        let path = folder.path().join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(old), "{file} has no {old}");
        std::fs::write(path, text.replace(old, new)).unwrap();
        (before, hash(&inputs(folder.path()).unwrap()))
    }

    #[test]
    fn a_changed_source_changes_the_digest() {
        let (before, after) = changed("deston-common/src/lib.rs", "no_std", "no_core");
        assert_ne!(before, after);
    }

    #[test]
    fn a_changed_dependency_changes_the_digest() {
        let lock = std::fs::read_to_string(workspace::root().join("Cargo.lock")).unwrap();
        let entry = lock.split("[[package]]").find(|e| e.contains("\"aya-ebpf\"\n")).unwrap();
        let checksum = entry.lines().find(|line| line.starts_with("checksum")).unwrap();
        let (before, after) = changed("Cargo.lock", checksum, "checksum = \"0\"");
        assert_ne!(before, after);
    }

    #[test]
    fn crates_of_userspace_leave_the_digest_alone() {
        let (before, after) = changed("deston/Cargo.toml", "config file", "file");
        assert_eq!(before, after);
        let (before, after) = changed("Cargo.toml", "tracing = ", "trace = ");
        assert_eq!(before, after);
    }

    #[test]
    fn the_inputs_name_both_crates_and_the_locked_packages() {
        let inputs = inputs(&workspace::root()).unwrap();
        assert!(inputs.contains_key("deston-ebpf/src/main.rs"));
        assert!(inputs.contains_key("deston-common/src/hash.rs"));
        assert!(inputs.keys().any(|name| name.starts_with("locked aya-ebpf-bindings ")));
        assert!(!inputs.keys().any(|name| name.starts_with("locked tokio ")));
    }

    #[test]
    fn another_object_has_another_digest() {
        let root = workspace::root();
        assert_ne!(Digest::of(&root, b"one").unwrap(), Digest::of(&root, b"other").unwrap());
    }
}

//! Who may depend on whom: the crate graph that docs/architecture.md draws, proved by cargo.

use anyhow::{Result, bail};

use crate::{command, workspace};

/// What a crate must not reach by normal dependencies with default features.
const FORBIDDEN: &[(&str, &[&str])] = &[
    // The shared crate is the kernel's too: nothing but core.
    ("deston-common", &["aya", "tokio"]),
    ("deston-ebpf", &["aya", "deston", "tokio"]),
    ("deston", &["aya-ebpf", "deston-ebpf", "deston-tests"]),
    // xtask judges the product from outside.
    ("xtask", &["deston", "deston-common", "deston-ebpf", "deston-tests"]),
];

/// Fails with every dependency that breaks the graph.
pub(crate) fn check() -> Result<()> {
    let mut broken = Vec::new();
    for (package, forbidden) in FORBIDDEN {
        let mut tree = command::cargo();
        tree.current_dir(workspace::root()).args(["tree", "--locked", "--package", package]);
        tree.args(["--edges", "normal", "--prefix", "none"]);
        let tree = command::text(&mut tree)?;
        let reached = reached(&tree, forbidden);
        broken.extend(reached.map(|dependency| format!("{package} depends on {dependency}")));
    }
    if !broken.is_empty() {
        bail!("{}: see docs/architecture.md for the crate graph", broken.join(", "));
    }
    Ok(())
}

/// The forbidden names in a flat tree, whose first line is the crate itself.
fn reached<'a>(tree: &'a str, forbidden: &'a [&str]) -> impl Iterator<Item = &'a str> {
    let names = tree.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    let names: std::collections::BTreeSet<_> = names.collect();
    names.into_iter().filter(|name| forbidden.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forbidden_dependency_is_found_by_its_whole_name() {
        let tree = "deston-common v0.1.0 (/d)\naya v0.14.0\n  aya-obj v0.3.0\naya v0.14.0 (*)\n";
        assert_eq!(reached(tree, &["aya", "tokio"]).collect::<Vec<_>>(), ["aya"]);
        assert_eq!(reached(tree, &["obj", "deston-common"]).count(), 0);
    }
}

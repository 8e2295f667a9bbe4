//! Which test files belong to which ring: told by their names, never by a list.

use std::path::Path;

use anyhow::Result;

use crate::workspace;

/// What a ring asks of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    Nothing,
    Root,
}

/// A set of tests that run alike.
#[derive(Debug)]
pub(crate) struct Ring {
    pub(crate) name: &'static str,
    pub(crate) needs: Needs,
    /// The arguments of each run of `cargo test`; none when the ring has no files.
    pub(crate) runs: Vec<Vec<String>>,
}

impl Ring {
    /// The test files that are named, without `.rs`.
    pub(crate) fn files(&self) -> impl Iterator<Item = &str> {
        let pairs = self.runs.iter().flat_map(|run| run.iter().zip(run.iter().skip(1)));
        pairs.filter(|(option, _)| *option == "--test").map(|(_, name)| name.as_str())
    }
}

/// The crate whose test files are specifications, sorted into rings by prefix.
const SPECIFICATIONS: &str = "tests/tests";

/// The rings of the tree at `root`, in the order in which they run: the quickest answer first.
pub(crate) fn discover(root: &Path) -> Result<Vec<Ring>> {
    let files = workspace::files(root)?;
    let mut unit = vec!["--lib".to_owned(), "--bins".to_owned()];
    let [mut kernel, mut lab, mut proxy] = [const { Vec::<String>::new() }; 3];
    for file in files.iter().filter(|file| is_test(file)) {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let targets = match name.split('_').next() {
            _ if !file.starts_with(SPECIFICATIONS) => &mut unit,
            Some("kernel") => &mut kernel,
            Some("lab") => &mut lab,
            Some("proxy") => &mut proxy,
            _ => &mut unit,
        };
        targets.extend(["--test".to_owned(), name.into_owned()]);
    }
    let once = |targets: Vec<String>| if targets.is_empty() { vec![] } else { vec![targets] };
    // Namespaces, addresses and kernel programs are the machine's: one test at a time.
    let alone = |mut targets: Vec<String>| {
        if !targets.is_empty() {
            // What they measure, such as the verifier's work, is worth reading when they pass too.
            targets.extend(["--", "--test-threads=1", "--show-output"].map(str::to_owned));
        }
        once(targets)
    };
    Ok(vec![
        Ring { name: "unit", needs: Needs::Nothing, runs: vec![unit, vec!["--doc".to_owned()]] },
        Ring { name: "proxy", needs: Needs::Nothing, runs: once(proxy) },
        Ring { name: "kernel", needs: Needs::Root, runs: alone(kernel) },
        Ring { name: "lab", needs: Needs::Root, runs: alone(lab) },
    ])
}

/// `CRATE/tests/NAME.rs` is a test of its own; files in deeper folders are modules of one.
fn is_test(file: &Path) -> bool {
    let parts: Vec<_> = file.components().collect();
    parts.len() == 3
        && parts[1].as_os_str() == "tests"
        && file.extension().is_some_and(|extension| extension == "rs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_sorted_into_rings_by_prefix() {
        let tree = tempfile::tempdir().unwrap();
        let files = [
            "tests/tests/kernel_forward.rs",
            "tests/tests/lab_tcp.rs",
            "tests/tests/proxy_retry.rs",
            "tests/tests/pure.rs",
            "tests/tests/common/mod.rs",
            "deston/tests/check.rs",
            "deston/src/lib.rs",
        ];
        for file in files {
            let path = tree.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let rings = discover(tree.path()).unwrap();
        let runs = |name| {
            let ring = rings.iter().find(|ring| ring.name == name).unwrap();
            ring.runs.iter().map(|run| run.join(" ")).collect::<Vec<_>>()
        };
        assert_eq!(runs("unit"), ["--lib --bins --test check --test pure", "--doc"]);
        assert_eq!(runs("proxy"), ["--test proxy_retry"]);
        assert_eq!(runs("kernel"), ["--test kernel_forward -- --test-threads=1 --show-output"]);
        assert_eq!(runs("lab"), ["--test lab_tcp -- --test-threads=1 --show-output"]);
        let files = |ring: &Ring| ring.files().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(files(&rings[0]), ["check", "pure"]);
        assert_eq!(files(&rings[2]), ["kernel_forward"]);
    }

    #[test]
    fn a_ring_without_files_has_no_run() {
        let rings = discover(tempfile::tempdir().unwrap().path()).unwrap();
        assert!(rings.iter().filter(|ring| ring.name != "unit").all(|ring| ring.runs.is_empty()));
    }
}

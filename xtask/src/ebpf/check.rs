//! The proof that the checked-in object is what its sources give: build elsewhere and compare.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::{OBJECT, recipe};
use crate::toolchain::Toolchain;
use crate::workspace;

/// How the checked-in object compares with one built from the same tree.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    /// Byte for byte the same.
    Same { bytes: usize },
    /// Not the same, from this offset on; the sizes of both.
    Different { offset: usize, committed: usize, rebuilt: usize },
}

/// Builds a copy of the tree at `root` in another folder and compares.
pub(crate) fn rebuild(root: &Path, toolchain: &Toolchain) -> Result<Comparison> {
    let committed = std::fs::read(root.join(OBJECT))
        .with_context(|| format!("reading {OBJECT}; `cargo xtask ebpf` makes it"))?;
    let elsewhere = tempfile::tempdir().context("making a folder for the copy")?;
    let copy = elsewhere.path().join("tree");
    workspace::copy(root, &copy)?;
    let rebuilt = recipe::build(&copy, &elsewhere.path().join("output"), toolchain)?;
    Ok(compare(&committed, &rebuilt))
}

fn compare(committed: &[u8], rebuilt: &[u8]) -> Comparison {
    if committed == rebuilt {
        return Comparison::Same { bytes: committed.len() };
    }
    let offset = committed.iter().zip(rebuilt).take_while(|(one, other)| one == other).count();
    Comparison::Different { offset, committed: committed.len(), rebuilt: rebuilt.len() }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::ebpf::digest;

    /// A constant of the client hash, which selection in the kernel uses.
    const SOURCE: &str = "deston-common/src/hash.rs";
    const CONSTANT: (&str, &str) = ("0x736f_6d65_7073_6575", "0x736f_6d65_7073_6574");

    /// The toolchain and the object, or a skip that is seen: it fails where the kernel rings are
    /// required, and is written past the test runner's capture elsewhere.
    fn prerequisites(test: &str) -> Option<Toolchain> {
        let reason = match Toolchain::complete() {
            Ok(toolchain) if workspace::root().join(OBJECT).is_file() => return Some(toolchain),
            Ok(_) => format!("there is no {OBJECT}"),
            Err(error) => error.to_string(),
        };
        assert!(!crate::test::kernel_is_required(), "{reason}");
        writeln!(std::io::stderr(), "skipped {test}: {reason}").unwrap();
        None
    }

    #[test]
    fn a_changed_source_fails_the_check() {
        let Some(toolchain) = prerequisites("a_changed_source_fails_the_check") else { return };
        let folder = tempfile::tempdir().unwrap();
        workspace::copy(&workspace::root(), folder.path()).unwrap();
        let file = folder.path().join(SOURCE);
        let source = std::fs::read_to_string(&file).unwrap();
        let (old, new) = CONSTANT;
        assert!(source.contains(old), "{SOURCE} has no {old}: choose another constant");
        std::fs::write(&file, source.replace(old, new)).unwrap();

        let comparison = rebuild(folder.path(), &toolchain).unwrap();

        assert!(matches!(comparison, Comparison::Different { .. }), "{comparison:?}");
        assert!(digest::verify(folder.path()).is_err());
    }

    #[test]
    fn the_first_difference_is_reported() {
        assert_eq!(compare(b"abc", b"abc"), Comparison::Same { bytes: 3 });
        let different = Comparison::Different { offset: 1, committed: 3, rebuilt: 3 };
        assert_eq!(compare(b"abc", b"aXc"), different);
        let shorter = Comparison::Different { offset: 2, committed: 3, rebuilt: 2 };
        assert_eq!(compare(b"abc", b"ab"), shorter);
    }
}

//! Kernel modules that the machines load at boot, with what they depend on.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::kernels::Kernel;
use crate::command;

/// Modules for specs that make interfaces and attach to them, and for tunnels' far ends; a kernel that has one built in, or
/// none of that name, goes without.
const WANTED: [&str; 5] = ["veth", "sch_ingress", "cls_bpf", "ipip", "ip6_tunnel"];

/// Names the modules of a kernel in the order in which to load them.
pub(super) const ORDER: &str = "order";

/// Copies the modules to `folder`, ready to load, and their order.
pub(super) fn copy(kernel: &Kernel, folder: &Path) -> Result<()> {
    let list = kernel.modules.join("modules.order");
    let list = std::fs::read_to_string(&list)
        .with_context(|| format!("reading {}, the list of modules", list.display()))?;
    let files = files(&kernel.modules, &list);
    let wanted = WANTED.into_iter().filter(|name| files.contains_key(*name));
    let order = in_order(wanted, |name| {
        let file = files.get(name).with_context(|| format!("there is no module {name}"))?;
        let depends = command::text(command::of("modinfo", ["-F", "depends"]).arg(file))?;
        Ok(depends.trim().split(',').filter(|name| !name.is_empty()).map(normal).collect())
    })?;
    std::fs::create_dir_all(folder)?;
    for name in &order {
        let file = files.get(name).with_context(|| format!("there is no module {name}"))?;
        plain(file, &folder.join(format!("{name}.ko")))?;
    }
    std::fs::write(folder.join(ORDER), order.join("\n") + "\n")?;
    Ok(())
}

/// Where each module of `modules.order` is; it may be compressed, which the list does not say.
fn files(modules: &Path, list: &str) -> BTreeMap<String, PathBuf> {
    list.lines()
        .filter_map(|line| {
            let name = line.rsplit('/').next()?.strip_suffix(".ko")?;
            let file = ["", ".xz"]
                .map(|suffix| modules.join(format!("{line}{suffix}")))
                .into_iter()
                .find(|file| file.is_file())?;
            Some((normal(name), file))
        })
        .collect()
}

/// A file may be named with dashes where everything else says underscores.
fn normal(name: &str) -> String {
    name.replace('-', "_")
}

/// Every module after those that it depends on, each once.
fn in_order<'a>(
    wanted: impl Iterator<Item = &'a str>,
    depends: impl Fn(&str) -> Result<Vec<String>>,
) -> Result<Vec<String>> {
    fn add(
        name: &str,
        order: &mut Vec<String>,
        depth: usize,
        depends: &impl Fn(&str) -> Result<Vec<String>>,
    ) -> Result<()> {
        if depth > 32 {
            bail!("module {name} depends on itself");
        }
        for dependency in depends(name)? {
            add(&dependency, order, depth + 1, depends)?;
        }
        if !order.iter().any(|known| known == name) {
            order.push(name.to_owned());
        }
        Ok(())
    }
    let mut order = Vec::new();
    for name in wanted {
        add(name, &mut order, 0, &depends)?;
    }
    Ok(order)
}

/// Copies a module uncompressed, so that loading it asks nothing of the kernel or of busybox.
fn plain(from: &Path, to: &Path) -> Result<()> {
    if from.extension().is_some_and(|extension| extension == "xz") {
        let out = File::create(to).with_context(|| format!("creating {}", to.display()))?;
        return command::run(command::of("xz", ["--decompress", "--stdout"]).arg(from).stdout(out));
    }
    std::fs::copy(from, to).with_context(|| format!("copying {}", from.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_comes_after_what_it_depends_on_and_once() {
        let order = in_order(["ipip", "sit", "veth"].into_iter(), |name| {
            Ok(match name {
                "ipip" | "sit" => vec!["ip_tunnel".to_owned(), "tunnel4".to_owned()],
                "tunnel4" => vec!["ip_tunnel".to_owned()],
                _ => vec![],
            })
        });
        assert_eq!(order.unwrap(), ["ip_tunnel", "tunnel4", "ipip", "sit", "veth"]);
    }

    #[test]
    fn modules_that_wait_for_each_other_are_an_error() {
        let error = in_order(["a"].into_iter(), |_| Ok(vec!["a".to_owned()])).unwrap_err();
        assert!(error.to_string().contains("depends on itself"), "{error}");
    }

    #[test]
    fn a_module_is_found_plain_or_compressed_and_under_one_name() {
        let folder = tempfile::tempdir().unwrap();
        for file in ["veth.ko.xz", "act-bpf.ko"] {
            std::fs::write(folder.path().join(file), "").unwrap();
        }
        let files = files(folder.path(), "veth.ko\nact-bpf.ko\ngone.ko\n");
        assert_eq!(files.keys().collect::<Vec<_>>(), ["act_bpf", "veth"]);
        assert!(files["veth"].ends_with("veth.ko.xz"));
    }
}

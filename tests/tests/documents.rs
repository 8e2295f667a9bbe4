//! What documents and specs say is there.

use std::path::{Path, PathBuf};

use deston_common::outcome::Outcome;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The `module::name` pairs that a document sets in code type.
fn paths(document: &str) -> Vec<(String, String)> {
    let is_name = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let code = document.split('`').skip(1).step_by(2);
    code.filter_map(|code| code.split_once("::"))
        .filter(|(module, name)| is_name(module) && is_name(name))
        .map(|(module, name)| (module.to_owned(), name.to_owned()))
        .collect()
}

/// The text of all files of a module, or of the files that have a type of its name.
fn module(folder: &Path, name: &str, text: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            let inside = if stem == name { "" } else { name };
            module(&path, inside, text);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let source = std::fs::read_to_string(&path).unwrap();
            let has_type = ["struct", "enum", "trait"]
                .iter()
                .any(|kind| source.contains(&format!("{kind} {name}")));
            if stem == name || name.is_empty() || has_type {
                text.push_str(&source);
            }
        }
    }
}

#[test]
fn the_names_in_the_lives_of_packet_and_request_are_in_the_code() {
    for (document, folders) in [
        ("docs/life-of-a-packet.md", ["deston-ebpf/src", "deston-common/src"].as_slice()),
        ("docs/life-of-a-request.md", ["deston/src"].as_slice()),
    ] {
        let paths = paths(&std::fs::read_to_string(root().join(document)).unwrap());
        assert!(paths.len() > 8, "{document} names {} places", paths.len());
        for (name, item) in paths {
            let mut text = String::new();
            folders.iter().for_each(|folder| module(&root().join(folder), &name, &mut text));
            let is_there = ["fn ", "struct ", "enum ", "mod ", "trait ", "const ", "pub "]
                .iter()
                .any(|before| {
                    text.match_indices(&format!("{before}{item}")).any(|(at, found)| {
                        let next = text[at + found.len()..].chars().next();
                        !next.is_some_and(|c| c.is_alphanumeric() || c == '_')
                    })
                });
            assert!(is_there, "{document}: `{name}::{item}` is not in the code");
        }
    }
}

#[test]
fn the_kernel_ring_names_every_outcome() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut specs = 0;
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("kernel_")) {
            text.push_str(&std::fs::read_to_string(path).unwrap());
            specs += 1;
        }
    }
    assert!(specs > 20, "{specs} files");
    for outcome in Outcome::ALL {
        let name = format!("Outcome::{outcome:?}");
        let named = text.match_indices(&name).any(|(at, found)| {
            let next = text[at + found.len()..].chars().next();
            !next.is_some_and(char::is_alphanumeric)
        });
        assert!(named, "no spec expects {name}");
    }
}

#[test]
fn the_kernel_ring_has_at_least_150_cases() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut cases = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("kernel_")) {
            cases += std::fs::read_to_string(path).unwrap().matches("#[test]").count();
        }
    }
    assert!(cases >= 150, "{cases} cases");
    println!("{cases} cases, most of them at both hooks and in both families");
}

//! Every requirement on HTTP has a test that names it: a line with ids alone, such as `/// F1, F3`,
//! stands above the test's function.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What is required: framing, heads, hosts and targets, methods, fields that proxies own, expectations
/// and early responses, upgrades, HTTP/2, TLS.
const REQUIRED: [&str; 35] = [
    "F1", "F2", "F3", "F4", "F5", "F6", "F7", "F8", "F9", "S1", "S2", "S3", "S4", "S5", "H1", "H2",
    "H3", "H4", "M1", "M2", "M3", "P1", "P2", "P3", "P4", "E1", "E2", "E3", "U1", "U2", "V1", "V2",
    "V3", "T1", "T2",
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

/// The ids of a line that holds nothing else.
fn ids(line: &str) -> Option<Vec<&str>> {
    let ids: Vec<&str> = line.trim().strip_prefix("/// ")?.split(", ").collect();
    let is_id = |id: &&str| {
        let mut chars = id.chars();
        chars.next().is_some_and(|c| c.is_ascii_uppercase())
            && chars.next().is_some_and(|c| c.is_ascii_digit())
            && chars.next().is_none()
    };
    ids.iter().all(is_id).then_some(ids)
}

/// The name of the test below a line: a function with its attributes, or a line of a macro that
/// makes one.
fn test<'a>(below: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut is_test = false;
    for line in below.map(str::trim) {
        if line.starts_with("#[tokio::test") || line == "#[test]" {
            is_test = true;
        } else if let Some((before, name)) = line.split_once("fn ") {
            let name = name.split('(').next()?;
            return (is_test && matches!(before, "" | "async ")).then_some(name);
        } else if let Some((name, rest)) = line.split_once(": ")
            && rest.contains(" [")
        {
            return Some(name);
        } else if !line.starts_with("#[") && !line.starts_with("///") {
            return None;
        }
    }
    None
}

#[test]
fn every_requirement_on_http_has_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    sources(&root.join("tests/tests"), &mut files);
    sources(&root.join("deston/src/proxy"), &mut files);
    files.sort();
    let mut tests: BTreeMap<&str, Vec<String>> =
        REQUIRED.iter().map(|id| (*id, Vec::new())).collect();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let Some(ids) = ids(line) else { continue };
            let name = test(lines[at + 1..].iter().copied());
            let place = format!("{}:{}", file.display(), at + 1);
            let name = name.unwrap_or_else(|| panic!("{place}: no test below {line:?}"));
            for id in ids {
                let of = tests.get_mut(id);
                of.unwrap_or_else(|| panic!("{place}: nothing requires {id}"))
                    .push(name.to_owned());
            }
        }
    }
    for (id, tests) in &tests {
        println!("{id}: {}", tests.join(", "));
    }
    let untested: Vec<&&str> =
        tests.iter().filter(|(_, tests)| tests.is_empty()).map(|(id, _)| id).collect();
    assert!(untested.is_empty(), "no test has {untested:?}");
}

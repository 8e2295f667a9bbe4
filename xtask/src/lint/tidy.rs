//! What no other tool checks: headers, left-over notes, aya's place, file length, links.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::workspace;

/// A longer file says why, or is split.
const MAX_LINES: usize = 600;
/// How a longer file says why.
const LONG_BECAUSE: &str = "// tidy: long because ";
/// Words that stand for work not done; assembled, so that this file does not contain them.
const LEFT_OVER: [&str; 4] =
    [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("to", "do!("), concat!("#[ig", "nore")];
/// Where the kernel library may be named: one facade, the marker trait of shared types, the programs
/// that measure, which the product does not know, and the lab that has somebody else's program.
const AYA: [&str; 4] = [
    "deston/src/datapath/",
    "deston-common/src/lib.rs",
    "tests/src/bin/packets/",
    "tests/src/lab/foreign.rs",
];

/// Fails with every finding in the tree at `root`.
pub(crate) fn check(root: &Path) -> Result<()> {
    let files = workspace::files(root)?;
    let mut findings = Vec::new();
    let mut texts = 0;
    for file in files.iter().filter(|file| is_text(file)) {
        let text = std::fs::read_to_string(root.join(file))
            .with_context(|| format!("reading {}", file.display()))?;
        texts += 1;
        let found = whitespace(&text).into_iter().chain(match extension(file) {
            "rs" => source(file, &text),
            "md" => links(&root.join(file), &text),
            _ => Vec::new(),
        });
        findings.extend(found.map(|finding| format!("{}{finding}", file.display())));
    }
    if texts == 0 || !files.iter().any(|file| extension(file) == "rs") {
        bail!("found no files to check in {}", root.display());
    }
    if !findings.is_empty() {
        bail!("{} findings\n  {}", findings.len(), findings.join("\n  "));
    }
    Ok(())
}

fn extension(file: &Path) -> &str {
    file.extension().and_then(|extension| extension.to_str()).unwrap_or_default()
}

fn is_text(file: &Path) -> bool {
    ["rs", "md", "toml", "yml", "lock", "sh", "digest"].contains(&extension(file))
        || file == Path::new(".ci/run")
}

/// Findings start with what follows the file's name: `:line: what is wrong`.
fn whitespace(text: &str) -> Vec<String> {
    let mut findings: Vec<_> = numbered(text)
        .filter(|(_, line)| line.ends_with([' ', '\t', '\r']))
        .map(|(number, _)| format!(":{number}: trailing whitespace"))
        .collect();
    if !text.is_empty() && !text.ends_with('\n') {
        findings.push(": no newline at the end".to_owned());
    }
    findings
}

fn source(file: &Path, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    if !text.starts_with("//!") {
        findings.push(": a module starts with `//!` and what it is".to_owned());
    }
    let lines = text.lines().count();
    if lines > MAX_LINES && !text.lines().any(|line| line.starts_with(LONG_BECAUSE)) {
        findings.push(format!(
            ": {lines} lines, at most {MAX_LINES}; split it, or say `{LONG_BECAUSE}...`"
        ));
    }
    let may_name_aya = AYA.iter().any(|place| file.starts_with(place));
    for (number, line) in numbered(text) {
        if let Some(word) = LEFT_OVER.iter().find(|word| line.contains(*word)) {
            findings.push(format!(":{number}: `{word}`: finish it or file an issue"));
        }
        let is_comment = line.trim_start().starts_with("//");
        if !may_name_aya && !is_comment && names_aya(line) {
            findings.push(format!(":{number}: aya is used under deston/src/datapath/ alone"));
        }
    }
    findings
}

/// Whether a line uses the crate `aya`, and not one whose name merely contains that word.
fn names_aya(line: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices("aya").any(|(start, found)| {
        let (before, after) = (&line[..start], &line[start + found.len()..]);
        !before.ends_with(word)
            && (after.starts_with("::") || before.trim_start() == "use ")
            && !after.starts_with(word)
    })
}

/// Relative links of a Markdown file that lead nowhere.
fn links(file: &Path, text: &str) -> Vec<String> {
    let folder = file.parent().unwrap_or(Path::new(""));
    let mut findings = Vec::new();
    let mut in_code = false;
    for (number, line) in numbered(text) {
        in_code ^= line.trim_start().starts_with("```");
        let targets =
            line.split("](").skip(1).filter_map(|rest| rest.split([')', '#', ' ']).next());
        for target in targets.filter(|target| !in_code && !target.is_empty()) {
            if !target.contains(':') && !normal(&folder.join(target)).exists() {
                findings.push(format!(":{number}: link to {target}, which does not exist"));
            }
        }
    }
    findings
}

/// The path with `..` resolved by name, as a web page's links are.
fn normal(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut normal, component| {
        if component == Component::ParentDir {
            normal.pop();
        } else {
            normal.push(component);
        }
        normal
    })
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split_terminator('\n').enumerate().map(|(index, line)| (index + 1, line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn finds(file: &str, text: &str, expected: &[&str]) {
        let findings = source(Path::new(file), text);
        assert_eq!(findings.len(), expected.len(), "{findings:?}");
        for (finding, expected) in findings.iter().zip(expected) {
            assert!(finding.contains(expected), "{finding}");
        }
    }

    #[test]
    fn a_module_needs_a_header() {
        finds("deston/src/model.rs", "//! The model.\n", &[]);
        finds("deston/src/model.rs", "fn main() {}\n", &["starts with `//!`"]);
    }

    #[test]
    fn left_over_notes_are_found() {
        for word in LEFT_OVER {
            finds("deston/src/model.rs", &format!("//! A.\n// {word} later\n"), &[":2: "]);
        }
    }

    #[test]
    fn aya_is_named_in_its_place_alone() {
        let uses = concat!("//! A.\nuse ay", "a::Pod;\n");
        finds("deston/src/datapath/loader.rs", uses, &[]);
        finds("deston-common/src/lib.rs", uses, &[]);
        finds("deston/src/control.rs", uses, &[":2: "]);
        finds("tests/src/lib.rs", concat!("//! A.\nlet x = ay", "a::Ebpf::load(b);\n"), &[":2: "]);
        finds("deston-ebpf/src/main.rs", "//! A.\nuse aya_ebpf::programs::XdpContext;\n", &[]);
        finds("deston/src/control.rs", concat!("//! A.\n// see ay", "a::Ebpf\n"), &[]);
    }

    #[test]
    fn a_long_file_gives_its_reason() {
        let long = format!("//! A.\n{}", "// line\n".repeat(MAX_LINES));
        finds("deston/src/model.rs", &long, &["split it"]);
        finds("deston/src/model.rs", &format!("{long}{LONG_BECAUSE}one table\n"), &[]);
    }

    #[test]
    fn whitespace_at_line_ends_is_found() {
        assert_eq!(whitespace("a\nb \n"), [":2: trailing whitespace"]);
        assert_eq!(whitespace("a\r\n"), [":1: trailing whitespace"]);
        assert_eq!(whitespace("a"), [": no newline at the end"]);
        assert!(whitespace("a\n").is_empty());
    }

    #[test]
    fn links_lead_to_files() {
        let here = workspace::root().join("docs/lexicon.md");
        assert!(links(&here, "[a](lexicon.md#one) [b](../README.md) [c](https://x)\n").len() <= 1);
        assert!(links(&here, "```\n[a](missing.md)\n```\n").is_empty());
        assert_eq!(links(&here, "[a](lexicon.md) [b](gone.md)\n").len(), 1);
    }

    #[test]
    fn an_empty_tree_is_not_tidy() {
        assert!(check(tempfile::tempdir().unwrap().path()).is_err());
    }

    #[test]
    fn findings_name_file_and_line() {
        let tree = tempfile::tempdir().unwrap();
        std::fs::write(tree.path().join("lib.rs"), "//! A.\nfn a() {} \n").unwrap();
        let error = check(tree.path()).unwrap_err().to_string();
        assert!(error.contains("lib.rs:2: trailing whitespace"), "{error}");
    }
}

//! Every outcome that a packet can have is named by a spec of the kernel ring.

use std::path::Path;

use deston_common::outcome::Outcome;

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

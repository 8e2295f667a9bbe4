//! The version of what is in the maps: two builds of one version can use each other's.

/// The version. It goes up with every change that makes a build read entries otherwise than the
/// build before wrote them.
pub(super) const LAYOUT: u32 = 1;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use deston_common::hash::{Seed, siphash13};

    /// What [`definitions`] had as its digest when `LAYOUT` was last set.
    const DIGEST: u64 = 0x3ba1_ee3f_9203_d260;

    /// Every line of deston-common that says what an entry looks like or what its numbers mean, and
    /// every line that defines a map.
    fn definitions() -> String {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let common = workspace.join("deston-common/src");
        let mut files: Vec<_> =
            fs::read_dir(common).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let mut found = String::new();
        for file in files {
            let is_limits = file.ends_with("limits.rs");
            let mut is_inside = false;
            for line in fs::read_to_string(file).unwrap().lines().map(str::trim_end) {
                let code = line.trim();
                is_inside |= code.starts_with("#[repr(");
                let is_number = code.starts_with("pub const ")
                    && !code.contains(" fn ")
                    && (!is_limits || code.starts_with("pub const MAX_"));
                if (is_inside || is_number) && !code.starts_with("//") {
                    found.push_str(code);
                }
                is_inside &= line != "}" && !line.ends_with(");");
            }
        }
        let maps = fs::read_to_string(workspace.join("deston-ebpf/src/maps.rs")).unwrap();
        let is_definition = |line: &&str| line.contains("pub(crate)") || line.starts_with("    ");
        found.extend(maps.lines().filter(is_definition));
        found
    }

    #[test]
    fn a_change_of_what_is_in_the_maps_is_noticed() {
        let definitions = definitions();
        assert!(definitions.contains("pub next_seq: u32") && definitions.contains("REPLIES6"));
        let digest = siphash13(Seed::from_text(&definitions), 0, 0);
        assert_eq!(
            digest, DIGEST,
            "what is in the maps has changed: raise LAYOUT if a build that reads entries of the \
             build before would misread them, and write {digest:#x} to DIGEST"
        );
    }
}

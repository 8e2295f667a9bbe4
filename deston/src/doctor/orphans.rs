//! Instances whose process is gone: what they have attached goes on, and their maps hold memory.

use super::{Facts, Finding, Kind, Severity};
use crate::datapath;

/// Their names; none where they may not be seen.
pub(super) fn gather(own: &str) -> Vec<String> {
    datapath::orphans(own).unwrap_or_default()
}

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let finding = |name: &String| {
        Finding::command(
            Kind::Orphan,
            Severity::Warning,
            format!(
                "instance `{name}` is in the kernel without its process: what it has attached goes \
                 on, with the listeners and servers of then"
            ),
            format!("deston detach --instance {name}"),
        )
    };
    facts.orphans.iter().map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Mend;
    use super::super::testing::healthy;
    use super::*;

    #[test]
    fn an_instance_without_its_process_is_detached() {
        let mut facts = healthy();
        facts.orphans = vec!["old".to_owned()];
        let found = &judge(&facts)[0];
        assert!(found.told.contains("instance `old`"), "{}", found.told);
        assert_eq!(found.mend, Mend::Command("deston detach --instance old".to_owned()));
    }
}

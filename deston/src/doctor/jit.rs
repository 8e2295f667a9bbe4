//! Whether the kernel translates programs into machine code, or interprets them with every packet.

use super::{Facts, Finding, Kind, Severity};

const KEY: &str = "net.core.bpf_jit_enable";

/// Whether it does; `None` where the setting is not seen: only the first network namespace has it.
pub(super) fn gather() -> Option<bool> {
    let text = std::fs::read_to_string(format!("/proc/sys/{}", KEY.replace('.', "/"))).ok()?;
    is_on(&text)
}

/// 2 is on, with translations in the kernel's log (Documentation/admin-guide/sysctl/net.rst).
fn is_on(text: &str) -> Option<bool> {
    text.trim().parse::<u8>().ok().map(|value| value > 0)
}

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    if facts.jit != Some(false) || facts.site.listeners.is_empty() {
        return Vec::new();
    }
    let told = "the kernel interprets programs with every packet, since its BPF JIT is off; what is \
                loaded already stays so until deston has started anew";
    let command = format!("sysctl -w {KEY}=1");
    vec![Finding::command(Kind::Jit, Severity::Warning, told, command)]
}

#[cfg(test)]
mod tests {
    use super::super::Mend;
    use super::super::testing::healthy;
    use super::*;

    #[test]
    fn programs_that_are_interpreted_are_worth_a_warning() {
        let mut facts = healthy();
        facts.jit = Some(false);
        let command = Mend::Command("sysctl -w net.core.bpf_jit_enable=1".to_owned());
        assert_eq!(judge(&facts)[0].mend, command);
        facts.jit = None;
        assert_eq!(judge(&facts), [], "another namespace than the first cannot tell");
        facts.jit = Some(false);
        facts.site.listeners.clear();
        assert_eq!(judge(&facts), [], "there are no programs");
    }

    #[test]
    fn the_setting_is_a_number() {
        assert_eq!(
            ["0\n", "1\n", "2\n", ""].map(is_on),
            [Some(false), Some(true), Some(true), None]
        );
    }
}

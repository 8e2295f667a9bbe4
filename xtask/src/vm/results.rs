//! What a machine's console says of the specs that ran in it.

use crate::test::tally::Tally;

/// How the first process begins its own lines, each with what follows.
/// The kernel's release.
pub(super) const KERNEL: &str = "vm: kernel ";
/// A spec's name.
pub(super) const BEGIN: &str = "vm: begin ";
/// A spec's name and exit code.
pub(super) const END: &str = "vm: end ";
/// Nothing: every spec has had its turn.
pub(super) const DONE: &str = "vm: done";

/// How specs begin the lines that are wanted here.
const VERIFIED: &str = "verified instructions";
const SKIPPED: &str = "skipped";

/// All that is known of one machine.
#[derive(Debug, Default)]
pub(super) struct Results {
    pub(super) release: Option<String>,
    /// What specs said of the verifier's work.
    pub(super) verified: Vec<String>,
    specs: Vec<Spec>,
    done: bool,
}

/// A file of specs that began to run.
#[derive(Debug, Default)]
struct Spec {
    name: String,
    code: Option<String>,
    tally: Tally,
    skipped: Vec<String>,
}

impl Results {
    /// Reads a console, however much of it there is.
    pub(super) fn read(console: &[u8]) -> Self {
        let mut results = Self::default();
        for line in String::from_utf8_lossy(console).lines() {
            results.add(line.trim());
        }
        results
    }

    fn add(&mut self, line: &str) {
        if let Some(release) = line.strip_prefix(KERNEL) {
            self.release = Some(release.to_owned());
        } else if let Some(name) = line.strip_prefix(BEGIN) {
            self.specs.push(Spec { name: name.to_owned(), ..Spec::default() });
        } else if line == DONE {
            self.done = true;
        } else if line.ends_with(VERIFIED) {
            self.verified.push(line.to_owned());
        } else if let Some(spec) = self.specs.last_mut() {
            if let Some((name, code)) = line.strip_prefix(END).and_then(|end| end.split_once(' ')) {
                if name == spec.name {
                    spec.code = Some(code.to_owned());
                }
            } else if line.starts_with(SKIPPED) {
                spec.skipped.push(line.to_owned());
            } else {
                spec.tally.add(line);
            }
        }
    }

    /// The sum over all specs.
    pub(super) fn tally(&self) -> Tally {
        self.specs.iter().fold(Tally::default(), |sum, spec| Tally {
            passed: sum.passed + spec.tally.passed,
            failed: sum.failed + spec.tally.failed,
            skipped: sum.skipped + spec.tally.skipped + spec.skipped.len(),
        })
    }

    /// Why this is not a success of the specs `expected`.
    pub(super) fn complaints(&self, expected: &[String]) -> Vec<String> {
        let mut complaints: Vec<_> = expected
            .iter()
            .filter(|name| !self.specs.iter().any(|spec| spec.name == **name))
            .map(|name| format!("{name} did not run"))
            .collect();
        complaints.extend(self.specs.iter().flat_map(Spec::complaints));
        if self.verified.is_empty() {
            complaints.push("no spec told the verified instructions".to_owned());
        }
        if !self.done {
            complaints.push("the machine did not come to its end".to_owned());
        }
        complaints
    }
}

impl Spec {
    fn complaints(&self) -> Vec<String> {
        let Self { name, code, tally, skipped } = self;
        let mut complaints = Vec::new();
        match code.as_deref() {
            Some("0") => {}
            // A shell's code for SIGKILL: nothing else there sends it.
            Some("137") => complaints.push(format!("{name} took too long and was killed")),
            Some(code) => {
                complaints.push(format!("{name} ended with {code}, {} failed", tally.failed));
            }
            None => complaints.push(format!("{name} did not end")),
        }
        if tally.passed + tally.failed == 0 {
            complaints.push(format!("{name} ran no test"));
        }
        if tally.skipped > 0 {
            complaints.push(format!("{name} left out {}", tally.skipped));
        }
        complaints.extend(skipped.iter().map(|line| format!("{name}: {line}")));
        complaints
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "vm: kernel 6.1.0-50-cloud-amd64\r
vm: begin kernel_budget\r
running 1 test\r
---- it_fits stdout ----\r
deston_xdp: 1234 verified instructions\r
test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 9s\r
vm: end kernel_budget 0\r
vm: begin kernel_limits\r
test result: ok. 6 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 9s\r
vm: end kernel_limits 0\r
vm: done\r
[   9.1] reboot: Power down\r
";

    fn complaints(console: &str) -> Vec<String> {
        let expected = ["kernel_budget", "kernel_limits"].map(str::to_owned);
        Results::read(console.as_bytes()).complaints(&expected)
    }

    #[test]
    fn a_good_run_is_summed_up_without_complaint() {
        let results = Results::read(GOOD.as_bytes());
        assert_eq!(results.release.as_deref(), Some("6.1.0-50-cloud-amd64"));
        assert_eq!(results.verified, ["deston_xdp: 1234 verified instructions"]);
        assert_eq!(results.tally().to_string(), "7 passed, 0 failed");
        assert_eq!(complaints(GOOD), [""; 0]);
    }

    #[test]
    fn a_failed_spec_is_named_and_counted() {
        let failed = GOOD
            .replace("ok. 6 passed; 0 failed", "FAILED. 4 passed; 2 failed")
            .replace("kernel_limits 0", "kernel_limits 101");
        assert_eq!(complaints(&failed), ["kernel_limits ended with 101, 2 failed"]);
        let tally = Results::read(failed.as_bytes()).tally();
        assert_eq!(tally.to_string(), "5 passed, 2 failed");
    }

    #[test]
    fn what_was_skipped_is_a_complaint() {
        let skipped = GOOD.replace("---- it_fits", "skipped: it_fits needs root\n---- it_fits");
        assert_eq!(complaints(&skipped), ["kernel_budget: skipped: it_fits needs root"]);
        let ignored =
            GOOD.replace("6 passed; 0 failed; 0 ignored", "5 passed; 0 failed; 1 ignored");
        assert_eq!(complaints(&ignored), ["kernel_limits left out 1"]);
    }

    #[test]
    fn a_spec_that_ran_nothing_is_a_complaint() {
        let none = GOOD.replace("6 passed", "0 passed");
        assert_eq!(complaints(&none), ["kernel_limits ran no test"]);
    }

    #[test]
    fn a_spec_that_hangs_is_said_to() {
        let cut = GOOD.find("test result: ok. 6").unwrap();
        let killed = format!("{}vm: end kernel_limits 137\nvm: done\n", &GOOD[..cut]);
        let expected = ["kernel_limits took too long and was killed", "kernel_limits ran no test"];
        assert_eq!(complaints(&killed), expected);
    }

    #[test]
    fn a_machine_that_dies_leaves_its_specs_without_an_end() {
        let cut = GOOD.find("vm: end kernel_budget").unwrap();
        let expected = [
            "kernel_limits did not run",
            "kernel_budget did not end",
            "the machine did not come to its end",
        ];
        assert_eq!(complaints(&GOOD[..cut]), expected);
        assert_eq!(complaints("Kernel panic - not syncing: no init\n").len(), 4);
    }
}

//! Counts tests by reading the runner's closing lines while they stream by.

use std::fmt;
use std::io::{BufRead as _, BufReader, Read, Write};

use anyhow::Result;

/// What became of the tests so far.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

impl Tally {
    /// Passes the runner's output on and adds up what it says.
    pub(crate) fn read(&mut self, output: impl Read, mut terminal: impl Write) -> Result<()> {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        while output.read_until(b'\n', &mut line)? > 0 {
            terminal.write_all(&line)?;
            self.add(&String::from_utf8_lossy(&line));
            line.clear();
        }
        Ok(())
    }

    /// Adds a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
    pub(crate) fn add(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else { return };
        let counts = result.split_once(". ").map_or("", |(_, counts)| counts);
        for part in counts.split(';') {
            let mut words = part.split_whitespace();
            let count = words.next().and_then(|count| count.parse().ok()).unwrap_or(0);
            match words.next() {
                Some("passed") => self.passed += count,
                Some("failed") => self.failed += count,
                Some("ignored") => self.skipped += count,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_of_all_runs_are_added_up() {
        let output = b"test a ... ok
test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s
test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 7 filtered out
";
        let mut tally = Tally::default();
        let mut terminal = Vec::new();
        tally.read(&output[..], &mut terminal).unwrap();
        assert_eq!(terminal, output);
        assert_eq!(tally, Tally { passed: 4, failed: 2, skipped: 1 });
        assert_eq!(tally.to_string(), "4 passed, 2 failed, 1 skipped");
    }

    #[test]
    fn other_lines_count_nothing() {
        let mut tally = Tally::default();
        tally.add("running 3 tests\n");
        tally.add("test 5 passed; ok\n");
        assert_eq!(tally.to_string(), "0 passed, 0 failed");
    }
}

//! Medians and spreads.

/// Values of several rounds.
#[derive(Default)]
pub(crate) struct Rounds(Vec<f64>);

impl Rounds {
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
        self.0.sort_by(f64::total_cmp);
    }

    pub(crate) fn least(&self) -> f64 {
        self.0.first().copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn median(&self) -> f64 {
        self.0.get(self.0.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// `median [min-max]`, rounded.
    pub(crate) fn show(&self) -> String {
        let min = self.least();
        let max = self.0.last().copied().unwrap_or(f64::NAN);
        format!("{:.0} [{min:.0}-{max:.0}]", self.median())
    }
}

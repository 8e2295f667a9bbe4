//! Tables of named cases: the name of the one that fails is printed.

use std::fmt::Display;

use super::Setting;

/// A case at work: says its name if it ends by a panic.
pub struct Row(String);

impl Row {
    /// Begins the case `name`.
    pub fn begin(name: impl Display) -> Self {
        Self(name.to_string())
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the case that failed: {}", self.0);
        }
    }
}

/// Runs `body` on each row and returns how many there were, so that a spec can say how many it has.
pub fn rows<N: Display, T>(
    table: impl IntoIterator<Item = (N, T)>,
    mut body: impl FnMut(T),
) -> usize {
    let mut count = 0;
    for (name, row) in table {
        let _row = Row::begin(name);
        body(row);
        count += 1;
    }
    count
}

/// Runs `body` in each setting.
pub fn each(settings: impl IntoIterator<Item = Setting>, mut body: impl FnMut(Setting)) {
    let settings = settings.into_iter().map(|setting| (setting, setting));
    assert!(rows(settings, &mut body) > 0, "no setting");
}

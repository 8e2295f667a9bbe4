//! Tables of named cases: the name of the one that fails is printed.

use std::fmt::Display;

use super::Setting;
use crate::effort::is_slow_machine;

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

/// Runs `body` in each setting; on a slow machine at one hook for each family.
pub fn each(settings: impl IntoIterator<Item = Setting>, mut body: impl FnMut(Setting)) {
    let chosen =
        |setting: &Setting| !is_slow_machine() || [Setting::XDP4, Setting::TC6].contains(setting);
    let all: Vec<Setting> = settings.into_iter().collect();
    let some: Vec<Setting> = all.iter().copied().filter(chosen).collect();
    let settings = if some.is_empty() { all } else { some };
    let settings = settings.into_iter().map(|setting| (setting, setting));
    assert!(rows(settings, &mut body) > 0, "no setting");
}
